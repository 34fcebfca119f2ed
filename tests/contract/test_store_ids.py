"""A look-up by id reads one block of rows, however unevenly Kafka's partitions advance, before and after the upgrade."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from pipeline.ops.settings import Settings
from pipeline.store.clickhouse_cluster import storage_table
from pipeline.store.connection import Connections
from pipeline.store.migrate import bundled_migrations, migrate
from pipeline.store.pending_mutations import watch_pending_mutations
from pipeline.store.rows import attempt_id
from pipeline.store.writer import Table
from tests.contract.store_case import Store, upgraded_from
from tests.contract.store_records import MONDAY

ROWS = 200_000
# The first 12 of 24 Kafka partitions have a history; every block of rows has low and high ids, as if partitions had been added.
OFFSET = "if(number % 24 < 12, 10000000, 0) + intDiv(number, 24)"
FILL = f"""
INSERT INTO {{table}} (id, event_id, created_at, kafka_partition, kafka_offset, state)
SELECT ({OFFSET}) * 65536 + number % 24 * 64 + 1, toString(number), toDateTime64('{MONDAY:%F %T}', 3, 'UTC') + toIntervalSecond(number), number % 24,
    {OFFSET}, 'succeeded'
FROM numbers({ROWS})
"""
SOME = [attempt_id(n % 24, (10_000_000 if n % 24 < 12 else 0) + n // 24) for n in range(0, ROWS, ROWS // 7)]


@pytest.fixture
async def upgraded(store_settings: Settings) -> AsyncIterator[Store]:
    """Provide a store filled by the previous release, and upgraded."""
    async with upgraded_from(store_settings, "0017", Table.ATTEMPTS, FILL) as store:
        yield store


async def blocks(store: Store, identifier: int) -> int:
    table = storage_table("attempts", store.settings.clickhouse_cluster)
    plan = await store.rows(f"EXPLAIN indexes = 1 SELECT state FROM {table} WHERE id = {identifier}")
    read = [re.search(r"Granules: (\d+)/", line) for (line,) in plan]
    return [int(found[1]) for found in read if found][-1]


@pytest.mark.slow  # new rows are below
async def test_an_upgraded_store_reads_one_block(upgraded: Store) -> None:
    """It takes seconds: all migrations are carried out."""
    async with asyncio.timeout(60):
        await watch_pending_mutations(upgraded.connections, lambda: asyncio.sleep(0.05))
    assert {await blocks(upgraded, identifier) for identifier in SOME} <= {1, 2}
    for identifier in SOME:
        found = await upgraded.rows(f"SELECT id FROM attempts WHERE id = {identifier}")
        assert found == [(identifier,)]


async def test_new_rows_are_read_in_one_block_too(store: Store) -> None:
    table = storage_table("attempts", store.settings.clickhouse_cluster)
    await store.command(FILL.format(table=table))
    await store.command(f"OPTIMIZE TABLE {table} FINAL")
    assert {await blocks(store, identifier) for identifier in SOME} <= {1, 2}


@pytest.mark.slow
async def test_ten_starting_processes_build_the_index_once(store_settings: Settings) -> None:
    """It takes seconds: all migrations run three times."""
    starters = [Connections(store_settings) for _ in range(3)]
    try:
        await migrate(starters[0], {name: sql for name, sql in bundled_migrations().items() if name < "0017"})
        table = storage_table("attempts", store_settings.clickhouse_cluster)
        await starters[0].write(lambda client: client.command(FILL.format(table=table)))
        await starters[0].write(lambda client: client.command(f"SYSTEM STOP MERGES {table}"))
        await migrate(starters[0])
        # The others read the applied migrations before the first one had recorded its own.
        again = {"9000_again.sql": bundled_migrations()["0018_attempts_id_index_of_old_parts.sql"]}
        await migrate(starters[1], {**bundled_migrations(), **again})
        counted = "SELECT count() FROM system.mutations WHERE database = currentDatabase() AND command LIKE '%INDEX id_bloom%'"
        assert await starters[2].read(lambda client: client.query(counted).result_rows) == [(1,)]
        await starters[0].write(lambda client: client.command(f"SYSTEM START MERGES {table}"))
    finally:
        for connections in starters:
            await connections.close()
