"""Adds counts to the hourly aggregates of older releases: discarded and expired attempts, and durations without them.

Older releases did not count these. Offsets say which attempts are missing: the rows of a Kafka partition are inserted in offset
order, and the view that feeds the aggregates was replaced between two inserts. The new view recorded the first offset that it saw
(``fed_from``), so the old view counted everything below. If the new view has seen nothing of a partition, the partition is counted
up to its end at the first look. On a server, that look is ten minutes before the backfill: no insert takes that long.

Each week is one insert with its own token, and each hour records for how many of its attempts the outcomes are known. If a process
dies halfway, nothing is lost and the next one continues; two processes at once add a week only once. Attempts whose rows are gone
keep their old counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from pipeline.ops.logs import logger
from pipeline.store.connection import Connections
from pipeline.store.reader import sql
from pipeline.store.rows import NOT_MADE

log = logger(__name__)

_UNKNOWN: Final = "sum(attempts) - sum(classified) - sum(backfilled)"
_LEFT: Final = sql(
    "SELECT toMonday(hour) AS week, sum(unknown)",
    "FROM (SELECT hour, endpoint_id, event_name,", _UNKNOWN, "AS unknown FROM attempts_hourly",
    "GROUP BY hour, endpoint_id, event_name HAVING unknown > 0) GROUP BY week ORDER BY week",
)  # fmt: skip
_ENDS: Final = "SELECT kafka_partition, max(kafka_offset) + 1 FROM attempts GROUP BY kafka_partition"
_FED_FROM: Final = "SELECT minMap(fed_from) FROM attempts_hourly"

_IN_WEEK: Final = "{column} >= toDateTime({week:Date}, 'UTC') AND {column} < toDateTime({week:Date} + 7, 'UTC')"
_GROUP: Final = "GROUP BY hour, endpoint_id, event_name"
# If rows are gone, the hour keeps its old durations. If an hour was already backfilled (an insert took very long), only
# ``backfilled`` is raised.
_ADD: Final = sql(
    "INSERT INTO attempts_hourly (hour, endpoint_id, event_name, backfilled, discarded, expired, answered_ms)",
    "SELECT hour, endpoint_id, event_name, unknown, if(before > 0, 0, least(there.discarded, unknown)),",
    "if(before > 0, 0, least(there.expired, unknown - least(there.discarded, unknown))),",
    "multiIf(before > 0, arrayReduce('quantilesTDigestState(0.5, 0.95, 0.99)', emptyArrayFloat64()),",
    "there.found >= unknown, there.answered, took) FROM (",
    "SELECT hour, endpoint_id, event_name,", _UNKNOWN, "AS unknown, sum(backfilled) AS before,",
    "quantilesTDigestMergeState(0.5, 0.95, 0.99)(duration_ms) AS took FROM attempts_hourly WHERE",
    _IN_WEEK.replace("{column}", "hour"), _GROUP, "HAVING unknown > 0) AS summed LEFT JOIN (",
    "SELECT toStartOfHour(created_at) AS hour, endpoint_id, event_name, count() AS found,",
    "countIf(outcome = 'discarded') AS discarded, countIf(outcome = 'expired') AS expired,",
    "quantilesTDigestStateIf(0.5, 0.95, 0.99)(duration_ms, NOT", NOT_MADE, ") AS answered FROM attempts WHERE",
    _IN_WEEK.replace("{column}", "created_at"),
    "AND kafka_offset < transform(kafka_partition, {partitions:Array(UInt16)}, {ends:Array(Int64)}, toInt64(0))",
    _GROUP, ") AS there USING (hour, endpoint_id, event_name)",
)  # fmt: skip

# One block becomes one part or nothing. ClickHouse drops a repeated block.
_SETTINGS: Final[dict[str, Any]] = {
    "async_insert": 0,
    "max_insert_threads": 1,
    "min_insert_block_size_rows": 100_000_000,
    "min_insert_block_size_bytes": 0,
    "join_use_nulls": 0,
}
# The aggregates have no sharding key: they are summed over all shards. A week may be added to any shard, but always to the same.
_ON_CLUSTER: Final[dict[str, Any]] = {"insert_shard_id": 1, "distributed_foreground_insert": 1}


@dataclass(frozen=True, slots=True)
class Gap:
    """One week of the aggregates, and the number of its attempts whose outcomes are unknown."""

    week: date
    attempts: int


class Backfill:
    """A job of the store's maintenance (see consumers/maintenance.py)."""

    name = "count discarded attempts separately in the hourly aggregates of older releases"

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._ends: dict[int, int] | None = None
        self._is_done = False

    async def do(self, _now: datetime) -> None:
        """The first call records where the partitions end. The next one adds what is missing.

        Raises:
            StoreError: ClickHouse does not answer, or refuses. Weeks that were added stay added.
        """
        if self._is_done:
            return
        if self._ends is None:
            self._is_done = not await self._connections.read(_gaps)
            self._ends = await self._connections.read(_ends)
            return
        ends = self._ends
        gaps = await self._connections.write_concurrently(_gaps)
        cut = ends | await self._connections.write_concurrently(_fed_from)
        for gap in gaps:
            await self._connections.write_concurrently(lambda client, gap=gap: self._add(client, gap, cut))  # type: ignore[misc]
        self._is_done = not gaps

    def leave(self) -> None:
        """Another process takes over."""
        self._ends = None
        self._is_done = False

    async def at_the_start(self) -> None:
        """Add everything at once, for the embedded ClickHouse: nothing else inserts at this time.

        Raises:
            StoreError: ClickHouse refuses a statement.
        """
        if self._connections.is_embedded:
            await self._connections.set_up(self._add_all)

    def _add_all(self, client: Client) -> None:
        if gaps := _gaps(client):
            cut = _ends(client) | _fed_from(client)
            for gap in gaps:
                self._add(client, gap, cut)

    def _add(self, client: Client, gap: Gap, cut: dict[int, int]) -> None:
        settings = _SETTINGS | {"insert_deduplication_token": f"backfill/{gap.week}"}
        if self._connections.cluster:
            settings |= _ON_CLUSTER
        values = {"week": gap.week, "partitions": list(cut) or [0], "ends": list(cut.values()) or [0]}
        client.command(_ADD, parameters=values, settings=settings)
        log.info("counted the discarded attempts of a week separately", week=gap.week.isoformat(), attempts=gap.attempts)


def _gaps(client: Client) -> list[Gap]:
    return [Gap(week, int(unknown)) for week, unknown in client.query(_LEFT).result_rows]


def _ends(client: Client) -> dict[int, int]:
    return {int(partition): int(end) for partition, end in client.query(_ENDS).result_rows}


def _fed_from(client: Client) -> dict[int, int]:
    [(found,)] = client.query(_FED_FROM).result_rows
    return {int(partition): int(offset) for partition, offset in dict(found).items()}
