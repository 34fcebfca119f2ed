"""The migrations, on both engines. Running all of them takes seconds."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.ops.settings import Settings
from pipeline.store.clickhouse_cluster import storage_table
from pipeline.store.connection import Connections, StoreRejectedError
from pipeline.store.migrate import bundled_migrations, migrate
from pipeline.store.rows import COLUMNS
from tests.contract.empty_stores import EmptyStores
from tests.contract.store_case import Store


async def test_applies_each_migration_once(store_settings: Settings) -> None:
    connections = Connections(store_settings)
    try:
        assert await migrate(connections) == tuple(bundled_migrations())
        assert await migrate(connections) == ()
    finally:
        await connections.close()


async def test_columns_match_the_rows(store: Store) -> None:
    # Columns that ClickHouse computes are not written.
    query = """
    SELECT table, name, type FROM system.columns
    WHERE database = currentDatabase() AND default_kind NOT IN ('MATERIALIZED', 'ALIAS') ORDER BY position
    """
    columns: dict[str, dict[str, str]] = {}
    for table, name, kind in await store.rows(query):
        columns.setdefault(table, {})[name] = kind
    assert {table: columns[table.value] for table in COLUMNS} == COLUMNS


async def test_every_table_drops_repeated_inserts_and_none_expires_rows(store: Store) -> None:
    engines = dict(await store.rows("SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()"))
    held = {table.value: engines[storage_table(table.value, store.settings.clickhouse_cluster)] for table in COLUMNS}
    assert all("non_replicated_deduplication_window = 10000" in engine for engine in held.values())
    assert not any("TTL" in engine for engine in held.values())


async def test_the_store_of_a_test_matches_the_migrations(store: Store, stores: EmptyStores) -> None:
    """Tests use databases that are created from definitions."""
    assert await migrate(store.connections) == ()
    definitions = "SELECT create_table_query FROM system.tables WHERE database = '{}' ORDER BY name"
    made, migrated = [
        [text.replace(name, "") for (text,) in await store.rows(definitions.format(name))]
        for name in (store.settings.clickhouse_database, stores.template)
    ]
    assert made == migrated
    assert len(made) > len(COLUMNS)


async def test_an_edited_migration_is_refused(store: Store) -> None:
    edited = {name: f"{sql}-- and more" if name.startswith("0002") else sql for name, sql in bundled_migrations().items()}
    with pytest.raises(StoreRejectedError, match=r"0002_attempts\.sql was edited after it had been applied"):
        await migrate(store.connections, edited)


async def test_a_new_migration_is_applied_to_an_old_database(store: Store) -> None:
    more = {**bundled_migrations(), "9000_more.sql": "ALTER TABLE events ADD COLUMN IF NOT EXISTS more String"}
    assert await migrate(store.connections, more) == ("9000_more.sql",)
    for table in {"events", storage_table("events", store.settings.clickhouse_cluster)}:
        assert ("more",) in await store.rows(
            f"SELECT name FROM system.columns WHERE database = currentDatabase() AND table = '{table}'"
        )


@pytest.mark.slow
@pytest.mark.parametrize("store_kind", ["http", "cluster"], indirect=True)
async def test_the_layout_of_a_database_cannot_change(store: Store) -> None:
    cluster = "" if store.settings.clickhouse_cluster else "webhooks"
    connections = Connections(store.settings.model_copy(update={"clickhouse_cluster": cluster}))
    try:
        with pytest.raises(StoreRejectedError, match="set clickhouse_database to a new database"):
            await migrate(connections)
    finally:
        await connections.close()


@pytest.mark.slow
@pytest.mark.parametrize("store_kind", ["cluster"], indirect=True)
async def test_a_cluster_keeps_rows_behind_distributed_tables(store: Store) -> None:
    query = "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase() AND engine = 'Distributed'"
    database = store.settings.clickhouse_database
    assert dict(await store.rows(query)) == {
        **{table.value: f"Distributed('webhooks', '{database}', '{table.value}_local', kafka_partition)" for table in COLUMNS},
        "attempts_hourly": f"Distributed('webhooks', '{database}', 'attempts_hourly_local')",
    }


@pytest.mark.slow  # all migrations three times; another test covers that each can be repeated
async def test_processes_may_start_at_the_same_time(store_settings: Settings) -> None:
    starters = [Connections(store_settings) for _ in range(3)]
    try:
        await asyncio.gather(*(migrate(connections) for connections in starters))
        assert await migrate(starters[0]) == ()
    finally:
        for connections in starters:
            await connections.close()
