"""JSON for readers: indented, colored, foldable, and with matches marked. Pure: returns pieces of text, never markup."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pipeline.web.dashboard.highlight import marked, matches
from pipeline.web.dashboard.json_format import is_json, pretty

Mark = Literal["", "open", "inside", "close"]

_TOKEN: Final = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*"(?=\s*:))|(?P<str>"(?:[^"\\]|\\.)*")|(?P<num>-?\d[^\s,\]}]*)|(?P<word>true|false|null)'
)
_MAX_COLOURED: Final = 200_000
"""In characters. A longer text would make a page of many megabytes."""
_MAX_FOLDS: Final = 100
_DEEPEST_FOLD: Final = 5
_FEWEST_LINES: Final = 3


@dataclass(frozen=True, slots=True)
class JsonPiece:
    """A part of the text with its kind (``key``, ``str``, ``num``, ``word`` or none), or a boundary of a fold.

    ``open`` precedes the line that stays visible when folded, ``inside`` follows that line, ``close`` follows the hidden part.
    """

    text: str = ""
    kind: str = ""
    is_match: bool = False
    fold: Mark = ""


def json_pieces(text: str, wanted: Sequence[str] = ()) -> tuple[JsonPiece, ...]:
    """A text in pieces. Text that is not JSON, or is very long, is neither colored nor foldable."""
    laid_out = pretty(text)
    if len(laid_out) > _MAX_COLOURED or not is_json(text):
        return tuple(JsonPiece(one.text, is_match=one.is_match) for one in marked(laid_out, wanted))
    return tuple(_Writer(laid_out, list(matches(laid_out, wanted))).pieces())


class _Writer:
    def __init__(self, text: str, found: Sequence[tuple[int, int]]) -> None:
        self._text = text
        self._lines = text.split("\n")
        self._found = found
        self._begins = [first for first, _ in found]

    def pieces(self) -> Iterator[JsonPiece]:
        opens, closes = _folds(self._lines)
        begin = 0
        for number, line in enumerate(self._lines):
            indent = len(line) - len(line.lstrip(" "))
            # The line break before a closing bracket is folded too, so that the bracket follows on the visible line.
            yield from self._plain(max(begin - 1, 0), begin + indent)
            if number in closes:
                yield JsonPiece(fold="close")
            if number in opens:
                yield JsonPiece(fold="open")
            yield from self._coloured(begin + indent, begin + len(line))
            if number in opens:
                yield JsonPiece(fold="inside")
            begin += len(line) + 1

    def _coloured(self, begin: int, end: int) -> Iterator[JsonPiece]:
        place = begin
        for token in _TOKEN.finditer(self._text, begin, end):
            yield from self._plain(place, token.start())
            yield from self._plain(token.start(), token.end(), token.lastgroup or "")
            place = token.end()
        yield from self._plain(place, end)

    def _plain(self, begin: int, end: int, kind: str = "") -> Iterator[JsonPiece]:
        """A part of the text, split at the start and end of matches."""
        place = begin
        for first, last in self._found[max(bisect_right(self._begins, begin) - 1, 0) :]:
            if first >= end:
                break
            cut, until = max(first, place), min(last, end)
            if cut < until:
                if place < cut:
                    yield JsonPiece(self._text[place:cut], kind)
                yield JsonPiece(self._text[cut:until], kind, is_match=True)
                place = until
        if place < end:
            yield JsonPiece(self._text[place:end], kind)


def _folds(lines: Sequence[str]) -> tuple[set[int], set[int]]:
    """The lines at which folds start and end: the first folds that are long enough and not nested too deeply."""
    opens: set[int] = set()
    closes: set[int] = set()
    stack: list[int] = []
    ends: dict[int, int] = {}
    for number, line in enumerate(lines):
        if line.lstrip(" ")[:1] in ("}", "]"):
            ends[stack.pop()] = number
        if line.endswith(("{", "[")):
            stack.append(number)
    depth: list[int] = []
    for begin in sorted(ends):
        while depth and depth[-1] < begin:
            depth.pop()
        depth.append(ends[begin])
        if ends[begin] - begin > _FEWEST_LINES and len(depth) <= _DEEPEST_FOLD and len(opens) < _MAX_FOLDS:
            opens.add(begin)
            closes.add(ends[begin])
    return opens, closes
