"""Values as they are typed, read as what an attribute holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.core.search.attributes import ATTRIBUTES, Kind
from pipeline.core.search.notes import NotUsableError, shown
from pipeline.core.search.predicates import ORDER, Predicate
from pipeline.core.search.tree import Condition, Value

_TRUTHY: Final = frozenset({"1", "t", "T", "true", "TRUE"})
_FALSY: Final = frozenset({"0", "f", "F", "false", "FALSE"})
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def condition(attribute: str, predicate: Predicate, text: str) -> Condition:
    """An attribute compared with one value.

    Raises:
        NotUsableError: the attribute cannot have such a value.
    """
    kind = ATTRIBUTES[attribute]
    if kind is Kind.TIME and predicate in ORDER and _DATE.fullmatch(text):
        # A date without a time: gt and gteq mean the start of that day, lt and lteq its end (so, before the next day).
        if predicate in (Predicate.GT, Predicate.GTEQ):
            return Condition(attribute, Predicate.GTEQ, (_time(text),))
        return Condition(attribute, Predicate.LT, (_time(text) + timedelta(days=1),))
    if kind is Kind.TIME and predicate in (Predicate.GTEQ, Predicate.LT):
        # Times are kept in milliseconds: what is not before this one is not before the next whole one.
        moment = _time(text)
        return Condition(attribute, predicate, (moment + timedelta(microseconds=-moment.microsecond % 1000),))
    return Condition(attribute, predicate, (_READ.get(kind, _text)(text),))


def truth(text: str) -> bool:
    """Yes or no, by ransack's rules.

    Raises:
        NotUsableError: it is neither.
    """
    if text in _TRUTHY:
        return True
    if text in _FALSY:
        return False
    raise NotUsableError(f"{shown(text)} is neither 1 nor 0")


def _integer(text: str) -> int:
    # Not int(): it also takes 1_000 and digits of other scripts, and Int64 is what a column can hold.
    if re.fullmatch(r"[+-]?[0-9]{1,19}", text) and -(2**63) <= int(text) < 2**63:
        return int(text)
    raise NotUsableError(f"{shown(text)} is not {Kind.INTEGER.value}")


def _number(text: str) -> float:
    if re.fullmatch(r"[+-]?[0-9]{1,19}(\.[0-9]{1,19})?", text):
        return float(text)
    raise NotUsableError(f"{shown(text)} is not {Kind.NUMBER.value}")


def _time(text: str) -> datetime:
    """A time; without an offset it is UTC, without a time of day the day's start."""
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if 1900 <= moment.year < 2299:  # what a column can compare
            return moment
    except (ValueError, OverflowError):
        pass
    raise NotUsableError(f"{shown(text)} is not {Kind.TIME.value}")


def _state(text: str) -> str:
    if text.lower() in ("succeeded", "failed"):
        return text.lower()
    raise NotUsableError(f"{shown(text)} is not {Kind.STATE.value}")


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
    Kind.TIME: _time,
    Kind.STATE: _state,
    Kind.BOOLEAN: _boolean,
}
