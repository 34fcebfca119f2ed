"""Reports about recent hours: an endpoint's attempts, the pipeline, dead letters, runs of resends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline.store.connection import Connections
from pipeline.store.reader import Reader, Rows, sql
from pipeline.store.reports import repairs
from pipeline.store.reports.endpoint_days import EndpointDay, LastFailure, endpoint_days
from pipeline.store.reports.pipeline_overview import PipelineOverview, overview
from pipeline.store.reports.repairs import LETTER, REPAIRED_SUBJECTS, DoneBy, RepairedBy
from pipeline.store.rows import MAX_PARTITIONS, NOT_MADE, RowPosition
from pipeline.store.search.conditions import milliseconds
from pipeline.store.search.queries import QueryBudget, ResultPage

_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class IntervalCounts:
    """The counted attempts of one time interval."""

    start: datetime
    succeeded: int
    failed: int


@dataclass(frozen=True, slots=True)
class EndpointStats:
    """An endpoint's recent attempts. Test deliveries do not count; discarded attempts are counted separately.

    ``duration_ms`` holds the percentiles 50, 95 and 99; None without an attempt.
    """

    buckets: tuple[IntervalCounts, ...]
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
    repaired: RepairedBy | None = None
    """Who published it again or dismissed it, and when; None if nobody did."""


@dataclass(frozen=True, slots=True)
class DeadLetterDetail:
    """A dead letter with its original bytes."""

    summary: DeadLetterSummary
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run of resends, from the audit log. ``detail`` is the last recorded progress, and ``heard_at`` when the run recorded any."""

    id: str
    actor: str
    started_at: datetime
    heard_at: datetime
    detail: str
    is_cancelled: bool
    """Whether somebody asked it to stop. That is the only record that the run does not write itself."""


@dataclass(frozen=True, slots=True)
class ReplayRow:
    """A replay, from the audit log: the steps that it has begun. ``events`` are those of all steps, and ``detail`` describes the last."""

    id: str
    actor: str
    started_at: datetime
    last_step_at: datetime
    events: int
    detail: str


# As with attempts, the position in the topic becomes the id.
_SUMMARY: Final = (
    f"kafka_offset * {MAX_PARTITIONS} + kafka_partition, reason, detail, topic, partition, offset, failed_at, "
    "length(ifNull(record_value, ''))"
)
_SUMMARY_COLUMNS: Final = 8
_REPAIRED: Final = f"concat('{LETTER}', toString(kafka_offset * {MAX_PARTITIONS} + kafka_partition)) IN ({REPAIRED_SUBJECTS})"
_BYTES: Final = dict.fromkeys(("record_key", "record_value", "headers", "request_body"), "bytes")
_OF_ENDPOINT: Final = (
    "FROM attempts WHERE endpoint_id = {endpoint:Int64} AND trigger != 'test' "
    "AND created_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND created_at < fromUnixTimestamp64Milli({until:Int64}, 'UTC')"
)


class Reports:
    """Every method raises StoreUnavailableError, and StoreBudgetError if it takes too long."""

    def __init__(
        self, connections: Connections, budget: QueryBudget | None = None, *, longest_delay: timedelta = timedelta(0)
    ) -> None:
        """``longest_delay``: the longest that a delivery may wait for its retry."""
        self._longest_delay = longest_delay
        self._reader = Reader(connections, budget or QueryBudget())

    async def endpoint_stats(self, endpoint_id: int, until: datetime, *, buckets: int, width: timedelta) -> EndpointStats:
        """An endpoint's attempts in ``buckets`` intervals of ``width``, ending at ``until``."""
        since = until - buckets * width
        parameters = {
            "endpoint": endpoint_id,
            "since": milliseconds(since),
            "until": milliseconds(until),
            "width": width // _MILLISECOND,
        }
        counted, totals, failures = await asyncio.gather(
            self._rows(
                "SELECT intDiv(toUnixTimestamp64Milli(created_at) - {since:Int64}, {width:Int64}) AS bucket, "
                f"countIf(state = 'succeeded'), countIf(state = 'failed' AND NOT {NOT_MADE}) {_OF_ENDPOINT} GROUP BY bucket",
                parameters,
            ),
            self._rows(
                f"SELECT countIf({NOT_MADE}), countIf(NOT {NOT_MADE}), "
                f"quantilesIf(0.5, 0.95, 0.99)(duration_ms, NOT {NOT_MADE}) {_OF_ENDPOINT}",
                parameters,
            ),
            self._rows(
                f"SELECT id, created_at, http_status_code, failure, error {_OF_ENDPOINT} "
                f"AND state = 'failed' AND NOT {NOT_MADE} ORDER BY created_at DESC, id DESC LIMIT 1",
                parameters,
            ),
        )
        found = {int(bucket): (succeeded, failed) for bucket, succeeded, failed in counted}
        discarded, made, (half, most, nearly_all) = totals[0]
        return EndpointStats(
            buckets=tuple(IntervalCounts(since + number * width, *found.get(number, (0, 0))) for number in range(buckets)),
            discarded=discarded,
            duration_ms=(half, most, nearly_all) if made else None,
            last_failure=_last_failure(failures[0]) if failures else None,
        )

    async def endpoint_days(self, until: datetime) -> dict[int, EndpointDay]:
        """Each endpoint's last 24 hours; endpoints without attempts are left out."""
        return await endpoint_days(self._reader.with_full_budget(), until)

    async def overview(self, until: datetime) -> PipelineOverview:
        """The whole pipeline's last hour, and the delivery that has waited longest."""
        return await overview(self._reader.with_full_budget(), until, self._longest_delay)

    async def dead_letters(
        self,
        page: int,
        per_page: int,
        *,
        reason: str | None = None,
        topic: str | None = None,
        repaired: bool | None = None,
    ) -> ResultPage[DeadLetterSummary]:
        """Dead letters, newest first. ``repaired``: only those that were, or were not, published again or dismissed."""
        tests = ["reason = {reason:String}"] * (reason is not None) + ["topic = {topic:String}"] * (topic is not None)
        tests += [_REPAIRED if repaired else f"NOT ({_REPAIRED})"] * (repaired is not None)
        condition = " AND ".join(tests) or "1"
        parameters = {"reason": reason, "topic": topic, "limit": per_page, "offset": (page - 1) * per_page}
        parameters = {name: value for name, value in parameters.items() if value is not None}
        order = "ORDER BY failed_at DESC, kafka_partition, kafka_offset DESC LIMIT {limit:UInt32} OFFSET {offset:UInt64}"
        rows, counted = await asyncio.gather(
            self._rows(sql("SELECT", _SUMMARY, "FROM dead_letters WHERE", condition, order), parameters),
            self._rows(sql("SELECT count() FROM dead_letters WHERE", condition), parameters),
        )
        known = await repairs.repairs(self._reader.with_full_budget(), [row[0] for row in rows])
        found = tuple(replace(DeadLetterSummary(*row), repaired=known.get(row[0])) for row in rows)
        return ResultPage(found, int(counted[0][0]), page, per_page)

    async def count_unrepaired_dead_letters(self) -> int:
        """The number of dead letters that were neither published again nor dismissed."""
        [(count,)] = await self._rows(sql("SELECT count() FROM dead_letters WHERE NOT (", _REPAIRED, ")"), {})
        return int(count)

    async def dead_letter(self, identifier: int) -> DeadLetterDetail | None:
        """One dead letter with its bytes; None if there is none."""
        offset, partition = divmod(identifier, MAX_PARTITIONS)
        position = RowPosition(partition, offset)
        rows = await self._rows(
            sql(
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
        known = await repairs.repairs(self._reader.with_full_budget(), [identifier])
        return DeadLetterDetail(
            summary=replace(DeadLetterSummary(*rows[0][:_SUMMARY_COLUMNS]), repaired=known.get(identifier)),
            key=key,
            value=value,
            headers=tuple((name.decode("utf-8", "replace"), content) for name, content in headers),
        )

    async def resends(self, events: Sequence[str], since: datetime) -> Mapping[tuple[str, int], DoneBy]:
        """Who last sent these events again since a time, by event and endpoint."""
        return await repairs.resends(self._reader.with_full_budget(), events, since)

    async def resend_runs(self, run_id: str | None = None, limit: int = 20) -> tuple[RunRow, ...]:
        """The runs of resends, newest first; or only the named one."""
        state = "JSONExtractString(detail, 'state')"
        # Among records of the same millisecond, the one that ends a run is the last.
        last = f"argMax(detail, ({state} NOT IN ('running', 'cancelling'), at))"
        test = "AND subject = concat('resend run ', {run:String})" if run_id is not None else ""
        rows = await self._rows(
            sql(
                "SELECT substring(subject, length('resend run ') + 1), argMin(actor, at), min(at) AS begun,",
                f"maxIf(at, {state} != 'cancelling'),",  # somebody else recorded that
                last,
                f", countIf({state} = 'cancelling') > 0 FROM audit_log WHERE action = 'resend_run'",
                test,
                "GROUP BY subject ORDER BY begun DESC LIMIT {limit:UInt32}",
            ),
            {"run": run_id or "", "limit": limit},
        )
        return tuple(
            RunRow(run, actor, started_at, heard_at, detail, bool(asked))
            for run, actor, started_at, heard_at, detail, asked in rows
        )

    async def replays(self, limit: int = 20) -> tuple[ReplayRow, ...]:
        """The replays, newest first."""
        # A step is recorded as "1,000 events to endpoints 1, 2, after …".
        events = "toUInt64OrZero(replaceAll(extract(detail, '^[0-9,]+'), ',', ''))"
        rows = await self._rows(
            sql(
                "SELECT substring(subject, length('replay ') + 1), argMin(actor, at), min(at) AS begun, max(at),",
                f"sum({events}), argMax(detail, (at, kafka_offset)) FROM audit_log WHERE action = 'replay'",
                "GROUP BY subject ORDER BY begun DESC LIMIT {limit:UInt32}",
            ),
            {"limit": limit},
        )
        return tuple(ReplayRow(*row) for row in rows)

    async def _rows(self, statement: str, parameters: dict[str, Any]) -> Rows:
        return await self._reader.with_full_budget().rows(statement, parameters, _BYTES)


def _last_failure(row: Sequence[Any]) -> LastFailure:
    identifier, created_at, status, failure, error = row
    return LastFailure(identifier, created_at, status, failure or None, error or None)
