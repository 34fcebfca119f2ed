"""How the whole pipeline does: the last hour minute by minute, and what has been waiting longest. Test deliveries do not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pipeline.store.reader import Reader, Rows, sql

MINUTES: Final = 60
_MINUTE: Final = timedelta(minutes=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WAITING: Final = timedelta(days=1)
"""How far back a delivery is looked for that waits for its repeat. The schedule is over within eight hours."""

Percentiles = tuple[float, float, float]
"""50, 95 and 99, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Minute:
    """What happened in a minute: events that came in, attempts that were acknowledged, and that were not."""

    begins_at: datetime
    events: int
    succeeded: int
    failed: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that was attempted, not acknowledged, and will be attempted again."""

    attempt_id: int
    event_id: str
    event_name: str
    endpoint_id: int
    event_created_at: datetime
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class Overview:
    """The last hour, the oldest minute first.

    ``delivery_ms``: from an event's arrival to its acknowledgement, of what was acknowledged, repeats included. ``answer_ms``: how long
    single attempts took. None when there was none. ``oldest_waiting`` is the delivery whose event is the oldest; None when none waits.
    """

    minutes: tuple[Minute, ...]
    delivery_ms: Percentiles | None
    answer_ms: Percentiles | None
    waiting: int
    oldest_waiting: Waiting | None

    @property
    def events(self) -> int:
        """Events that came in."""
        return sum(one.events for one in self.minutes)

    @property
    def succeeded(self) -> int:
        """Attempts that were acknowledged."""
        return sum(one.succeeded for one in self.minutes)

    @property
    def failed(self) -> int:
        """Attempts that were not."""
        return sum(one.failed for one in self.minutes)

    @property
    def success_rate(self) -> float | None:
        """From 0 to 1; None without an attempt."""
        made = self.succeeded + self.failed
        return self.succeeded / made if made else None


_MADE: Final = "FROM attempts WHERE created_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND trigger != 'test'"
_TIMES: Final = sql(
    "SELECT countIf(answered), quantilesTDigestIf(0.5, 0.95, 0.99)(duration_ms, answered),",
    "countIf(arrived), quantilesTDigestIf(0.5, 0.95, 0.99)(greatest(waited_ms + duration_ms, 0), arrived)",
    "FROM (SELECT duration_ms, outcome NOT IN ('discarded', 'expired') AS answered,",
    "toUnixTimestamp64Milli(created_at) - toUnixTimestamp64Milli(event_received_at) AS waited_ms,",
    # Not every record says when its event arrived (then it is 1970), and a resend is about an event of long ago.
    "state = 'succeeded' AND trigger != 'resend' AND toUnixTimestamp64Milli(event_received_at) > 0 AS arrived",
    _MADE,
    ")",
)
# Only what was repeated is remembered while this runs, not every attempt of the day.
_OPEN: Final = sql(
    _MADE,
    "AND outcome = 'repeated' AND (event_id, endpoint_id, attempt) NOT IN (SELECT event_id, endpoint_id, attempt - 1",
    _MADE,
    "AND attempt > 1)",
)


async def overview(reader: Reader, until: datetime) -> Overview:
    """Read it."""
    since = until.replace(second=0, microsecond=0) - (MINUTES - 1) * _MINUTE
    hour, day = {"since": _ms(since)}, {"since": _ms(until - _WAITING)}
    events = await reader.rows(
        "SELECT toStartOfMinute(received_at) AS minute, count() FROM events "
        "WHERE received_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND source_topic != 'test' GROUP BY minute",
        hour,
    )
    select = "SELECT toStartOfMinute(created_at) AS minute, countIf(state = 'succeeded'), countIf(state = 'failed' AND outcome NOT IN ('discarded', 'expired'))"
    attempts = await reader.rows(sql(select, _MADE, "GROUP BY minute"), hour)
    ((answered, answer, arrived, delivery),) = await reader.rows(_TIMES, hour)
    ((waiting,),) = await reader.rows(sql("SELECT count()", _OPEN), day)
    select = "SELECT id, event_id, event_name, endpoint_id, event_created_at, next_attempt_at"
    oldest = await reader.rows(sql(select, _OPEN, "ORDER BY event_created_at LIMIT 1"), day)
    return Overview(
        minutes=_minutes(since, events, attempts),
        delivery_ms=_percentiles(delivery) if arrived else None,
        answer_ms=_percentiles(answer) if answered else None,
        waiting=waiting,
        oldest_waiting=Waiting(*oldest[0]) if oldest else None,
    )


def _minutes(since: datetime, events: Rows, attempts: Rows) -> tuple[Minute, ...]:
    came: dict[datetime, int] = {row[0]: row[1] for row in events}
    made: dict[datetime, tuple[int, int]] = {begins_at: (succeeded, failed) for begins_at, succeeded, failed in attempts}
    times = [since + number * _MINUTE for number in range(MINUTES)]
    return tuple(Minute(time, came.get(time, 0), *made.get(time, (0, 0))) for time in times)


def _percentiles(found: Sequence[Any]) -> Percentiles:
    half, most, nearly_all = found
    return half, most, nearly_all


def _ms(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(milliseconds=1)
