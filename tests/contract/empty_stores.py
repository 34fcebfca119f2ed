"""Databases with all tables and no rows, each for one test.

The migrations take more than a second of CPU, so they run once per ClickHouse. A test's database is created from their result: the
definitions of the tables, and the record of what was applied. ``test_store_migrations`` checks that both are the same.

Creating fifteen tables takes 0.2 s of CPU. So the next test gets the database of the last one, emptied, if its tables are unchanged
and nothing works on them any more.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from pipeline.ops.settings import Settings
from pipeline.store.client_options import at_a_server, for_all, in_process
from pipeline.store.connection import Connections
from pipeline.store.search.queries import Search
from pipeline.store.writer import Writer
from tests.contract.clickhouse_shim import ShimProcess
from tests.contract.store_case import Store, http_settings, opened

DEFINITIONS = """
SELECT create_table_query FROM system.tables WHERE database = {name:String}
ORDER BY multiIf(engine = 'Distributed', 1, engine = 'MaterializedView', 2, engine = 'View', 3, 0), name
"""


APPLIED = "SELECT name, checksum FROM {name}.schema_migrations ORDER BY ALL"
AT_WORK = """
SELECT (SELECT count() FROM system.processes WHERE current_database = {name:String})
     + (SELECT count() FROM system.mutations WHERE database = {name:String} AND NOT is_done)
"""


class EmptyStores:
    """The empty databases of one ClickHouse, in this process or behind a shim."""

    def __init__(self, settings: Settings, template: str = "") -> None:
        """``settings`` say where it is; in this process, nobody else may use the directory.

        ``template`` is a migrated database there; without it, one is created.
        """
        self._settings = settings
        self.template = template
        """The migrated database."""
        self._definitions: list[str] = []
        self._made: dict[str, object] = {}
        """The state of each database when it was created."""
        self._free: list[str] = []
        self._client: Client | None = None

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Store]:
        """Provide a database and the parts that work on it; it is emptied or dropped afterwards."""
        name = self._free.pop() if self._free else await self._make()
        settings = self._settings.model_copy(update={"clickhouse_database": name})
        connections = Connections(settings)
        try:
            yield Store(settings, connections, Writer(connections), Search(connections))
        finally:
            await connections.close()
            await asyncio.to_thread(self._empty, name)

    def close(self) -> None:
        """Close the engine in this process, which opens one directory. The directory's contents stay."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    async def _make(self) -> str:
        if not self.template:
            name = f"template_{secrets.token_hex(4)}"
            async with opened(self._settings.model_copy(update={"clickhouse_database": name})):
                pass
            self.template = name
        return await asyncio.to_thread(self._copy, f"test_{secrets.token_hex(4)}")

    def _copy(self, name: str) -> str:
        client = self._opened()
        if not self._definitions:
            rows = client.query(DEFINITIONS, parameters={"name": self.template}).result_rows
            self._definitions = [str(row[0]) for row in rows]
        client.command(f"CREATE DATABASE {name}")
        for definition in self._definitions:
            client.command(definition.replace(self.template, name))
        client.command(f"INSERT INTO {name}.schema_migrations SELECT * FROM {self.template}.schema_migrations")
        self._made[name] = self._tables(name)
        return name

    def _empty(self, name: str) -> None:
        """Keep the database for the next test, or drop it if it was changed or is still in use."""
        client = self._opened()
        try:
            if self._tables(name) == self._made[name] and not self._at_work(name):
                client.command(f"TRUNCATE ALL TABLES FROM {name} NOT LIKE 'schema_migrations'")
                self._free.append(name)
                return
        except (DatabaseError, FileNotFoundError):
            pass  # the database or one of its tables is gone, or there is no answer
        client.command(f"DROP DATABASE IF EXISTS {name} SYNC")

    def _tables(self, name: str) -> object:
        """Return the definitions of a database's tables, and the migrations applied to it."""
        client = self._opened()
        applied = client.query(APPLIED.format(name=name)).result_rows
        if (path := self._settings.clickhouse_path) is not None:  # takes a tenth of the time
            return sorted((file.name, file.read_text()) for file in (path / "metadata" / name).iterdir()), applied
        return client.query(DEFINITIONS, parameters={"name": name}).result_rows, applied

    def _at_work(self, name: str) -> bool:
        return bool(self._opened().query(AT_WORK, parameters={"name": name}).result_rows[0][0])

    def _opened(self) -> Client:
        """Return a client that stays open, and so keeps the engine in this process open between tests."""
        if self._client is None:
            path = self._settings.clickhouse_path
            where = in_process(path) if path is not None else at_a_server(self._settings, 30)
            self._client = clickhouse_connect.get_client(**where, **for_all(self._settings))
        return self._client


def in_this_process(directory: Path) -> EmptyStores:
    """Provide those of the engine in this process. The directory contains the default database, migrated."""
    settings = Settings(clickhouse_path=directory)
    return EmptyStores(settings, settings.clickhouse_database)


def behind(shim: ShimProcess, template: str = "") -> EmptyStores:
    """Provide those of a shim."""
    return EmptyStores(http_settings(shim), template)
