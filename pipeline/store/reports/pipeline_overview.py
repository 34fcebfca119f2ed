"""The last hour of the whole pipeline, minute by minute, and the delivery that has waited longest. Tests do not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pipeline.store.reader import Reader, Rows, sql
from pipeline.store.rows import NOT_MADE
from pipeline.store.search.conditions import milliseconds

MINUTES: Final = 60
_MINUTE: Final = timedelta(minutes=1)
_OVERDUE: Final = timedelta(days=1)
"""How long after its due time a delivery still counts as waiting."""

Percentiles = tuple[float, float, float]
"""50, 95 and 99, in milliseconds."""


@dataclass(frozen=True, slots=True)
class OverviewMinute:
    """One minute: events received, attempts acknowledged, attempts not acknowledged."""

    begins_at: datetime
    events: int
    succeeded: int
    failed: int


@dataclass(frozen=True, slots=True)
class WaitingDelivery:
    """A delivery that was attempted, not acknowledged, and will be attempted again."""

    attempt_id: int
    event_id: str
    event_name: str
    endpoint_id: int
    event_created_at: datetime
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class PipelineOverview:
    """The last hour, oldest minute first.

    ``delivery_ms``: from an event's arrival to its acknowledgement, retries included. ``answer_ms``: the duration of single
    attempts. None without attempts. ``oldest_waiting``: the waiting delivery with the oldest event; None if none waits.
    """

    minutes: tuple[OverviewMinute, ...]
    delivery_ms: Percentiles | None
    answer_ms: Percentiles | None
    waiting: int
    oldest_waiting: WaitingDelivery | None

    @property
    def events(self) -> int:
        """Events received."""
        return sum(one.events for one in self.minutes)

    @property
    def succeeded(self) -> int:
        """Attempts that were acknowledged."""
        return sum(one.succeeded for one in self.minutes)

    @property
    def failed(self) -> int:
        """Attempts that were not acknowledged."""
        return sum(one.failed for one in self.minutes)

    @property
    def success_rate(self) -> float | None:
        """From 0 to 1; None without an attempt."""
        made = self.succeeded + self.failed
        return self.succeeded / made if made else None


_MADE: Final = "FROM attempts WHERE created_at >= fromUnixTimestamp64Milli({%s:Int64}, 'UTC') AND trigger != 'test'"
_ASKED: Final = f"NOT {NOT_MADE}"
_DELIVERY: Final = "Tuple(Int64, String, String, Int64, DateTime64(3, ''UTC''), Nullable(DateTime64(3, ''UTC'')))"
"""The columns of a :class:`WaitingDelivery`, in a statement."""
_NO_TIMES: Final = "emptyArrayFloat64(), emptyArrayFloat64()"
_NO_DELIVERY: Final = f"defaultValueOfTypeName('{_DELIVERY}')"
_EVENTS: Final = sql(
    f"SELECT 'events' AS part, toStartOfMinute(received_at) AS minute, count(), toUInt64(0), {_NO_TIMES}, {_NO_DELIVERY}",
    "FROM events WHERE received_at >= fromUnixTimestamp64Milli({hour:Int64}, 'UTC') AND source_topic != 'test' GROUP BY minute",
)
_ATTEMPTS: Final = sql(
    f"SELECT if(grouping(minute) = 1, 'all', 'attempts'), minute, countIf(state = 'succeeded'), countIf(state = 'failed' AND {_ASKED}),",
    f"if(countIf({_ASKED}) = 0, [], quantilesTDigestIf(0.5, 0.95, 0.99)(duration_ms, {_ASKED})),",
    "if(countIf(arrived) = 0, [], quantilesTDigestIf(0.5, 0.95, 0.99)(greatest(waited_ms + duration_ms, 0), arrived)),",
    f"{_NO_DELIVERY} FROM (SELECT toStartOfMinute(created_at) AS minute, state, outcome, duration_ms,",
    "toUnixTimestamp64Milli(created_at) - toUnixTimestamp64Milli(event_received_at) AS waited_ms,",
    # Not every record says when its event arrived (then it is 1970), and a resend is about an old event.
    "state = 'succeeded' AND trigger != 'resend' AND toUnixTimestamp64Milli(event_received_at) > 0 AS arrived",
    _MADE % "hour",
    ") GROUP BY GROUPING SETS ((minute), ())",
)
# Only the attempts that will be retried are kept in memory, not every attempt of that time.
_WAITING_NOW: Final = sql(
    f"SELECT 'waiting', toDateTime(0, 'UTC'), count(), toUInt64(0), {_NO_TIMES},",
    f"CAST(argMin((id, event_id, toString(event_name), endpoint_id, event_created_at, next_attempt_at), event_created_at), '{_DELIVERY}')",
    _MADE % "waiting",
    "AND outcome = 'repeated' AND (event_id, endpoint_id, attempt) NOT IN (SELECT event_id, endpoint_id, attempt - 1",
    _MADE % "waiting",
    "AND attempt > 1)",
)


async def overview(reader: Reader, until: datetime, longest_delay: timedelta) -> PipelineOverview:
    """Read it with one query, because each query has a cost and this page is requested often."""
    since = until.replace(second=0, microsecond=0) - (MINUTES - 1) * _MINUTE
    parameters = {"hour": milliseconds(since), "waiting": milliseconds(until - longest_delay - _OVERDUE)}
    rows = await reader.rows(sql(_EVENTS, "UNION ALL", _ATTEMPTS, "UNION ALL", _WAITING_NOW), parameters)
    parts: dict[str, list[Sequence[Any]]] = {}
    for part, *row in rows:
        parts.setdefault(part, []).append(row)
    (_, _, _, answer, delivery, _) = parts["all"][0] if "all" in parts else (None, 0, 0, (), (), None)
    (_, waiting, _, _, _, oldest) = parts["waiting"][0]
    return PipelineOverview(
        minutes=_minutes(since, parts.get("events", ()), parts.get("attempts", ())),
        delivery_ms=_percentiles(delivery),
        answer_ms=_percentiles(answer),
        waiting=waiting,
        oldest_waiting=WaitingDelivery(*oldest) if waiting else None,
    )


def _minutes(since: datetime, events: Rows, attempts: Rows) -> tuple[OverviewMinute, ...]:
    event_counts: dict[datetime, int] = {row[0]: row[1] for row in events}
    attempt_counts: dict[datetime, tuple[int, int]] = {row[0]: (row[1], row[2]) for row in attempts}
    times = [since + number * _MINUTE for number in range(MINUTES)]
    return tuple(OverviewMinute(time, event_counts.get(time, 0), *attempt_counts.get(time, (0, 0))) for time in times)


def _percentiles(found: Sequence[Any]) -> Percentiles | None:
    if not found:
        return None
    half, most, nearly_all = found
    return half, most, nearly_all
