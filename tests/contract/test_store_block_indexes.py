"""An upgraded store finds an order with one filter per 8,192 events, also in rows of the previous release."""

from __future__ import annotations

import asyncio
import re

import pytest

from pipeline.ops.settings import Settings
from pipeline.store.clickhouse_cluster import storage_table
from pipeline.store.pending_mutations import watch_pending_mutations
from pipeline.store.writer import Table
from tests.contract.store_case import upgraded_from
from tests.contract.store_records import MONDAY

ROWS = 100_000
FILL = f"""
INSERT INTO {{table}} (event_id, event_name, created_at, received_at, order_number, shipment_numbers, subscription_id, stock_item_id,
    request_body, source_topic, kafka_partition, kafka_offset)
SELECT toString(number), 'order_completed', at, at, concat('R', toString(number)), [concat('H', toString(number))],
    concat('S', toString(number)), number, '{{{{}}}}', 'oms.orders', 0, number
FROM (SELECT number, toDateTime64('{MONDAY:%F %T}', 3, 'UTC') + toIntervalSecond(number) AS at FROM numbers({ROWS}))
"""
CONDITIONS = (
    "event_id = '70000'",
    "order_number = 'R70000'",
    "hasAny(shipment_numbers, ['H70000'])",
    "subscription_id = 'S70000'",
)


@pytest.mark.slow
async def test_new_indexes_find_the_old_rows_of_an_upgraded_store(store_settings: Settings) -> None:
    """It takes seconds: all migrations run."""
    async with upgraded_from(store_settings, "0039", Table.EVENTS, FILL) as store:
        async with asyncio.timeout(60):
            await watch_pending_mutations(store.connections, lambda: asyncio.sleep(0.05))
        table = storage_table("events", store_settings.clickhouse_cluster)
        indexes = await store.rows(
            f"SELECT name FROM system.data_skipping_indices WHERE database = currentDatabase() AND table = '{table}'"
        )
        assert [name for (name,) in indexes if name.endswith("_bloom")] == ["stock_item_id_bloom"]
        for condition in CONDITIONS:
            plan = await store.rows(f"EXPLAIN indexes = 1 SELECT event_id FROM {table} WHERE {condition}")
            granules = [found for (line,) in plan if (found := re.search(r"Granules: (\d+)/(\d+)", line))]
            read, of = map(int, granules[-1].groups())
            # One block of 32 granules, and perhaps another one by chance, of 391 granules.
            assert read <= 3 * 32 < of, "\n".join(line for (line,) in plan)
            assert await store.rows(f"SELECT event_id FROM {table} WHERE {condition}") == [("70000",)]
