"""How values are written for people. Pure; the templates use these as filters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

NOTHING: Final = "\N{EN DASH}"
"""Stands where there is no value."""
_STEPS: Final = ((86_400, "day"), (3_600, "h"), (60, "min"), (1, "s"))


def ago(time: datetime, now: datetime) -> str:
    """How long ago a time was, or how long it is until then: ``3 min ago``, ``in 2 days``."""
    seconds = (now - time).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    length = span(timedelta(seconds=abs(seconds)))
    return f"{length} ago" if seconds > 0 else f"in {length}"


def span(length: timedelta) -> str:
    """A length of time in its largest unit: ``45 s``, ``3 min``, ``2 days``."""
    seconds = length.total_seconds()
    for size, unit in _STEPS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}s" if unit == "day" and count > 1 else f"{count} {unit}"
    return f"{round(seconds * 1000)} ms"


def stamp(time: datetime) -> str:
    """A time to the second, in UTC."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def iso(time: datetime) -> str:
    """A time for machines."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def number(value: int) -> str:
    """A count: ``12,345``."""
    return f"{value:,}"


def percent(share: float | None) -> str:
    """A share: ``99.8%``. Never 100% when something is missing, nor 0% when something is there."""
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


def words(name: str) -> str:
    """A name of the wire for people: ``shipment_shipped`` is ``Shipment shipped``."""
    return name.replace("_", " ").capitalize()


def segment(text: str) -> str:
    """A text as one segment of a path: slashes and all else that means something there are encoded."""
    return quote(text.encode("utf-8", "replace"), safe="")


def about(sentence: str, field: str) -> str:
    """A sentence about a field, below that field: there the field's name on the wire need not be said."""
    rest = sentence.removeprefix(f"{field} ")
    return sentence if rest == sentence else rest[:1].upper() + rest[1:]


def tojson_text(value: object) -> str:
    """A value as JSON, as text: the template escapes it (Jinja's own tojson is for scripts)."""
    return json.dumps(value, ensure_ascii=False)


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    function.__name__: function
    for function in (ago, span, stamp, iso, number, percent, milliseconds, words, segment, about, tojson_text)
}
