r"""Conditions on bodies as SQL: on the published bytes, and on the text that they mean to a reader. Pure.

A body is JSON, and each language's encoder escapes different characters: ``Müller`` may be written as ``M\u00fcller``. So a body
is searched twice: as it is, and with its escapes undone (``…_text``). Letters are compared after full case folding and NFC. The
two differ in few strings. ``request_body_strings`` holds these strings, folded, and has its own index; it is empty for most bodies
(see migration 0030). A search text lies within one string of a body, unless it contains a quote that may be one of JSON's own. In
that case, and for whole bodies (``start``, ``end``, ``eq``, ``matches``), the index finds the pieces between quotes, and the full
text decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.core.json_text import folded, unescaped
from pipeline.core.search import Predicate, Value
from pipeline.store.bound_values import BoundValues
from pipeline.store.search.like_patterns import SHAPES, like_pattern, literals, wildcard_pattern

NGRAM: Final = 3
"""The length of the n-grams in the indexes of bodies."""
_PIECES: Final = 4
"""How many pieces of a search text are looked up in the index: the longest ones."""

# A quote that can begin or end a JSON string, depending on its neighbours.
_JSONS_OWN_QUOTE: Final = re.compile(r'"\s*(?:[:,}\]]|$)|(?:^|[:,\[{])\s*"')


@dataclass(frozen=True, slots=True)
class Body:
    """A column with a body."""

    column: str
    text: str
    """The column with the body's escapes undone."""
    differs: str
    """The condition that the two can differ after folding."""
    strings: str = ""
    """The column with the strings that differ, if there is one."""


BODIES: Final = {
    "request_body": Body("request_body", "request_body_text", "request_body_strings != ''", "request_body_strings"),
    "response_body": Body(
        "response_body",
        "response_body_text",
        r"(position(response_body, '\\') > 0 OR length(response_body) != lengthUTF8(response_body))",
    ),
}
"""By attribute."""


def is_body_test(attribute: str, predicate: Predicate) -> bool:
    """Whether this module handles a condition."""
    return attribute in BODIES and predicate in (*SHAPES, Predicate.EQ, Predicate.IN)


def body_test(attribute: str, predicate: Predicate, values: Sequence[Value], parameters: BoundValues) -> str:
    """A condition on a body, without negation."""
    tests = _tests(BODIES[attribute], predicate, [str(value) for value in values], parameters)
    return _or(*tests.of_bytes, *tests.of_text)


def body_tests(attribute: str, predicate: Predicate, values: Sequence[Value], parameters: BoundValues) -> list[str]:
    """The same in two parts, one of which must hold: a condition on the bytes and one on the text. Each has its own index."""
    tests = _tests(BODIES[attribute], predicate, [str(value) for value in values], parameters)
    return [_or(*part) for part in (tests.of_bytes, tests.of_text) if part]


@dataclass(frozen=True, slots=True)
class _Tests:
    """Conditions, one of which must hold."""

    of_bytes: list[str]
    of_text: list[str]


def _tests(body: Body, predicate: Predicate, texts: Sequence[str], parameters: BoundValues) -> _Tests:
    if predicate in (Predicate.EQ, Predicate.IN):
        pairs = [_equals(body, text, parameters) for text in texts]
        return _Tests([of_bytes for of_bytes, _ in pairs], [of_text for _, of_text in pairs])
    if predicate in (Predicate.CONT, Predicate.I_CONT):
        return _contains(body, texts[0], parameters)
    text = texts[0]
    is_pattern = predicate is Predicate.MATCHES
    pattern = _Pattern(text, wildcard_pattern(text) if is_pattern else like_pattern(text, SHAPES[predicate]), parameters)
    pieces = literals(text) if is_pattern else (text,)
    return _Tests(pattern.in_bytes(body), [_as_a_whole(body, pattern, pieces, parameters)])


def index_knows(predicate: Predicate, text: str) -> bool:
    """Whether the index can find the bodies that contain a text."""
    if predicate is Predicate.MATCHES or len(text) < NGRAM:
        return False
    if predicate in (Predicate.CONT, Predicate.I_CONT):
        return all(_is_long(one) and (not _may_span(one) or bool(_long_pieces((one,)))) for one in _readings(text))
    return bool(_long_pieces((text,)))


def _contains(body: Body, text: str, parameters: BoundValues) -> _Tests:
    tests = _Tests([], [])
    for reading in _readings(text):
        pattern = _Pattern(reading, like_pattern(reading), parameters)
        if reading == text:
            # A literal occurrence is always found, whatever else the text may mean.
            tests.of_bytes.extend(pattern.in_bytes(body))
        elif not (body.strings and "\\" in reading):
            # In JSON, a backslash in the bytes is an escape: "C:\\new" in a text is not the bytes "C:\new", which mean a line break.
            tests.of_bytes.append(pattern.folded_in(f"lowerUTF8({body.column})"))
        if not body.strings:
            tests.of_text.append(_as_a_whole(body, pattern, (), parameters))
            continue
        tests.of_text.append(pattern.folded_in(body.strings))
        if _may_span(reading):
            tests.of_text.append(_as_a_whole(body, pattern, (reading,), parameters))
    return tests


def _equals(body: Body, text: str, parameters: BoundValues) -> tuple[str, str]:
    """The condition on the bytes, and the one on the text."""
    value = parameters.add(text, "String")
    pattern = _Pattern(text, like_pattern(text), parameters)
    composed = f"normalizeUTF8NFC({value})"
    same = f"{body.column} = {value}" if text.isascii() else f"{body.column} IN ({value}, {composed})"
    # Equal implies contained, and the index answers that.
    contained = _or(*pattern.in_bytes(body))
    says = f"normalizeUTF8NFC({body.text}) = {composed}"
    return _and(contained, same), _and(body.differs, *_located(body, (text,), parameters), says)


def _as_a_whole(body: Body, pattern: _Pattern, pieces: Iterable[str], parameters: BoundValues) -> str:
    says = pattern.folded_in(f"normalizeUTF8NFC(caseFoldUTF8({body.text}))")
    return _and(body.differs, *_located(body, pieces, parameters), says)


def _located(body: Body, texts: Iterable[str], parameters: BoundValues) -> list[str]:
    """The condition that a body contains these texts in its bytes or in its strings, which the index can answer."""
    if not body.strings:
        return []
    patterns = [_Pattern(piece, like_pattern(piece), parameters) for piece in _long_pieces(texts)]
    return [_or(one.folded_in(f"lowerUTF8({body.column})"), one.folded_in(body.strings)) for one in patterns]


class _Pattern:
    """A bound LIKE pattern. The server lowercases or folds it, by the same rules as the columns."""

    def __init__(self, text: str, pattern: str, parameters: BoundValues) -> None:
        self._is_ascii = text.isascii()
        self._bound = parameters.add(pattern, "String")

    def in_bytes(self, body: Body) -> list[str]:
        """The conditions for a match in the body's bytes. For ASCII, folding is lowercasing."""
        lower = f"lowerUTF8({body.column})"
        tests = [f"{lower} LIKE lowerUTF8({self._bound})"]
        return tests if self._is_ascii else [*tests, self.folded_in(lower)]

    def folded_in(self, expression: str) -> str:
        """The condition that a folded expression matches."""
        return f"{expression} LIKE normalizeUTF8NFC(caseFoldUTF8({self._bound}))"


def _readings(text: str) -> tuple[str, ...]:
    """What a search text may mean: itself, or, if it was pasted from a raw body, the text without its escapes."""
    meant = unescaped(text)
    return (text, meant) if meant != text and _is_long(meant) else (text,)


def _may_span(text: str) -> bool:
    return '"' in text and _JSONS_OWN_QUOTE.search(text) is not None


def _long_pieces(texts: Iterable[str]) -> list[str]:
    """The longest pieces between quotes that the index can find."""
    return sorted({piece for text in texts for piece in text.split('"') if _is_long(piece)}, key=lambda one: (-len(one), one))[
        :_PIECES
    ]


def _is_long(text: str) -> bool:
    return len(folded(text)) >= NGRAM


def _and(*tests: str) -> str:
    return f"({' AND '.join(tests)})"


def _or(*tests: str) -> str:
    return f"({' OR '.join(tests)})"
