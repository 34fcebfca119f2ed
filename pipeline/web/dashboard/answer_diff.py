"""The differences between the answers to two attempts, line by line. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.web.dashboard.json_format import pretty
from schemas.http.attempts import AttemptDetailAnswer

_MAX_LINES: Final = 1_000
_MAX_LINE: Final = 2_000
_NO_NEWS: Final = frozenset({"date"})
"""Headers that always differ between two answers."""


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line in both answers, only in the earlier one, or only in the later one; or a gap between differences."""

    kind: Literal["same", "removed", "added", "gap"]
    text: str = ""


def answer_diff(earlier: AttemptDetailAnswer, later: AttemptDetailAnswer) -> tuple[DiffLine, ...]:
    """The differing lines with some context. Empty if the answers are the same."""
    before, after = _lines(earlier), _lines(later)
    found: list[DiffLine] = []
    for group in difflib.SequenceMatcher(None, before, after).get_grouped_opcodes(3):
        if found:
            found.append(DiffLine("gap"))
        for operation, first, last, begin, end in group:
            if operation == "equal":
                found += [DiffLine("same", line) for line in before[first:last]]
            else:
                found += [DiffLine("removed", line) for line in before[first:last]]
                found += [DiffLine("added", line) for line in after[begin:end]]
    return tuple(found)


def _lines(attempt: AttemptDetailAnswer) -> Sequence[str]:
    status = str(attempt.http_status_code) if attempt.http_status_code is not None else attempt.error or "no response"
    headers = sorted(f"{name.lower()}: {value}" for name, value in attempt.response_headers if name.lower() not in _NO_NEWS)
    body = pretty(attempt.response_body) if attempt.response_body_encoding == "text" else attempt.response_body
    return [line[:_MAX_LINE] for line in (status, *headers, *([""] if body else []), *body.splitlines())][:_MAX_LINES]
