"""A past week is merged into one part; the current week is left to ClickHouse."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.store.clickhouse_cluster import storage_table
from pipeline.store.rows import RowPosition, attempt_row
from pipeline.store.writer import Table
from tests.contract.store_case import Store
from tests.contract.store_records import START, attempt, event_rows
from tests.waiting import until


async def parts(store: Store, table: str) -> dict[str, int]:
    """Return the number of parts of each week."""
    query = f"SELECT partition, count() FROM system.parts WHERE database = currentDatabase() AND table = '{table}' AND active GROUP BY 1"
    return dict(await store.rows(query))


@pytest.mark.parametrize("name", ["attempts", "events"])
async def test_closed_weeks_are_merged_after_a_day(store: Store, name: str) -> None:
    table = storage_table(name, store.settings.clickhouse_cluster)
    [(made,)] = await store.rows(f"SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = '{table}'")
    for setting in (
        "min_age_to_force_merge_seconds = 86400",
        "min_age_to_force_merge_on_partition_only = 1",
        "enable_max_bytes_limit_for_min_age_to_force_merge = 1",
    ):
        assert setting in made


@pytest.mark.slow
async def test_older_weeks_become_one_part(store: Store) -> None:
    """It takes seconds: ClickHouse looks for merges every few seconds."""
    table = storage_table("attempts", store.settings.clickhouse_cluster)
    for offset in range(3):
        row = attempt_row(RowPosition(0, offset), attempt(offset, created_at=START + timedelta(minutes=offset)))
        await store.writer.append(Table.ATTEMPTS, 0, [row])
        await store.writer.append(Table.EVENTS, 0, event_rows(range(offset, offset + 1)))
    assert list((await parts(store, table)).values()) == [3]
    await store.command(f"ALTER TABLE {table} MODIFY SETTING min_age_to_force_merge_seconds = 1, merge_selecting_sleep_ms = 200")

    async def is_one_part() -> bool:
        return list((await parts(store, table)).values()) == [1]

    await until(is_one_part)
    assert await store.rows(f"SELECT count() FROM {table}") == [(3,)]
