"""The last day of all endpoints, for lists: the hourly aggregates give the counts, the newest failures the reasons."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.store.reader import Reader, sql
from pipeline.store.rows import NOT_MADE

HOURS: Final = 24
_HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LastFailure:
    """The newest attempt at an endpoint that was not acknowledged."""

    attempt_id: int
    created_at: datetime
    http_status_code: int | None
    failure: str | None
    error: str | None


@dataclass(slots=True)
class EndpointDay:
    """The last 24 hours of an endpoint, by clock hour, oldest first.

    Each hour has successes and failures. Test deliveries count; discarded and expired deliveries do not, because they were not
    attempted.
    """

    hours: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)] * HOURS)
    last_failure: LastFailure | None = None

    @property
    def succeeded(self) -> int:
        """Attempts that were acknowledged."""
        return sum(succeeded for succeeded, _ in self.hours)

    @property
    def failed(self) -> int:
        """Attempts that were not acknowledged."""
        return sum(failed for _, failed in self.hours)

    @property
    def success_rate(self) -> float | None:
        """From 0 to 1; None without an attempt."""
        made = self.succeeded + self.failed
        return self.succeeded / made if made else None


def first_hour(until: datetime) -> datetime:
    """The start of the first of the 24 hours."""
    return until.replace(minute=0, second=0, microsecond=0) - (HOURS - 1) * _HOUR


_FAILURE: Final = "Tuple(Int64, DateTime64(3, ''UTC''), Nullable(UInt16), String, String)"
_COUNTS: Final = sql(
    "SELECT endpoint_id, hour, attempts, failures,",
    f"defaultValueOfTypeName('{_FAILURE}')",
    "FROM (SELECT endpoint_id, hour, sum(attempts) - sum(discarded + expired) AS attempts,",
    "sum(failures) - sum(discarded + expired) AS failures",
    "FROM attempts_hourly AS h WHERE hour >= toDateTime({since:UInt32}, 'UTC') GROUP BY endpoint_id, hour)",
)
_LAST_FAILURES: Final = sql(
    "SELECT endpoint_id, toDateTime(0, 'UTC'), toInt64(0), toInt64(0),",
    f"CAST(argMax((id, created_at, http_status_code, toString(failure), error), (created_at, id)), '{_FAILURE}')",
    "FROM attempts PREWHERE state = 'failed' WHERE created_at >= toDateTime64({since:UInt32}, 3, 'UTC')",
    f"AND NOT {NOT_MADE} AND trigger != 'test' GROUP BY endpoint_id",
)


async def endpoint_days(reader: Reader, until: datetime) -> dict[int, EndpointDay]:
    """The endpoints that were sent something in the last 24 hours: one query for any number of endpoints."""
    since = first_hour(until)
    parameters = {"since": (since - _EPOCH) // timedelta(seconds=1)}
    days: dict[int, EndpointDay] = {}
    for endpoint_id, hour, attempts, failures, failure in await reader.rows(
        sql(_COUNTS, "UNION ALL", _LAST_FAILURES), parameters
    ):
        identifier, created_at, status, kind, error = failure
        if hour == _EPOCH:
            failed = LastFailure(identifier, created_at, status, kind or None, error or None)
            days.setdefault(endpoint_id, EndpointDay()).last_failure = failed
            continue
        number = (hour - since) // _HOUR
        if 0 <= number < HOURS:  # a clock ahead of ours may have written later hours
            days.setdefault(endpoint_id, EndpointDay()).hours[number] = (attempts - failures, failures)
    return days
