"""Reads beside the search for attempts: an event's body, an endpoint's last hours, dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from pipeline.store.connection import Connections
from pipeline.store.endpoint_days import EndpointDay, endpoint_days
from pipeline.store.overview import Overview, overview
from pipeline.store.reader import Reader
from pipeline.store.rows import MAX_PARTITIONS, Position
from pipeline.store.search import Budget, Page

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Bucket:
    """The attempts of a part of the time, counted."""

    start: datetime
    succeeded: int
    failed: int


@dataclass(frozen=True, slots=True)
class LastFailure:
    """The newest attempt that was not acknowledged."""

    attempt_id: int
    created_at: datetime
    http_status_code: int | None
    failure: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class EndpointStats:
    """What an endpoint was sent in a time. Test deliveries do not count, discarded attempts count apart.

    ``duration_ms`` holds the percentiles 50, 95 and 99; None without an attempt.
    """

    buckets: tuple[Bucket, ...]
    discarded: int
    duration_ms: tuple[float, float, float] | None
    last_failure: LastFailure | None


@dataclass(frozen=True, slots=True)
class DeadLetterSummary:
    """A dead letter without its bytes; ``size`` is that of its value."""

    id: int
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    failed_at: datetime
    size: int


@dataclass(frozen=True, slots=True)
class DeadLetterDetail:
    """A dead letter with its bytes as they came."""

    summary: DeadLetterSummary
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run that resends many, as the audit tells of it. ``detail`` is the last progress that it put on record."""

    id: str
    actor: str
    started_at: datetime
    heard_at: datetime
    detail: str
    is_cancelled: bool


# As with attempts: the position in the topic makes the id.
_SUMMARY: Final = (
    f"kafka_offset * {MAX_PARTITIONS} + kafka_partition, reason, detail, topic, partition, offset, failed_at, "
    "length(ifNull(record_value, ''))"
)
_SUMMARY_COLUMNS: Final = 8
_BYTES: Final = dict.fromkeys(("record_key", "record_value", "headers", "request_body"), "bytes")
_OF_ENDPOINT: Final = (
    "FROM attempts WHERE endpoint_id = {endpoint:Int64} AND trigger != 'test' "
    "AND created_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND created_at < fromUnixTimestamp64Milli({until:Int64}, 'UTC')"
)


class Reports:
    """Every method raises StoreUnavailableError, and StoreBudgetError when it takes too long."""

    def __init__(self, connections: Connections, budget: Budget | None = None) -> None:
        self._connections = connections
        self._settings = (budget or Budget()).settings()
        self._reader = Reader(connections, budget or Budget())

    async def event_body(self, event_id: str) -> bytes | None:
        """The body of an event as it is sent; None while the event is not in ClickHouse, or when it is no longer there (or erased)."""
        known = "event_id = {event:String} AND request_body != ''"
        query = _sql("SELECT request_body FROM events WHERE", known, "ORDER BY received_at DESC LIMIT 1")
        rows = await self._rows(query, {"event": event_id})
        return bytes(rows[0][0]) if rows else None

    async def endpoint_stats(self, endpoint_id: int, until: datetime, *, buckets: int, width: timedelta) -> EndpointStats:
        """What an endpoint was sent in the ``buckets`` times ``width`` before ``until``."""
        since = until - buckets * width
        parameters = {"endpoint": endpoint_id, "since": _ms(since), "until": _ms(until), "width": width // _MILLISECOND}
        counted, totals, failures = await asyncio.gather(
            self._rows(
                "SELECT intDiv(toUnixTimestamp64Milli(created_at) - {since:Int64}, {width:Int64}) AS bucket, "
                f"countIf(state = 'succeeded'), countIf(state = 'failed' AND outcome NOT IN ('discarded', 'expired')) {_OF_ENDPOINT} GROUP BY bucket",
                parameters,
            ),
            self._rows(
                "SELECT countIf(outcome IN ('discarded', 'expired')), countIf(outcome NOT IN ('discarded', 'expired')), "
                f"quantilesIf(0.5, 0.95, 0.99)(duration_ms, outcome NOT IN ('discarded', 'expired')) {_OF_ENDPOINT}",
                parameters,
            ),
            self._rows(
                f"SELECT id, created_at, http_status_code, failure, error {_OF_ENDPOINT} "
                "AND state = 'failed' AND outcome NOT IN ('discarded', 'expired') ORDER BY created_at DESC, id DESC LIMIT 1",
                parameters,
            ),
        )
        found = {int(bucket): (succeeded, failed) for bucket, succeeded, failed in counted}
        discarded, made, (half, most, nearly_all) = totals[0]
        return EndpointStats(
            buckets=tuple(Bucket(since + number * width, *found.get(number, (0, 0))) for number in range(buckets)),
            discarded=discarded,
            duration_ms=(half, most, nearly_all) if made else None,
            last_failure=_last_failure(failures[0]) if failures else None,
        )

    async def endpoint_days(self, until: datetime) -> dict[int, EndpointDay]:
        """What each endpoint was sent in the last 24 hours; those that were sent nothing are left out."""
        return await endpoint_days(self._reader.anew(), until)

    async def overview(self, until: datetime) -> Overview:
        """How the whole pipeline did in the last hour, and what has been waiting longest."""
        return await overview(self._reader.anew(), until)

    async def dead_letters(
        self, page: int, per_page: int, *, reason: str | None = None, topic: str | None = None
    ) -> Page[DeadLetterSummary]:
        """The records that could not be used, the newest first."""
        tests = ["reason = {reason:String}"] * (reason is not None) + ["topic = {topic:String}"] * (topic is not None)
        condition = " AND ".join(tests) or "1"
        parameters = {"reason": reason, "topic": topic, "limit": per_page, "offset": (page - 1) * per_page}
        parameters = {name: value for name, value in parameters.items() if value is not None}
        order = "ORDER BY failed_at DESC, kafka_partition, kafka_offset DESC LIMIT {limit:UInt32} OFFSET {offset:UInt64}"
        rows, counted = await asyncio.gather(
            self._rows(_sql("SELECT", _SUMMARY, "FROM dead_letters WHERE", condition, order), parameters),
            self._rows(_sql("SELECT count() FROM dead_letters WHERE", condition), parameters),
        )
        return Page(tuple(DeadLetterSummary(*row) for row in rows), int(counted[0][0]), page, per_page)

    async def dead_letter(self, identifier: int) -> DeadLetterDetail | None:
        """One record that could not be used, with its bytes; None when there is none."""
        offset, partition = divmod(identifier, MAX_PARTITIONS)
        position = Position(partition, offset)
        rows = await self._rows(
            _sql(
                "SELECT",
                _SUMMARY,
                ", record_key, record_value, headers FROM dead_letters",
                "WHERE kafka_partition = {partition:UInt16} AND kafka_offset = {offset:Int64} LIMIT 1",
            ),
            position._asdict(),
        )
        if not rows:
            return None
        key, value, headers = rows[0][_SUMMARY_COLUMNS:]
        return DeadLetterDetail(
            summary=DeadLetterSummary(*rows[0][:_SUMMARY_COLUMNS]),
            key=key,
            value=value,
            headers=tuple((name.decode("utf-8", "replace"), content) for name, content in headers),
        )

    async def resend_runs(self, run_id: str | None = None, limit: int = 20) -> tuple[RunRow, ...]:
        """The runs that resend many, the newest first; or the one that is named."""
        state = "JSONExtractString(detail, 'state')"
        # Records of the same millisecond: the one that ends a run is the last.
        last = f"argMax(detail, ({state} NOT IN ('running', 'cancelling'), at))"
        test = "AND subject = concat('resend run ', {run:String})" if run_id is not None else ""
        rows = await self._rows(
            _sql(
                "SELECT substring(subject, length('resend run ') + 1), argMin(actor, at), min(at) AS begun, max(at),",
                last,
                f", countIf({state} = 'cancelling') > 0 FROM audit_log WHERE action = 'resend_run'",
                test,
                "GROUP BY subject ORDER BY begun DESC LIMIT {limit:UInt32}",
            ),
            {"run": run_id or "", "limit": limit},
        )
        return tuple(RunRow(run, actor, begun, heard, detail, bool(asked)) for run, actor, begun, heard, detail, asked in rows)

    async def _rows(self, statement: str, parameters: dict[str, Any]) -> Sequence[Sequence[Any]]:
        def query(client: Client) -> Sequence[Sequence[Any]]:
            result = client.query(statement, parameters=parameters, settings=self._settings, column_formats=dict(_BYTES))
            return result.result_rows

        return await self._connections.read(query)


def _last_failure(row: Sequence[Any]) -> LastFailure:
    identifier, created_at, status, failure, error = row
    return LastFailure(identifier, created_at, status, failure or None, error or None)


def _ms(time: datetime) -> int:
    return (time - _EPOCH) // _MILLISECOND


def _sql(*parts: str) -> str:
    """A statement of constants; values are bound."""
    return " ".join(parts)
