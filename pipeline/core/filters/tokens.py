"""Splits a filter expression into words, with their positions. Pure.

The library parses and evaluates expressions. It does not report what an evaluation may cost, or which fields of an event it
reads, so the words are examined here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_WORDS: Final = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<text>[rRbB]{0,2}(?:\"\"\".*?\"\"\"|'''.*?'''|"(?:\\.|[^"\\\r\n])*"|'(?:\\.|[^'\\\r\n])*'))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>0[xX][0-9a-fA-F]+[uU]?|[0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|[0-9]+[uU]?)
    |(?P<sign>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
_OPENING: Final = frozenset("([{")
_CLOSING: Final = frozenset(")]}")


class FilterError(ValueError):
    """An invalid filter expression: ``str(error)`` is a sentence that names the position, if there is one."""

    def __init__(self, message: str, text: str = "", position: int | None = None) -> None:
        """``position`` counts the characters of ``text`` before the error."""
        self.column = None if position is None else position - text.rfind("\n", 0, position)
        line = None if position is None else text.count("\n", 0, position) + 1
        place = "" if line is None else f"column {self.column}: " if line == 1 else f"line {line}, column {self.column}: "
        super().__init__(place + message)


@dataclass(frozen=True, slots=True)
class Word:
    """One word. ``kind`` is ``text``, ``name``, ``number`` or ``sign``."""

    kind: str
    text: str
    start: int


def words_of(text: str) -> list[Word]:
    """The words of an expression, without spaces and comments.

    Raises:
        FilterError: a word is not part of the language.
    """
    found: list[Word] = []
    at = 0
    while at < len(text):
        match = _WORDS.match(text, at)
        if match is None:
            what = "the closing quote is missing" if text[at] in "\"'" else f"{text[at]!r} is not valid here"
            raise FilterError(f"{what}.", text, at)
        if match.lastgroup != "space":
            found.append(Word(match.lastgroup or "", match.group(), at))
        at = match.end()
    return found


def conjuncts(words: Sequence[Word]) -> list[Sequence[Word]]:
    """The parts that ``&&`` joins outside of all brackets; everything as one part if an operator binds less tightly."""
    parts: list[Sequence[Word]] = []
    depth = start = 0
    for index, word in enumerate(words):
        if word.kind != "sign":
            continue
        if word.text in _OPENING:
            depth += 1
        elif word.text in _CLOSING:
            depth -= 1
        elif depth == 0 and word.text in ("||", "?"):
            return [words]
        elif depth == 0 and word.text == "&&":
            parts.append(words[start:index])
            start = index + 1
    return [*parts, words[start:]]


def closing(words: Sequence[Word], opening: int) -> int:
    """The index of the bracket that closes the one at ``opening``; the end if there is none."""
    depth = 0
    for index in range(opening, len(words)):
        if words[index].kind == "sign":
            depth += (words[index].text in _OPENING) - (words[index].text in _CLOSING)
            if depth == 0:
                return index
    return len(words)


def plain_text(word: Word) -> str | None:
    """The value of a text in simple quotes; None for other forms (raw, bytes, three quotes, rare escapes)."""
    quoted = word.text
    if word.kind != "text" or quoted[0] not in "\"'" or quoted.startswith(('"""', "'''")):
        return None
    if "\\" not in quoted:
        return quoted[1:-1]
    try:
        return str(json.loads(quoted)) if quoted[0] == '"' else None
    except ValueError:
        return None


def member_path(words: Sequence[Word], start: int) -> tuple[tuple[str, ...], int]:
    """The members named after the word at ``start`` (``.a.b["c"]``), without a function's name, and the index after them."""
    names: list[str] = []
    at = start + 1
    while at + 1 < len(words):
        sign, name = words[at].text, words[at + 1]
        if sign == "." and name.kind == "name" and not (at + 2 < len(words) and words[at + 2].text == "("):
            names.append(name.text)
            at += 2
        elif sign == "[" and (text := plain_text(name)) is not None and at + 2 < len(words) and words[at + 2].text == "]":
            names.append(text)
            at += 3
        else:
            break
    return tuple(names), at
