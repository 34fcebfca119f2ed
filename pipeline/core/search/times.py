"""Times as people type them: ISO 8601, a date, or relative to now. Pure: ``now`` is an argument."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from pipeline.core.search.problems import NotUsableError, shown

FORMS: Final = (
    "a time or a date, such as 2026-03-02T15:04:00Z, 2026-03-02, 20260302, today, yesterday, last monday, -2h, 90m or 3d"
)
EARLIEST: Final = datetime(1900, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2299, 1, 1, tzinfo=UTC)
"""The range that a column can compare. Nothing was ever recorded before or after."""

_DATE: Final = re.compile(r"(\d{4})([-/]?)(\d{1,2})\2(\d{1,2})", re.ASCII)
_CLOCK: Final = re.compile(r"(?P<date>\d{4}-?\d\d-?\d\d)[T ](?P<clock>\d\d.*)", re.ASCII | re.IGNORECASE)
# A plus sign that was not percent-encoded is a space in a query string.
_ZONE: Final = re.compile(r"(?<=\d) ?(?:(?P<utc>utc|gmt|z)| (?P<offset>\d\d:?\d\d))$", re.ASCII | re.IGNORECASE)
_MIDNIGHT: Final = re.compile(r"24:?00(:?00(\.0+)?)?(?P<zone>.*)", re.ASCII)
_AGO: Final = re.compile(r"(?:-|last |past )?\s*(\d{1,6})\s*([a-z]+)(\s+ago)?", re.ASCII)
_UNITS: Final = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), timedelta(seconds=1)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), timedelta(minutes=1)),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), timedelta(hours=1)),
    **dict.fromkeys(("d", "day", "days"), timedelta(days=1)),
    **dict.fromkeys(("w", "week", "weeks"), timedelta(weeks=1)),
}
_DAYS: Final = {"today": 0, "yesterday": 1, "tomorrow": -1}
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A time. ``is_day``: no time of day was given, and it is the start of that day, in the time zone of ``now``."""

    at: datetime
    is_day: bool = False

    @property
    def text(self) -> str:
        """The text to send on: a date stays a date."""
        return f"{self.at:%Y-%m-%d}" if self.is_day else self.at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def read_time(text: str, now: datetime | None = None) -> TimeRange:
    """Read a time. Without ``now``, relative times are not understood.

    Days, and times without an offset, are in the time zone of ``now``; without it, in UTC.

    Raises:
        NotUsableError: it is not a time.
    """
    words = " ".join(text.lower().split())
    zone = (now.tzinfo if now is not None else None) or UTC
    found = _relative(words, now.astimezone(zone)) if now is not None else None
    if found is None:
        try:
            found = _absolute(" ".join(text.split()), zone)
        except (ValueError, OverflowError):
            found = None
    if found is None:
        raise NotUsableError(f"{shown(text)} is not {FORMS}")
    return TimeRange(min(max(found.at, EARLIEST), LATEST), found.is_day)


def _relative(words: str, now: datetime) -> TimeRange | None:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if words == "now":
        return TimeRange(now)
    if words in _DAYS:
        return TimeRange(today - timedelta(days=_DAYS[words]), is_day=True)
    if (name := words.removeprefix("last ")) in _WEEKDAYS:
        # The last one before today: on a Monday, last monday is a week ago.
        return TimeRange(today - timedelta(days=(now.weekday() - _WEEKDAYS.index(name) - 1) % 7 + 1), is_day=True)
    ago = _AGO.fullmatch(words)
    if ago is None or ago[2] not in _UNITS:
        return None
    try:
        return TimeRange(now.astimezone(UTC) - int(ago[1]) * _UNITS[ago[2]])
    except OverflowError:
        return TimeRange(EARLIEST)


def _absolute(text: str, zone: tzinfo) -> TimeRange | None:
    """Raises ValueError or OverflowError if there is no such day or hour."""
    if date := _DATE.fullmatch(text):
        if not date[2] and len(text) != len("20260302"):
            return None
        return TimeRange(datetime(int(date[1]), int(date[3]), int(date[4]), tzinfo=zone), is_day=True)
    parts = _CLOCK.fullmatch(text)
    if parts is None:
        return None
    clock = _ZONE.sub(lambda zone: "+00:00" if zone["utc"] else f"+{zone['offset']}", parts["clock"])
    midnight = _MIDNIGHT.fullmatch(clock)
    if midnight is not None:  # 24:00 is the end of the day
        clock = f"00:00{midnight['zone']}"
    moment = datetime.fromisoformat(f"{parts['date']}T{clock}") + timedelta(days=midnight is not None)
    if moment.tzinfo is None:
        return TimeRange(moment.replace(tzinfo=zone))
    # Near the ends of the calendar, an offset may exceed the range.
    return TimeRange(moment.astimezone(UTC) if EARLIEST.year <= moment.year <= LATEST.year else moment.replace(tzinfo=UTC))
