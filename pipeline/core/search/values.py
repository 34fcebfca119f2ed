"""Reads typed values as the types of attributes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from pipeline.core.search.attributes import ATTRIBUTES, WORDS, Kind
from pipeline.core.search.predicates import LISTS, ORDER, Predicate
from pipeline.core.search.problems import NeverHoldsError, NotUsableError, shown
from pipeline.core.search.query import Condition, Value
from pipeline.core.search.times import LATEST, read_time

_TRUTHY: Final = frozenset({"1", "t", "T", "true", "TRUE"})
_FALSY: Final = frozenset({"0", "f", "F", "false", "FALSE"})
_WHOLE_WORDS: Final = frozenset({Predicate.EQ, Predicate.NOT_EQ, *LISTS})
_LEAST, _MOST = -(2**63), 2**63 - 1
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?0*([0-9]{1,19})(?:\.0*)?", re.ASCII)
_LARGE: Final = re.compile(r"[+-]?[0-9]{20,}", re.ASCII)
_LARGEST: Final = 1.7976931348623157e308


def condition(attribute: str, predicate: Predicate, text: str, now: datetime | None = None) -> Condition:
    """An attribute compared with one value. ``now`` is the reference of relative times.

    Raises:
        NotUsableError: the attribute cannot have such a value.
    """
    kind = ATTRIBUTES[attribute]
    if attribute in WORDS and predicate in _WHOLE_WORDS:
        return Condition(attribute, predicate, (_word(text, WORDS[attribute]),))
    if kind is not Kind.TIME:
        return Condition(attribute, predicate, (_READ.get(kind, _text)(text),))
    moment = read_time(text, now)
    if predicate in ORDER and moment.is_day:
        # A date without a time: gt and gteq mean the start of that day, lt and lteq its end (so, before the next day).
        if predicate in (Predicate.GT, Predicate.GTEQ):
            return Condition(attribute, Predicate.GTEQ, (moment.at,))
        return Condition(attribute, Predicate.LT, (min(moment.at + timedelta(days=1), LATEST),))
    at = moment.at
    if predicate in (Predicate.GTEQ, Predicate.LT):
        # Times are stored in milliseconds: what is not before this time is not before the next whole millisecond.
        at += timedelta(microseconds=-at.microsecond % 1000)
    return Condition(attribute, predicate, (at,))


def truth(text: str) -> bool:
    """Yes or no, by ransack's rules.

    Raises:
        NeverHoldsError: it is neither.
    """
    if text in _TRUTHY:
        return True
    if text in _FALSY:
        return False
    raise NeverHoldsError(f"{shown(text)} is neither 1 nor 0")


def _integer(text: str) -> int:
    """A whole number. A number beyond the column's range compares as the largest one."""
    # Not int(): it also takes 1_000 and digits of other scripts.
    if _WHOLE.fullmatch(text) or _LARGE.fullmatch(text):
        digits = text.lstrip("+-0").partition(".")[0]
        size = int(digits or 0) if len(digits) < 20 else _MOST + 1
        return max(-size, _LEAST) if text.startswith("-") else min(size, _MOST)
    if _NUMBER.fullmatch(text) and float(text).is_integer() and abs(float(text)) < _MOST:
        return int(float(text))
    raise NotUsableError(f"{shown(text)} is not {Kind.INTEGER.value}")


def _number(text: str) -> float:
    if len(text) < 400 and _NUMBER.fullmatch(text):
        return min(max(float(text), -_LARGEST), _LARGEST)
    raise NotUsableError(f"{shown(text)} is not {Kind.NUMBER.value}")


def _state(text: str) -> str:
    if text.lower() in ("succeeded", "failed"):
        return text.lower()
    raise NotUsableError(f"{shown(text)} is not {Kind.STATE.value}")


def _word(text: str, words: Sequence[str]) -> str:
    if text in words:
        return text
    raise NotUsableError(f"{shown(text)} is not {', '.join(words[:-1])} or {words[-1]}")


def _boolean(text: str) -> bool:
    try:
        return truth(text)
    except NotUsableError:
        raise NotUsableError(f"{shown(text)} is not {Kind.BOOLEAN.value}") from None


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NotUsableError("the value is not valid UTF-8") from error
    return text


_READ: Final[dict[Kind, Callable[[str], Value]]] = {
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
    Kind.STATE: _state,
    Kind.BOOLEAN: _boolean,
}
