"""The retry schedule: a notification is retried up to five times, after delays that a deployment can configure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from pipeline.core.exchange import Exchange, NoResponse


class RetrySchedule:
    """The delay before each retry; ``delays[0]`` follows the first attempt.

    ``longer``: further delays that have topics. Only Retry-After uses them.
    """

    __slots__ = ("_for_wishes", "delays")

    def __init__(self, delays: Sequence[timedelta], longer: Sequence[timedelta] = ()) -> None:
        self.delays = tuple(delays)
        self._for_wishes = tuple(sorted({*delays, *longer}))

    @property
    def attempts(self) -> int:
        """The number of attempts: the first and its retries."""
        return 1 + len(self.delays)

    def after(self, attempt: int, at_least: timedelta | None = None) -> timedelta | None:
        """The delay before the attempt after ``attempt`` (from 1), or None if that was the last one.

        ``at_least`` is what the receiver asked for (Retry-After). Records in a delay topic are due in the order of their offsets,
        so a request is met by the first delay that is not shorter, or by the longest one that exists.
        """
        if attempt >= self.attempts:
            return None
        delay = self.delays[attempt - 1]
        if at_least is None or at_least <= delay:
            return delay
        return next((longer for longer in self._for_wishes if longer >= at_least), self._for_wishes[-1])

    def parking(self, times: int, at_least: timedelta, longest: timedelta, there_are: Sequence[timedelta] = ()) -> timedelta:
        """How long to park a delivery that was parked ``times`` times before.

        Each time it is the next delay of the schedule, up to ``longest``: a few deliveries are tried again soon, and a hundred
        thousand that wait for a dead endpoint are not rewritten every few seconds. If that is shorter than ``at_least``, it is
        the first of the delays ``there_are`` (by default, the schedule's) that is not, or the longest of them.
        """
        usual = [delay for delay in self.delays if delay <= longest] or [self.delays[0]]
        delay = usual[min(times, len(usual) - 1)]
        if at_least <= delay:
            return delay
        among = there_are or self.delays
        return next((longer for longer in among if longer >= at_least), among[-1])


def asked_for(exchange: Exchange, now: datetime) -> timedelta | None:
    """How long the endpoint asks us to wait (Retry-After); None if it does not ask."""
    if isinstance(exchange, NoResponse):
        return None
    value = next((value for name, value in exchange.headers if name.lower() == "retry-after"), None)
    return None if value is None else parse_retry_after(value, now)


def parse_retry_after(value: str, now: datetime) -> timedelta | None:
    """Parse a Retry-After header: seconds, or an HTTP date (RFC 9110, 10.2.3). None if it is neither."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return timedelta(seconds=min(int(value[:10]), 10**9))
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # OverflowError for numbers that no date can hold
        return None
    # RFC 5322 allows a date without a zone ("-0000"); HTTP dates are always GMT.
    return max(timedelta(0), (date if date.tzinfo else date.replace(tzinfo=UTC)) - now)
