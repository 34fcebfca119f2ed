"""Translates the migrations for a ClickHouse cluster: pure text to text.

On a cluster, each table of a migration becomes two: ``<name>_local``, replicated within a shard, and ``<name>``, a
``Distributed`` table in front of it, which everything else reads and writes. The sharding key is ``kafka_partition``. So all rows
of a Kafka partition are in one shard: an insert is one part or nothing, and one shard knows how far a partition got (see
`writer.py`). A table without that column is fed by a materialized view, on the shard of its rows, and is only read through its
``Distributed`` table. Views read the ``Distributed`` tables.
"""

from __future__ import annotations

import re
from typing import Final

SHARDING_KEY: Final = "kafka_partition"
TOKEN_SECONDS: Final = 7 * 24 * 3600
"""How long a shard remembers the token of an insert: as long as Kafka keeps records that may be inserted again. ClickHouse's
default is an hour.
"""

# Each server defines the macros <shard> and <replica>. ClickHouse fills in the other two.
_REPLICA: Final = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
# A table that every node has, in any shard.
_EVERYWHERE: Final = "'/clickhouse/tables/all/{database}/{table}', '{shard}-{replica}'"

_TABLE: Final = re.compile(r"^CREATE TABLE IF NOT EXISTS (?P<name>\w+)(?=\s*\()", re.MULTILINE)
_ALTER: Final = re.compile(r"^ALTER TABLE (?P<name>\w+)\s+(?P<actions>.+)", re.MULTILINE | re.DOTALL)
_FEED: Final = re.compile(
    r"^CREATE MATERIALIZED VIEW IF NOT EXISTS (?P<name>\w+) TO (?P<target>\w+) AS(?P<select>.+)", re.MULTILINE | re.DOTALL
)
_FED: Final = re.compile(r"^ALTER TABLE (?P<name>\w+) MODIFY QUERY(?P<select>.+)", re.MULTILINE | re.DOTALL)
_VIEW: Final = re.compile(r"^CREATE (?:OR REPLACE )?VIEW (?:IF NOT EXISTS )?(?P<name>\w+)(?= AS\b)", re.MULTILINE)
_ENGINE: Final = re.compile(r"^ENGINE = (?P<family>\w*MergeTree)(?:\((?P<arguments>[^)]*)\))?", re.MULTILINE)
_WINDOW: Final = re.compile(r"non_replicated_deduplication_window = (\d+)")
_NEXT_ACTION: Final = re.compile(r",\n    (?=\S)")
_COLUMN_ACTION: Final = re.compile(r"(?:ADD|DROP|MODIFY|RENAME|COMMENT) COLUMN\b")


def storage_table(table: str, cluster: str) -> str:
    """The table that holds the rows. Deletes, TTLs and indexes do not work through a ``Distributed`` table."""
    return f"{table}_local" if cluster else table


def on_cluster(cluster: str) -> str:
    """What follows the name in a statement that runs on every node."""
    return f" ON CLUSTER '{cluster}'" if cluster else ""


def render(sql: str, cluster: str, database: str) -> tuple[str, ...]:
    """The statements of a migration: unchanged, or, with a ``cluster``, those for all of its nodes.

    Raises:
        ValueError: the migration has none of the supported forms (see the tests).
    """
    if not cluster:
        return (sql,)
    if match := _TABLE.search(sql):
        local = _replicated(sql.replace(match[0], _create(match["name"], cluster), 1), _REPLICA)
        return local, _distributed(match["name"], sql, cluster, database)
    if match := _FED.search(sql):
        return (f"ALTER TABLE {match['name']}{on_cluster(cluster)} MODIFY QUERY{_of_its_shard(match['select'])}",)
    if match := _ALTER.search(sql):
        return _altered(match["name"], match["actions"], cluster)
    if match := _FEED.search(sql):
        create = f"CREATE MATERIALIZED VIEW IF NOT EXISTS {match['name']}{on_cluster(cluster)} TO {match['target']}_local AS"
        return (create + _of_its_shard(match["select"]),)
    if match := _VIEW.search(sql):
        return (sql.replace(match[0], match[0] + on_cluster(cluster), 1),)
    raise ValueError("a migration is CREATE TABLE, ALTER TABLE, CREATE MATERIALIZED VIEW … TO … or CREATE VIEW")


def render_everywhere(sql: str, cluster: str) -> str:
    """A small table with the same rows on all nodes, and without a ``Distributed`` table (the applied migrations)."""
    match = _TABLE.search(sql)
    if not cluster or match is None:
        return sql
    create = f"CREATE TABLE IF NOT EXISTS {match['name']}{on_cluster(cluster)}"
    return _replicated(sql.replace(match[0], create, 1), _EVERYWHERE)


def _of_its_shard(select: str) -> str:
    return re.sub(r"\bFROM (\w+)", r"FROM \1_local", select)


def _create(name: str, cluster: str) -> str:
    return f"CREATE TABLE IF NOT EXISTS {storage_table(name, cluster)}{on_cluster(cluster)}"


def _replicated(sql: str, place: str) -> str:
    def engine(match: re.Match[str]) -> str:
        arguments = f", {match['arguments']}" if match["arguments"] else ""
        return f"ENGINE = Replicated{match['family']}({place}{arguments})"

    window = rf"replicated_deduplication_window = \1,\n         replicated_deduplication_window_seconds = {TOKEN_SECONDS}"
    return _WINDOW.sub(window, _ENGINE.sub(engine, sql))


def _distributed(name: str, sql: str, cluster: str, database: str) -> str:
    key = f", {SHARDING_KEY}" if re.search(rf"^\s*{SHARDING_KEY}\b", sql, re.MULTILINE) else ""
    local = storage_table(name, cluster)
    return (
        f"CREATE TABLE IF NOT EXISTS {name}{on_cluster(cluster)} AS {local}\n"
        f"ENGINE = Distributed('{cluster}', '{database}', '{local}'{key})"
    )


def _altered(name: str, actions: str, cluster: str) -> tuple[str, ...]:
    """All actions apply to the table that holds the rows. The ``Distributed`` table has only columns, and gets their actions."""
    local = f"ALTER TABLE {storage_table(name, cluster)}{on_cluster(cluster)}\n    {actions}"
    # Migrations indent the first line of an action by four spaces, and its other lines by more.
    columns = [action.strip() for action in _NEXT_ACTION.split(actions) if _COLUMN_ACTION.match(action.strip())]
    if not columns:
        return (local,)
    return local, f"ALTER TABLE {name}{on_cluster(cluster)}\n    " + ",\n    ".join(columns)
