"""Finds the matches of a search in a text. Pure: returns pieces of text, never markup."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.core.json_text import places, unescaped
from pipeline.core.search import AttemptQuery, Predicate, leaves

_FOUND: Final = frozenset({Predicate.CONT, Predicate.I_CONT, Predicate.START, Predicate.END, Predicate.EQ, Predicate.IN})
_AROUND: Final = 60
_MOST: Final = 200
"""The most matches to mark in one text."""


@dataclass(frozen=True, slots=True)
class HighlightedText:
    """A part of a text."""

    text: str
    is_match: bool = False


def needles(query: AttemptQuery, attribute: str = "request_body") -> tuple[str, ...]:
    """The search terms for an attribute, as typed."""
    found = [leaf for one in query.conditions for leaf in leaves(one)]
    texts = [str(value) for leaf in found if leaf.attribute == attribute and leaf.predicate in _FOUND for value in leaf.values]
    return tuple(dict.fromkeys(texts))


def marked(text: str, wanted: Sequence[str]) -> tuple[HighlightedText, ...]:
    """A text in pieces, with the matches marked."""
    pieces: list[HighlightedText] = []
    end = 0
    for first, last in matches(text, wanted):
        pieces += [HighlightedText(text[end:first]), HighlightedText(text[first:last], is_match=True)]
        end = last
    return tuple(piece for piece in (*pieces, HighlightedText(text[end:])) if piece.text)


def excerpt(text: str, wanted: Sequence[str]) -> tuple[HighlightedText, ...]:
    """The text around the first match, in pieces. Empty if there is no match."""
    match = next(matches(text, wanted), None)
    if match is None:
        return ()
    start, end = match
    first, last = max(start - _AROUND, 0), min(end + _AROUND, len(text))
    before = ("…" if first else "") + text[first:start]
    after = text[end:last] + ("…" if last < len(text) else "")
    return tuple(
        piece
        for piece in (HighlightedText(before), HighlightedText(text[start:end], is_match=True), HighlightedText(after))
        if piece.text
    )


def matches(text: str, wanted: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The start and end of each match, in order and without overlap, up to a maximum number."""
    found = {place for one in wanted if one for place in _places(text, one)}
    end = number = 0
    # Of two matches with the same start, take the longer one.
    for first, last in sorted(found, key=lambda place: (place[0], -place[1])):
        if first >= end and number < _MOST:
            yield first, last
            end, number = last, number + 1


def _places(text: str, wanted: str) -> Iterator[tuple[int, int]]:
    literally = re.finditer(re.escape(wanted), text, re.IGNORECASE)
    yield from (match.span() for match in itertools.islice(literally, _MOST))
    for meant in {wanted, unescaped(wanted)}:
        yield from itertools.islice(places(text, meant), _MOST)
