"""The same migrations for a ClickHouse cluster: pure text to text.

On a cluster each table of a migration becomes two: ``<name>_local``, replicated within a shard, and ``<name>``, ``Distributed`` in
front of it, which everything else reads and writes. The sharding key is ``kafka_partition``: all rows of a Kafka partition stand
in one shard, so that an insert is one part there or nothing, and one shard knows how far a partition got (see writer).
A table without that column is fed by a materialized view, on the shard that its rows come from, and only read through its
``Distributed``. Views read the latter.
"""

from __future__ import annotations

import re
from typing import Final

SHARDING_KEY: Final = "kafka_partition"
TOKEN_SECONDS: Final = 7 * 24 * 3600
"""How long a shard knows the token of an insert: as long as Kafka keeps what may be inserted again. The default is an hour."""

# Its macros are the servers' own: <macros><shard>, <replica>. The other two are filled in by ClickHouse.
_REPLICA: Final = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
# A table that every node has, whatever its shard.
_EVERYWHERE: Final = "'/clickhouse/tables/all/{database}/{table}', '{shard}-{replica}'"

_TABLE: Final = re.compile(r"^CREATE TABLE IF NOT EXISTS (?P<name>\w+)(?=\s*\()", re.MULTILINE)
_ALTER: Final = re.compile(r"^ALTER TABLE (?P<name>\w+)\s+(?P<actions>.+)", re.MULTILINE | re.DOTALL)
_FEED: Final = re.compile(
    r"^CREATE MATERIALIZED VIEW IF NOT EXISTS (?P<name>\w+) TO (?P<target>\w+) AS(?P<select>.+)", re.MULTILINE | re.DOTALL
)
_VIEW: Final = re.compile(r"^CREATE (?:OR REPLACE )?VIEW (?:IF NOT EXISTS )?(?P<name>\w+)(?= AS\b)", re.MULTILINE)
_ENGINE: Final = re.compile(r"^ENGINE = (?P<family>\w*MergeTree)(?:\((?P<arguments>[^)]*)\))?", re.MULTILINE)
_WINDOW: Final = re.compile(r"non_replicated_deduplication_window = (\d+)")
_NEXT_ACTION: Final = re.compile(r",\n    (?=\S)")
_COLUMN_ACTION: Final = re.compile(r"(?:ADD|DROP|MODIFY|RENAME|COMMENT) COLUMN\b")


def storage_table(table: str, cluster: str) -> str:
    """The table that holds the rows, for what cannot be done through a ``Distributed``: deletes, lifetimes, indexes."""
    return f"{table}_local" if cluster else table


def on_cluster(cluster: str) -> str:
    """What stands behind the name in a statement that is for every node."""
    return f" ON CLUSTER '{cluster}'" if cluster else ""


def render(sql: str, cluster: str, database: str) -> tuple[str, ...]:
    """The statements that a migration means: itself, or, with a ``cluster``, those for all of its nodes.

    Migrations are written in few forms (see the tests); this reads no others.

    Raises:
        ValueError: it has none of these forms.
    """
    if not cluster:
        return (sql,)
    if match := _TABLE.search(sql):
        local = _replicated(sql.replace(match[0], _create(match["name"], cluster), 1), _REPLICA)
        return local, _distributed(match["name"], sql, cluster, database)
    if match := _ALTER.search(sql):
        return _altered(match["name"], match["actions"], cluster)
    if match := _FEED.search(sql):
        select = re.sub(r"\bFROM (\w+)", r"FROM \1_local", match["select"])
        create = f"CREATE MATERIALIZED VIEW IF NOT EXISTS {match['name']}{on_cluster(cluster)} TO {match['target']}_local AS"
        return (create + select,)
    if match := _VIEW.search(sql):
        return (sql.replace(match[0], match[0] + on_cluster(cluster), 1),)
    raise ValueError("a migration is CREATE TABLE, ALTER TABLE, CREATE MATERIALIZED VIEW … TO … or CREATE VIEW")


def render_everywhere(sql: str, cluster: str) -> str:
    """A small table that all nodes have the same rows of, without a ``Distributed``: what was applied."""
    match = _TABLE.search(sql)
    if not cluster or match is None:
        return sql
    create = f"CREATE TABLE IF NOT EXISTS {match['name']}{on_cluster(cluster)}"
    return _replicated(sql.replace(match[0], create, 1), _EVERYWHERE)


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
    """All actions on what holds the rows; those about columns also on what stands in front of it, which has nothing else."""
    local = f"ALTER TABLE {storage_table(name, cluster)}{on_cluster(cluster)}\n    {actions}"
    # Each action begins a line with four blanks, as migrations are written; lines with more go on with it.
    columns = [action.strip() for action in _NEXT_ACTION.split(actions) if _COLUMN_ACTION.match(action.strip())]
    if not columns:
        return (local,)
    return local, f"ALTER TABLE {name}{on_cluster(cluster)}\n    " + ",\n    ".join(columns)
