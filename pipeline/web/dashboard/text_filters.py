"""Template filters that format values for people. Pure, except that times of day depend on the reader's time zone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from pipeline.core.counted import counted
from pipeline.web.dashboard.time_zone import local

NOTHING: Final = "\N{EN DASH}"
"""Shown if there is no value."""
_HALF_A_DAY: Final = timedelta(hours=12)
_WITH_A_CLOCK: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d", re.ASCII)
_STEPS: Final = ((86_400, "day"), (3_600, "h"), (60, "min"), (1, "s"))


def ago(time: datetime, now: datetime) -> str:
    """A time relative to now: ``3 min ago``, ``in 2 days``."""
    seconds = (now - time).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    length = span(timedelta(seconds=abs(seconds)))
    return f"{length} ago" if seconds > 0 else f"in {length}"


def span(length: timedelta) -> str:
    """A duration in its largest unit: ``45 s``, ``3 min``, ``2 days``."""
    seconds = length.total_seconds()
    for size, unit in _STEPS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}s" if unit == "day" and count > 1 else f"{count} {unit}"
    return f"{round(seconds * 1000)} ms"


def stamp(time: datetime) -> str:
    """A time to the second, with the reader's zone: ``2026-03-02 16:04:00 CET``."""
    there = local(time)
    name = there.tzname() or ""
    # Zones without an abbreviation are named by their UTC offset.
    return f"{there:%Y-%m-%d %H:%M:%S} {f'UTC{name}' if name[:1] in '+-' else name}"


def minute(time: datetime) -> str:
    """A time of day to the minute, with the reader's zone: ``16:04 CET``."""
    _, of_day, zone = stamp(time).split(" ")
    return f"{of_day[:5]} {zone}"


def hour(time: datetime) -> str:
    """A day and a time to the minute, with the reader's zone: ``2 Mar, 16:00 CET``."""
    there = local(time)
    return f"{there.day} {there:%b}, {minute(time)}"


def utc(time: datetime) -> str:
    """A time to the second, in UTC: ``2026-03-02 15:04:00 UTC``."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def both(time: datetime) -> str:
    """A time in the reader's zone and, if that is another zone, in UTC. For tooltips."""
    return shown if (shown := stamp(time)) == utc(time) else f"{shown} ({utc(time)})"


def clock(time: datetime, now: datetime) -> str:
    """A short time in the reader's zone: ``12:58`` today or within 12 hours, ``2 Mar, 12:58`` this year, else with the year."""
    there, today = local(time), local(now)
    if there.date() == today.date() or abs(time - now) < _HALF_A_DAY:
        return f"{there:%H:%M}"
    year = "" if there.year == today.year else f" {there:%Y}"
    return f"{there.day} {there:%b}{year}, {there:%H:%M}"


def time_of(text: str) -> datetime | None:
    """A time with an offset, as in links. None for other texts, such as a whole day or words."""
    if not _WITH_A_CLOCK.match(text):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if time.tzinfo is None else time


def field_time(text: str) -> str | None:
    """A time in the reader's zone, in the format of a browser's field. Empty text stays empty; None for text that is not a time."""
    if not text:
        return ""
    time = time_of(text)
    if time is None:
        return None
    # Links to an interval end in .999. Without its milliseconds, the form would leave out attempts of its last second.
    there = local(time).replace(tzinfo=None)
    return there.isoformat(timespec="milliseconds" if there.microsecond else "seconds").removesuffix(":00")


def iso(time: datetime) -> str:
    """A time for machines."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def number(value: int) -> str:
    """A count: ``12,345``."""
    return f"{value:,}"


def percent(share: float | None) -> str:
    """A share: ``99.8%``. It is 100% or 0% only if the share is exactly that."""
    if share is None:
        return NOTHING
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{min(max(share * 100, 0.1), 99.9):.1f}%"


def milliseconds(duration: float | None) -> str:
    """A duration: ``12 ms``, ``1.4 s``."""
    if duration is None:
        return NOTHING
    return f"{duration:,.0f} ms" if duration < 1000 else f"{duration / 1000:,.1f} s"


_OUTCOMES: Final[Mapping[str, str]] = {
    "delivered": "delivered",
    "repeated": "will retry",
    "exhausted": "gave up",
    "discarded": "not sent",
    "expired": "waited too long",
    "succeeded": "delivered",
    "failed": "failed",
}


def outcome(name: str) -> str:
    """The outcome of an attempt in plain words. The API and ClickHouse keep the wire name."""
    return _OUTCOMES.get(name, name.replace("_", " "))


def words(name: str) -> str:
    """A wire name for people: ``shipment_shipped`` becomes ``Shipment shipped``, ``not_json`` becomes ``Not JSON``."""
    return name.replace("_", " ").capitalize().replace(" json", " JSON")


def segment(text: str) -> str:
    """A text as one segment of a path, with slashes and other special characters encoded."""
    return quote(text.encode("utf-8", "replace"), safe="")


def is_segment(text: str) -> bool:
    """Whether a page can have this text at the end of its path. Browsers resolve ``.`` and ``..``, encoded or not."""
    return text not in ("", ".", "..")


def about(sentence: str, field: str) -> str:
    """A sentence about a field, without the field's wire name, because it is shown below that field."""
    rest = sentence.removeprefix(f"{field} ")
    return sentence if rest == sentence else rest[:1].upper() + rest[1:]


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    function.__name__: function
    for function in (
        *(ago, span, stamp, utc, both, clock, field_time, iso),
        *(number, counted, percent, milliseconds, words, outcome, segment, is_segment, about),
    )
}
