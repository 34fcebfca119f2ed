"""What the roles log: the most warnings and errors within a minute."""

from __future__ import annotations

import contextlib
import json
from collections import Counter, deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

_ADDRESS = "health and metrics at"
"""Printed at each start, for humans."""
_CALLING = frozenset({"warning", "error", "critical"})


class LogLine(NamedTuple):
    """A line at the level ``warning`` or above, and its time (seconds since 1970)."""

    at: float
    text: str


def calling_lines(log: Path, since: float = 0.0) -> Iterator[LogLine]:
    """Return those of a JSON log. Other lines were printed past the log (a traceback, a library): they count, at the previous line's time."""
    at = 0.0
    for text in log.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(text)
            at = datetime.fromisoformat(entry["timestamp"]).timestamp()
            calls = entry["level"] in _CALLING
        except (ValueError, KeyError, TypeError):
            calls = _ADDRESS not in text
        if calls and at >= since:
            yield LogLine(at, text)


def times_of(log: Path, event: str) -> list[float]:
    """Return the times of an event in a JSON log (seconds since 1970)."""
    found = []
    for text in log.read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            entry = json.loads(text)
            if entry["event"] == event:
                found.append(datetime.fromisoformat(entry["timestamp"]).timestamp())
    return found


def worst_minute(lines: list[LogLine]) -> list[LogLine]:
    """Return the most lines within any 60 seconds."""
    window: deque[LogLine] = deque()
    worst: list[LogLine] = []
    for line in lines:
        window.append(line)
        while line.at - window[0].at > 60.0:
            window.popleft()
        if len(window) > len(worst):
            worst = list(window)
    return worst


def summary(lines: list[LogLine]) -> str:
    """Return how often each event was logged, with an example."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for line in lines:
        try:
            kind = str(json.loads(line.text).get("event"))
        except (ValueError, AttributeError):
            kind = "(no JSON)"
        counts[kind] += 1
        examples.setdefault(kind, line.text[:600])
    return "\n".join(f"  {count:5} times {kind}: {examples[kind]}" for kind, count in counts.most_common(12))
