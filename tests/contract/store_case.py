"""A database for one test, and the parts that work on it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.ops.settings import Settings
from pipeline.store.clickhouse_cluster import storage_table
from pipeline.store.connection import Connections, StoreError
from pipeline.store.migrate import bundled_migrations, migrate
from pipeline.store.search.queries import Search
from pipeline.store.writer import Table, Writer
from tests.contract.clickhouse_shim import ShimProcess

PASSWORD = "a-password-that-no-message-shows"
WITHOUT_HTTP_ALONE = pytest.mark.parametrize("store_kind", ["chdb", "cluster"], indirect=True)
"""For tests with very many searches: those in this process use the same tables as ``http``, and those on a cluster use HTTP."""


@dataclass(frozen=True)
class Store:
    """A migrated, empty database, and the parts that work on it."""

    settings: Settings
    connections: Connections
    writer: Writer
    search: Search

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of the test's own statement."""
        result = await self.connections.read(lambda client: client.query(sql).result_rows)
        return [tuple(row) for row in result]

    async def command(self, sql: str) -> None:
        """Run the test's own statement."""
        await self.connections.write(lambda client: client.command(sql))


def http_settings(shim: ShimProcess, database: str = "", **changes: Any) -> Settings:
    """Return settings for a database behind the shim, a new one unless it is named."""
    return Settings(
        clickhouse_url=shim.url,
        clickhouse_password=SecretStr(PASSWORD),
        clickhouse_database=database or f"test_{secrets.token_hex(4)}",
        clickhouse_cluster=shim.cluster,
        **changes,
    )


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Store]:
    """Open a migrated store, and close it afterwards."""
    connections = Connections(settings)
    try:
        await migrate(connections)
        yield Store(settings, connections, Writer(connections), Search(connections))
    finally:
        await connections.close()


@asynccontextmanager
async def upgraded_from(settings: Settings, release: str, table: Table, fill: str) -> AsyncIterator[Store]:
    """Upgrade a store from before a migration (such as ``0017``), filled by ``fill``, whose statements name ``{table}``."""
    connections = Connections(settings)
    try:
        await migrate(connections, {name: sql for name, sql in bundled_migrations().items() if name < release})
        store = Store(settings, connections, Writer(connections), Search(connections))
        stored = storage_table(table.value, settings.clickhouse_cluster)
        await store.command(fill.format(table=stored))
        await store.command(f"OPTIMIZE TABLE {stored} FINAL")
        await migrate(connections)
        yield store
    finally:
        await connections.close()


@asynccontextmanager
async def reopened(store: Store, **changes: Any) -> AsyncIterator[Store]:
    """Open the same database with some other settings."""
    settings = store.settings.model_copy(update=changes)
    connections = Connections(settings)
    try:
        yield Store(settings, connections, Writer(connections), Search(connections))
    finally:
        await connections.close()


async def offsets(store: Store, table: Table = Table.ATTEMPTS, partition: int = 0) -> list[int]:
    """Return the offsets of the stored rows."""
    where = f"WHERE kafka_partition = {partition}"
    return [row[0] for row in await store.rows(f"SELECT kafka_offset FROM {table.value} {where} ORDER BY kafka_offset")]


async def failure(connections: Connections) -> StoreError:
    """Return the error of a query; closes the connections."""
    try:
        with pytest.raises(StoreError) as caught:
            await connections.read(lambda client: client.query("SELECT 1"))
    finally:
        await connections.close()
    return caught.value
