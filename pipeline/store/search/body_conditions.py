r"""What a search asks of a body, as SQL: of its bytes as they were published, and of what they say to a reader.

A body is JSON, and each language's encoder escapes other characters: ``Müller`` may stand there as ``M\u00fcller``. So a body is looked
at twice: as it is, and with its escapes undone (``…_text``). Letters are compared after full case folding and NFC.
The two differ in some strings only. ``request_body_strings`` holds these strings, folded, and has an index of its own; it is empty for
most bodies (see migration 0030). A needle lies within one string of a body, unless it has a quote that may be one of JSON's own. Then,
and for whole bodies (``start``, ``end``, ``eq``, ``matches``), the index finds the pieces between quotes, and the text decides. Pure.
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
"""Characters that the indexes of the bodies are made of."""
_PIECES: Final = 4
"""So many pieces of a needle the index is asked for, the longest ones."""

# A quote that can end or begin a string of JSON: what is beside it decides.
_JSONS_OWN_QUOTE: Final = re.compile(r'"\s*(?:[:,}\]]|$)|(?:^|[:,\[{])\s*"')


@dataclass(frozen=True, slots=True)
class Body:
    """A column with a body."""

    column: str
    text: str
    """The column with the body's escapes undone."""
    differs: str
    """Whether the two can differ, folded."""
    strings: str = ""
    """The column with the strings that differ, where there is one."""


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
    """Whether a condition is one of those below."""
    return attribute in BODIES and predicate in (*SHAPES, Predicate.EQ, Predicate.IN)


def body_test(attribute: str, predicate: Predicate, values: Sequence[Value], parameters: BoundValues) -> str:
    """A condition on a body that is not a negation."""
    tests = _tests(BODIES[attribute], predicate, [str(value) for value in values], parameters)
    return _or(*tests.of_bytes, *tests.of_text)


def body_tests(attribute: str, predicate: Predicate, values: Sequence[Value], parameters: BoundValues) -> list[str]:
    """The same in two parts, one of which must hold: what the bytes are asked for, and what the text. Each has an index of its own."""
    tests = _tests(BODIES[attribute], predicate, [str(value) for value in values], parameters)
    return [_or(*part) for part in (tests.of_bytes, tests.of_text) if part]


@dataclass(frozen=True, slots=True)
class _Tests:
    """One of them must hold."""

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
    """Whether the index finds the bodies that a text is looked for in."""
    if predicate is Predicate.MATCHES or len(text) < NGRAM:
        return False
    if predicate in (Predicate.CONT, Predicate.I_CONT):
        return all(_is_long(one) and (not _may_span(one) or bool(_long_pieces((one,)))) for one in _readings(text))
    return bool(_long_pieces((text,)))


def _contains(body: Body, text: str, parameters: BoundValues) -> _Tests:
    tests = _Tests([], [])
    for reading in _readings(text):
        pattern = _Pattern(reading, like_pattern(reading), parameters)
        # What is literally there is found whatever it may mean besides.
        tests.of_bytes.extend(pattern.in_bytes(body) if reading == text else [pattern.folded_in(f"lowerUTF8({body.column})")])
        if not body.strings:
            tests.of_text.append(_as_a_whole(body, pattern, (), parameters))
            continue
        tests.of_text.append(pattern.folded_in(body.strings))
        if _may_span(reading):
            tests.of_text.append(_as_a_whole(body, pattern, (reading,), parameters))
    return tests


def _equals(body: Body, text: str, parameters: BoundValues) -> tuple[str, str]:
    """What its bytes must be, and what its text."""
    value = parameters.add(text, "String")
    pattern = _Pattern(text, like_pattern(text), parameters)
    composed = f"normalizeUTF8NFC({value})"
    same = f"{body.column} = {value}" if text.isascii() else f"{body.column} IN ({value}, {composed})"
    # What is equal is contained: for that there is the index.
    contained = _or(*pattern.in_bytes(body))
    says = f"normalizeUTF8NFC({body.text}) = {composed}"
    return _and(contained, same), _and(body.differs, *_located(body, (text,), parameters), says)


def _as_a_whole(body: Body, pattern: _Pattern, pieces: Iterable[str], parameters: BoundValues) -> str:
    says = pattern.folded_in(f"normalizeUTF8NFC(caseFoldUTF8({body.text}))")
    return _and(body.differs, *_located(body, pieces, parameters), says)


def _located(body: Body, texts: Iterable[str], parameters: BoundValues) -> list[str]:
    """What a body with these texts has in its bytes or in its strings: something for the index."""
    if not body.strings:
        return []
    patterns = [_Pattern(piece, like_pattern(piece), parameters) for piece in _long_pieces(texts)]
    return [_or(one.folded_in(f"lowerUTF8({body.column})"), one.folded_in(body.strings)) for one in patterns]


class _Pattern:
    """A LIKE pattern, bound. It is lowered or folded by the server: by the same rules as the columns."""

    def __init__(self, text: str, pattern: str, parameters: BoundValues) -> None:
        self._is_ascii = text.isascii()
        self._bound = parameters.add(pattern, "String")

    def in_bytes(self, body: Body) -> list[str]:
        """That a body matches as it is; of ASCII lower case is all that folding means."""
        lower = f"lowerUTF8({body.column})"
        tests = [f"{lower} LIKE lowerUTF8({self._bound})"]
        return tests if self._is_ascii else [*tests, self.folded_in(lower)]

    def folded_in(self, expression: str) -> str:
        """That something folded matches."""
        return f"{expression} LIKE normalizeUTF8NFC(caseFoldUTF8({self._bound}))"


def _readings(text: str) -> tuple[str, ...]:
    """What somebody may mean by a needle: itself; and, pasted from a raw body, what its escapes stand for."""
    meant = unescaped(text)
    return (text, meant) if meant != text and _is_long(meant) else (text,)


def _may_span(text: str) -> bool:
    return '"' in text and _JSONS_OWN_QUOTE.search(text) is not None


def _long_pieces(texts: Iterable[str]) -> list[str]:
    """The pieces between quotes that the index knows; the longest ones."""
    return sorted({piece for text in texts for piece in text.split('"') if _is_long(piece)}, key=lambda one: (-len(one), one))[
        :_PIECES
    ]


def _is_long(text: str) -> bool:
    return len(folded(text)) >= NGRAM


def _and(*tests: str) -> str:
    return f"({' AND '.join(tests)})"


def _or(*tests: str) -> str:
    return f"({' OR '.join(tests)})"
