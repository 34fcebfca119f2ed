"""Creates and upgrades the tables: plain SQL files, each applied once, in the order of their names, and recorded.

With the setting ``clickhouse_cluster``, the same files create replicated and sharded tables (see `cluster.py`).
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from pipeline.store.clickhouse_cluster import on_cluster, render, render_everywhere, storage_table
from pipeline.store.comments import comment_all
from pipeline.store.connection import Connections, StoreRejectedError
from pipeline.store.rows import PARTITIONED_BY, Table

_MATERIALIZE: Final = re.compile(
    r"^ALTER TABLE (?P<table>\w+).*?(?P<action>MATERIALIZE (?:INDEX|PROJECTION) \w+)", re.MULTILINE | re.DOTALL
)
_UNDER_WAY: Final = (
    "SELECT 1 FROM system.mutations WHERE database = currentDatabase() AND table = {table:String} AND NOT is_done "
    "AND position(command, {action:String}) > 0 LIMIT 1"
)

# Building an index over a year of rows takes long, so the role starts without waiting. (By default, ClickHouse 26 waits.)
_IN_BACKGROUND: Final[dict[str, Any]] = {"mutations_sync": 0}
# The files of a dropped index are also removed in the background, after all indexes that are being built.
_DROP: Final = re.compile(r"^\s*DROP INDEX", re.MULTILINE)
_WITHOUT_WAITING: Final[dict[str, Any]] = {"alter_sync": 0}

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

_ENGINES: Final = "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()"


def bundled_migrations() -> Migrations:
    files = sorted(resources.files("pipeline.store.migrations").iterdir(), key=lambda file: file.name)
    return {file.name: file.read_text(encoding="utf-8") for file in files if file.name.endswith(".sql")}


async def migrate(connections: Connections, migrations: Migrations | None = None) -> tuple[str, ...]:
    """Bring the database up to date; returns the names of the applied migrations.

    Every statement can be repeated, so processes may start at the same time. Retention is not part of the tables (see
    `retention.py`).

    Raises:
        StoreRejectedError: a migration was edited after it had been applied, or ClickHouse refuses a statement.
        StoreUnavailableError: ClickHouse cannot be reached.
    """
    chosen = bundled_migrations() if migrations is None else migrations
    cluster, database = connections.cluster, connections.database
    await connections.prepare(lambda client: _make_database(client, database, cluster))
    rendered = {name: (_checksum(sql), render(sql, cluster, database)) for name, sql in chosen.items()}
    return await connections.set_up(lambda client: _migrate(client, rendered, cluster))


def _checksum(sql: str) -> str:
    return hashlib.sha256(sql.encode()).hexdigest()


def _make_database(client: Client, database: str, cluster: str) -> None:
    # Check first: a user of the database may lack the right to create one.
    exists = client.query("SELECT 1 FROM system.databases WHERE name = {name:String}", parameters={"name": database})
    if not exists.result_rows:
        # The name has only letters, digits and underscores (settings).
        client.command(f"CREATE DATABASE IF NOT EXISTS {database}{on_cluster(cluster)}")


def _migrate(client: Client, migrations: dict[str, tuple[str, tuple[str, ...]]], cluster: str) -> tuple[str, ...]:
    """``migrations``: name to checksum and statements."""
    engines = _texts(client, _ENGINES)
    _refuse_another_layout(engines, cluster)
    # Check first: a read-only user needs no right to create tables as long as there is nothing to create.
    if "schema_migrations" not in engines:
        client.command(render_everywhere(_RECORD, cluster))
    applied = _texts(client, "SELECT name, checksum FROM schema_migrations")
    names = []
    for name, (checksum, statements) in migrations.items():
        if name not in applied:
            for statement in statements:
                if not _is_under_way(client, statement):
                    settings = _IN_BACKGROUND | (_WITHOUT_WAITING if _DROP.search(statement) else {})
                    client.command(statement, settings=settings)
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
    _remove_ttls(client, cluster)
    comment_all(client, cluster)
    return tuple(names)


def _is_under_way(client: Client, statement: str) -> bool:
    """Whether ClickHouse is already executing this statement: if several processes start at once, an index is built once."""
    match = _MATERIALIZE.search(statement)
    if match is None:
        return False
    try:
        found = client.query(_UNDER_WAY, parameters=match.groupdict()).result_rows
    except DatabaseError:
        # Without the right to look, it is done again: wasteful, but harmless.
        return False
    return bool(found)


def _refuse_another_layout(engines: dict[str, str], cluster: str) -> None:
    """Tables are not moved between the two layouts: no query would find the old rows."""
    is_distributed = engines.get(Table.ATTEMPTS.value, "").startswith("Distributed")
    if Table.ATTEMPTS.value in engines and is_distributed != bool(cluster):
        message = (
            "clickhouse_cluster is set, but the database has tables of a single server"
            if cluster
            else "The database has the tables of a cluster, but clickhouse_cluster is not set"
        )
        raise StoreRejectedError(f"{message}. Set it as it was, or set clickhouse_database to a new database.")


def _remove_ttls(client: Client, cluster: str) -> None:
    """Old weeks are dropped by name (see `retention.py`): ClickHouse must not drop parts by the TTL of an earlier release.

    Without a TTL on the table, the TTLs that parts remember have no effect: nothing is rewritten, and nothing is waited for.
    """
    for name in _tables_with_ttl(client, cluster):
        try:
            client.command(f"ALTER TABLE {name}{on_cluster(cluster)} REMOVE TTL")
        except DatabaseError:
            # Another starting process was first, and there is no TTL left to remove.
            if name in _tables_with_ttl(client, cluster):
                raise


def _tables_with_ttl(client: Client, cluster: str) -> list[str]:
    engines = _texts(client, _ENGINES)
    names = (storage_table(table.value, cluster) for table in PARTITIONED_BY)
    return [name for name in names if " TTL " in engines.get(name, "")]


def _texts(client: Client, query: str) -> dict[str, str]:
    return {str(name): str(text) for name, text in client.query(query).result_rows}
