"""Makes and upgrades the tables: plain SQL files, applied once each, in the order of their names, and recorded."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final

from clickhouse_connect.driver.client import Client

from pipeline.store.connection import Connections, StoreRejectedError
from pipeline.store.rows import PARTITIONED_BY

Migrations = dict[str, str]
"""File name to SQL, in order."""

_RECORD: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    name       String,
    checksum   String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY name
"""


def shipped_migrations() -> Migrations:
    """The migrations of this release."""
    files = sorted(resources.files("pipeline.store.migrations").iterdir(), key=lambda file: file.name)
    return {file.name: file.read_text(encoding="utf-8") for file in files if file.name.endswith(".sql")}


async def migrate(connections: Connections, retention_days: int, migrations: Migrations | None = None) -> tuple[str, ...]:
    """Bring the database up to date; returns the names of what was applied.

    Every statement can be repeated, so that processes may start at the same time. Rows older than ``retention_days`` go, a week's
    partition at a time; a changed number takes effect here.

    Raises:
        StoreRejectedError: a migration was edited after it had been applied, or ClickHouse refuses a statement.
        StoreUnavailableError: ClickHouse cannot be reached.
    """
    chosen = shipped_migrations() if migrations is None else migrations
    await connections.prepare(lambda client: _make_database(client, connections.database))
    return await connections.write(lambda client: _migrate(client, chosen, retention_days))


def _make_database(client: Client, database: str) -> None:
    # Asked first: whoever may use a database need not have the right to make one.
    exists = client.query("SELECT 1 FROM system.databases WHERE name = {name:String}", parameters={"name": database})
    if not exists.result_rows:
        client.command("CREATE DATABASE IF NOT EXISTS {name:Identifier}", parameters={"name": database})


def _migrate(client: Client, migrations: Migrations, retention_days: int) -> tuple[str, ...]:
    client.command(_RECORD)
    applied = _texts(client, "SELECT name, checksum FROM schema_migrations")
    names = []
    for name, sql in migrations.items():
        checksum = hashlib.sha256(sql.encode()).hexdigest()
        if name not in applied:
            client.command(sql)
            client.command(
                "INSERT INTO schema_migrations (name, checksum) SELECT {name:String}, {checksum:String}",
                parameters={"name": name, "checksum": checksum},
                settings={"async_insert": 0},
            )
            names.append(name)
        elif applied[name] != checksum:
            message = (
                f"Migration {name} was edited after it had been applied. Restore the file, and put the change into a new one."
            )
            raise StoreRejectedError(message)
    _keep_for(client, retention_days)
    return tuple(names)


def _keep_for(client: Client, days: int) -> None:
    """Set how long rows are kept, where it is not set so already."""
    engines = _texts(client, "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()")
    for table, column in PARTITIONED_BY.items():
        # The expression as ClickHouse shows it.
        lifetime = f"toDateTime({column}) + toIntervalDay({days})"
        if f"TTL {lifetime}" not in engines.get(table.value, lifetime):
            client.command(f"ALTER TABLE {table.value} MODIFY TTL {lifetime}", settings={"materialize_ttl_after_modify": 0})


def _texts(client: Client, query: str) -> dict[str, str]:
    return {str(name): str(text) for name, text in client.query(query).result_rows}
