"""Where in a text the things are that were searched for. Pure: pieces of text, never markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.core.search import AttemptQuery, Predicate, leaves

_FOUND: Final = frozenset({Predicate.CONT, Predicate.I_CONT, Predicate.START, Predicate.END, Predicate.EQ, Predicate.IN})
_AROUND: Final = 60
_MOST: Final = 200
"""Matches that are marked in one text."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text."""

    text: str
    is_match: bool = False


def needles(query: AttemptQuery, attribute: str = "request_body") -> tuple[str, ...]:
    """What a search looks for in an attribute, as it was typed."""
    found = [leaf for one in query.conditions for leaf in leaves(one)]
    texts = [str(value) for leaf in found if leaf.attribute == attribute and leaf.predicate in _FOUND for value in leaf.values]
    return tuple(dict.fromkeys(texts))


def marked(text: str, wanted: Sequence[str]) -> tuple[Piece, ...]:
    """A text in pieces, those that were searched for marked, in any case."""
    pieces: list[Piece] = []
    end = 0
    for match in _matches(text, wanted):
        pieces += [Piece(text[end : match.start()]), Piece(match[0], is_match=True)]
        end = match.end()
    return tuple(piece for piece in (*pieces, Piece(text[end:])) if piece.text)


def excerpt(text: str, wanted: Sequence[str]) -> tuple[Piece, ...]:
    """The surroundings of the first match, in pieces; nothing when there is none."""
    match = next(iter(_matches(text, wanted)), None)
    if match is None:
        return ()
    first, last = max(match.start() - _AROUND, 0), min(match.end() + _AROUND, len(text))
    before = ("…" if first else "") + text[first : match.start()]
    after = text[match.end() : last] + ("…" if last < len(text) else "")
    return tuple(piece for piece in (Piece(before), Piece(match[0], is_match=True), Piece(after)) if piece.text)


def _matches(text: str, wanted: Sequence[str]) -> Iterable[re.Match[str]]:
    # The longest first: of two that begin at the same place.
    known = sorted(filter(None, wanted), key=len, reverse=True)
    if not known:
        return
    # No quantifier stands in it: it takes time in proportion to the text.
    pattern = re.compile("|".join(map(re.escape, known)), re.IGNORECASE)
    for number, match in enumerate(pattern.finditer(text)):
        if number == _MOST:
            return
        yield match
