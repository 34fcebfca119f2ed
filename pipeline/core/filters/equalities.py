"""Extracts comparisons that an index can decide: a path in the payload, and its accepted values. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from pipeline.core.filters.tokens import Word, conjuncts, member_path, plain_text, words_of
from schemas.filter_texts import FilterValue

Equality = tuple[str, tuple[FilterValue, ...]]
"""A path (member names joined by dots) and its values."""

_CONSTANTS: Final[dict[str, FilterValue]] = {"true": True, "false": False, "null": None}


def split(text: str) -> tuple[list[Equality], list[str]]:
    """The comparisons of an expression that an index can decide, and the rest: both must hold.

    Raises:
        FilterError: a word is not part of the language.
    """
    equalities: list[Equality] = []
    rest: list[str] = []
    for part in conjuncts(words_of(text)):
        equality = _equality(part)
        if equality is not None:
            equalities.append(equality)
        elif part:
            rest.append(text[part[0].start : part[-1].start + len(part[-1].text)])
        else:
            return [], [text]  # nothing before or after &&: the library reports it
    return equalities, rest


def checked_members(path: str, texts: Iterable[str]) -> int:
    """How many members of a path, from its first, some of these expressions check with ``has(data.…)``; 0 if none."""
    names, checked = tuple(path.split(".")), 0
    for text in texts:
        words = words_of(text)
        if [word.text for word in words[:3]] == ["has", "(", "data"]:
            found, at = member_path(words, 2)
            if names[: len(found)] == found and [word.text for word in words[at:]] == [")"]:
                checked = max(checked, len(found))
    return checked


def _equality(words: Sequence[Word]) -> Equality | None:
    """``data.a.b == "x"``, ``"x" == data.a.b`` or ``data.a.b in ["x", "y"]``."""
    if not words:
        return None
    if words[0].text == "data" and words[0].kind == "name":
        names, at = member_path(words, 0)
        sign, values = (words[at].text if at < len(words) else ""), words[at + 1 :]
        found = (_values(values[1:-1]) if _is_list(values) else None) if sign == "in" else _one(values) if sign == "==" else None
    else:
        turned = next((index for index, word in enumerate(words[:3]) if word.text == "=="), None)
        if turned is None or turned + 1 >= len(words) or words[turned + 1].text != "data":
            return None
        names, at = member_path(words, turned + 1)
        found = _one(words[:turned]) if at == len(words) else None
    if found is None or not names or not all(name and "." not in name for name in names):
        return None
    return ".".join(names), found


def _is_list(words: Sequence[Word]) -> bool:
    return len(words) >= 2 and words[0].text == "[" and words[-1].text == "]"


def _one(words: Sequence[Word]) -> tuple[FilterValue, ...] | None:
    values = _values(words)
    return values if values is not None and len(values) == 1 else None


def _values(words: Sequence[Word]) -> tuple[FilterValue, ...] | None:
    """Literals separated by commas; None if there is anything else."""
    values: list[FilterValue] = []
    at = 0
    while at < len(words):
        is_negative = words[at].text == "-"
        at += is_negative
        if at >= len(words):
            return None
        value = _literal(words[at], is_negative=is_negative)
        if value is None:
            return None
        values += value
        if at + 1 < len(words) and words[at + 1].text != ",":
            return None
        at += 2
        if at == len(words):  # a trailing comma
            return None
    return tuple(values)


def _literal(word: Word, *, is_negative: bool) -> list[FilterValue] | None:
    """The value in a list; None if the word is not a literal."""
    if word.kind == "number" and word.text[-1] not in "uU" and word.text[:2].lower() != "0x":
        number = float(word.text) if set(word.text) & set(".eE") else int(word.text)
        if number == math.inf:  # such as 1e400, which the endpoint's record could not store
            return None
        return [-number if is_negative else number]
    if is_negative:
        return None
    if word.kind == "name":
        return [_CONSTANTS[word.text]] if word.text in _CONSTANTS else None
    text = plain_text(word)
    return None if text is None else [text]
