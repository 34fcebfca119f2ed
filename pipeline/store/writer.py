"""Writes rows exactly once.

Promise 3: every record is in ClickHouse once, even if a recorder dies between insert and commit, an insert fails after it took
effect, or two recorders both believe for a while that they own a partition. How:

* The rows of one Kafka partition are inserted in the order of their offsets; an insert is one part or nothing. So a table always
  holds a partition's records up to some offset, without gaps; ``max(kafka_offset)`` says which.
* The token of an insert is its partition and its **first** offset. ClickHouse drops an insert whose token it knows (table setting
  ``non_replicated_deduplication_window``). Of all inserts that start at the same offset, one takes effect, however long each is.
* ClickHouse knows the last 10,000 tokens of a table. A writer that was frozen (SIGSTOP, a suspended machine) may continue when
  its token has been forgotten. So no insert relies on a position that is older than a minute.
* ClickHouse does not say whether it dropped an insert. So after each insert the writer asks how far the table reaches, and
  continues from there: in the middle of its rows if another writer's shorter insert came first, otherwise after them.

On a cluster, all rows of a Kafka partition are in one shard (see `cluster.py`), and tokens are in Keeper, where all replicas of
the shard see them at once. The rows are not: a replica may lag, and report an end that is too early. The writer then starts
another insert there. Its token is known, so the insert changes nothing, and the writer either learns the true end or waits. It
waits as long as necessary, with the same token: Keeper writes a token and its part together, so no token is without rows.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from clickhouse_connect.driver.client import Client

from pipeline.ops.clock import steady_seconds
from pipeline.store.connection import Connections, StoreRowsError, StoreUnavailableError
from pipeline.store.rows import COLUMNS, Row, Table, weeks

__all__ = ["Row", "Table", "Writer"]

_POSITION_SQL: Final = """
SELECT max(kafka_offset) FROM {table:Identifier} WHERE kafka_partition = {partition:UInt16} GROUP BY kafka_partition
"""

_LAST_SQL: Final = "SELECT count(), max(kafka_offset) FROM {table:Identifier}"
_EXISTS_SQL: Final = "EXISTS TABLE {table:Identifier}"

# One part, immediately, or an error. By default, ClickHouse 26 combines inserts of several clients (async_insert).
_SETTINGS: Final[dict[str, Any]] = {"async_insert": 0, "insert_deduplicate": 1, "wait_end_of_query": 1}

_ON_CLUSTER: Final[dict[str, Any]] = {
    # The insert is finished when the shard has it, not when the contacted node has queued it.
    "distributed_foreground_insert": 1,
    # Shorter than the driver's timeout. An unconfirmed insert is repeated with its token.
    "insert_quorum_timeout": 20_000,
}
_NEAREST: Final[dict[str, Any]] = {
    # The same replica for the insert and the following query, whichever node a load balancer chooses.
    "prefer_localhost_replica": 0,
    "load_balancing": "in_order",
}
_POSITION_SETTINGS: Final[dict[str, Any]] = {
    **_NEAREST,
    # Do not ask a replica that lags so far that tokens may have been forgotten meanwhile.
    "max_replica_delay_for_distributed_queries": 60,
    "fallback_to_stale_replicas_for_distributed_queries": 0,
}

_POSITION_SECONDS: Final = 60.0
"""How long a position may be used: longer than ClickHouse may take to answer, and shorter than the time of 10,000 inserts."""

_Key = tuple[Table, int]


class _Position(NamedTuple):
    """The highest stored offset, -1 if there is none, and when it was asked for."""

    stored: int
    asked_at: float


class Writer:
    """Inserts the recorder's rows into ClickHouse. At most one ``append`` per table and partition at a time."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._on_cluster = bool(connections.cluster)
        self._insert_settings = dict(_SETTINGS)
        if self._on_cluster:
            self._insert_settings |= _ON_CLUSTER | _NEAREST | {"insert_quorum": connections.insert_quorum}
        # Used by the writer's thread only, except that forget() may drop an entry: missing entries are read from ClickHouse.
        self._positions: dict[_Key, _Position] = {}
        self._void_tokens: dict[_Key, tuple[int, int]] = {}

    async def assign(self, table: Table, partition: int) -> int:
        """The offset to continue from: one after the last stored offset, 0 if there is none."""
        return await self._connections.write(lambda client: self._refresh(client, (table, partition))) + 1

    async def last_offset(self, table: Table) -> int | None:
        """The highest offset of any partition; None if nothing is stored, or the tables do not exist."""
        return await self._connections.write(lambda client: _last_offset(client, table))

    def forget(self, table: Table, partition: int) -> None:
        """The partition now belongs to another recorder."""
        self._positions.pop((table, partition), None)

    async def append(self, table: Table, partition: int, rows: Sequence[Row]) -> None:
        """Store rows, in the order of their offsets; rows that are already stored are skipped.

        Raises:
            StoreUnavailableError: some or all of the rows may not be stored. Retry with the same rows.
            StoreLimitError: the same, because so many rows at once are too much for ClickHouse.
            StoreRowsError: ClickHouse refuses a row for good; those before it may be stored.
            StoreRejectedError: ClickHouse refuses the statement, whatever the rows; the tables or the settings are wrong.
        """
        await self._connections.write(lambda client: self._append(client, (table, partition), rows))

    def _append(self, client: Client, key: _Key, rows: Sequence[Row]) -> None:
        position = self._positions.pop(key, None)
        of_week = weeks(key[0], rows)
        begin = 0
        while True:
            # Even if this process was frozen while it asked, or just after.
            while position is None or steady_seconds() - position.asked_at > _POSITION_SECONDS:
                position = self._position(client, key)
            while begin < len(rows) and rows[begin][-1] <= position.stored:
                begin += 1
            if begin == len(rows):
                break
            run = rows[begin : _end_of_run(rows, of_week, begin)]
            token = self._token(key, run[0][-1])
            _insert(client, key[0], run, self._insert_settings | {"insert_deduplication_token": token})
            position = self._position(client, key)
            if position.stored < run[0][-1]:
                raise _replica_behind(key, run[0][-1]) if self._on_cluster else self._void_token(key, run[0][-1])
        # Set at the end: after any error, the position is read again.
        self._positions[key] = position

    def _refresh(self, client: Client, key: _Key) -> int:
        position = self._positions[key] = self._position(client, key)
        return position.stored

    def _position(self, client: Client, key: _Key) -> _Position:
        asked_at = steady_seconds()
        return _Position(_stored(client, key, _POSITION_SETTINGS if self._on_cluster else {}), asked_at)

    def _token(self, key: _Key, first: int) -> str:
        void_first, times = self._void_tokens.get(key, (first, 0))
        return f"{key[1]}/{first}" + (f"/{times}" if void_first == first and times else "")

    def _void_token(self, key: _Key, first: int) -> StoreUnavailableError:
        """The token is known, but its rows are missing: a crash happened between the two, or somebody deleted the rows.

        Another insert with the token might be about to finish, so the rows get a new token only at the next call.
        """
        void_first, times = self._void_tokens.get(key, (first, 0))
        self._void_tokens[key] = (first, times + 1 if void_first == first else 1)
        message = f"ClickHouse dropped rows of {key[0].value} that are not stored (partition {key[1]}, offset {first})."
        return StoreUnavailableError(message)


def _replica_behind(key: _Key, first: int) -> StoreUnavailableError:
    """The shard has the rows, but the replica that answered does not have them yet."""
    return StoreUnavailableError(
        f"A replica of {key[0].value} is behind: it lacks partition {key[1]} from offset {first}. Waiting for it; see "
        "system.replicas and system.replication_queue."
    )


def _stored(client: Client, key: _Key, settings: dict[str, Any]) -> int:
    """The highest stored offset, -1 if there is none. A projection has it, so few rows are read."""
    parameters = {"table": key[0].value, "partition": key[1]}
    rows = client.query(_POSITION_SQL, parameters=parameters, settings=settings).result_rows
    return int(rows[0][0]) if rows else -1


def _last_offset(client: Client, table: Table) -> int | None:
    parameters = {"table": table.value}
    if not client.query(_EXISTS_SQL, parameters=parameters).result_rows[0][0]:
        return None
    count, last = client.query(_LAST_SQL, parameters=parameters).result_rows[0]
    return int(last) if count else None


def _end_of_run(rows: Sequence[Row], of_week: Sequence[int] | None, begin: int) -> int:
    """Where the week of the first row ends: an insert into two partitions would be two parts, and not atomic.

    Around the turn of a week, records of both weeks alternate, because some attempts started before it. There are then many runs
    of a few rows.

    Raises:
        StoreRowsError: a record has rows of two weeks (writers ensure that this does not happen).
    """
    if of_week is None:
        return len(rows)
    end = next((index for index in range(begin, len(rows)) if of_week[index] != of_week[begin]), len(rows))
    if end < len(rows) and rows[end][-1] == rows[end - 1][-1]:
        raise StoreRowsError(
            f"The record at offset {rows[end][-1]} has rows of two weeks, which ClickHouse cannot insert as one block."
        )
    return end


def _insert(client: Client, table: Table, rows: Sequence[Row], settings: dict[str, Any]) -> None:
    columns = COLUMNS[table]
    try:
        context = client.create_insert_context(
            table.value,
            column_names=list(columns),
            column_type_names=list(columns.values()),
            settings=settings,
            data=rows,
        )
        # One block, however large: the driver would split it every two megabytes.
        context.block_row_count = len(rows)
        client.data_insert(context)
    except (TypeError, ValueError, AttributeError, OverflowError, LookupError, struct.error) as error:
        raise StoreRowsError(
            f"A row for {table.value} after offset {rows[0][-1] - 1} does not fit its columns ({type(error).__name__})."
        ) from error
