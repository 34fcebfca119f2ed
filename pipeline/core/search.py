"""Searches for attempts as typed values, and the parser that makes them of a query string in the ransack grammar.

``q[order_number_eq]=R1&q[endpoint_id_in][]=7&q[s]=created_at desc&page=2``. What cannot be understood is ignored, as in ransack,
and always reported: a typo must not look like a search that found everything.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

DEFAULT_PER_PAGE: Final = 25
MAX_PER_PAGE: Final = 200
_MAX_PAGE: Final = 10**9

Value = str | int | float | datetime


class Kind(enum.Enum):
    """What an attribute holds; it decides how values are read and which predicates make sense."""

    INTEGER = "a whole number"
    NUMBER = "a number"
    TIME = "a time or a date, such as 2026-03-02T15:04:00Z"
    STATE = "succeeded or failed"
    TEXT = "text"
    TEXTS = "several texts"
    BODY = "the text of a body"


ATTRIBUTES: Final[dict[str, Kind]] = {
    "id": Kind.INTEGER,
    "event_id": Kind.TEXT,
    "event_name": Kind.TEXT,
    "endpoint_id": Kind.INTEGER,
    "target_url": Kind.TEXT,
    "http_status_code": Kind.INTEGER,
    "state": Kind.STATE,
    "outcome": Kind.TEXT,
    "failure": Kind.TEXT,
    "trigger": Kind.TEXT,
    "attempt": Kind.INTEGER,
    "duration_ms": Kind.NUMBER,
    "error": Kind.TEXT,
    "idempotency_key": Kind.TEXT,
    "created_at": Kind.TIME,
    "order_number": Kind.TEXT,
    "shipment_number": Kind.TEXTS,
    "subscription_id": Kind.TEXT,
    "stock_item_id": Kind.INTEGER,
    "sku": Kind.TEXTS,
    "request_body": Kind.BODY,
    "response_body": Kind.TEXT,
}
"""Everything that attempts are searched by (outcome, failure and trigger are ours). Tokens and secrets are not in the store at all."""

_ALIASES: Final = {"event": "event_name"}
SORTABLE: Final = frozenset(ATTRIBUTES) - {"shipment_number", "sku", "request_body", "response_body"}


class Predicate(enum.StrEnum):
    """How an attribute compares with the values. ``cont``, ``start`` and ``end`` ignore case, as in ransack."""

    EQ = "eq"
    NOT_EQ = "not_eq"
    IN = "in"
    NOT_IN = "not_in"
    CONT = "cont"
    I_CONT = "i_cont"
    START = "start"
    END = "end"
    GT = "gt"
    GTEQ = "gteq"
    LT = "lt"
    LTEQ = "lteq"
    PRESENT = "present"
    BLANK = "blank"
    NULL = "null"
    NOT_NULL = "not_null"


_INVERSE: Final = {
    Predicate.PRESENT: Predicate.BLANK,
    Predicate.BLANK: Predicate.PRESENT,
    Predicate.NULL: Predicate.NOT_NULL,
    Predicate.NOT_NULL: Predicate.NULL,
}
_LISTS: Final = frozenset({Predicate.IN, Predicate.NOT_IN})
_SUBSTRING: Final = frozenset({Predicate.CONT, Predicate.I_CONT, Predicate.START, Predicate.END})
_ORDER: Final = frozenset({Predicate.GT, Predicate.GTEQ, Predicate.LT, Predicate.LTEQ})
_EQUALITY: Final = frozenset({Predicate.EQ, Predicate.NOT_EQ, *_LISTS, *_INVERSE})

PREDICATES: Final[dict[Kind, frozenset[Predicate]]] = {
    Kind.INTEGER: _EQUALITY | _ORDER,
    Kind.NUMBER: _EQUALITY | _ORDER,
    Kind.TIME: _EQUALITY | _ORDER,
    Kind.STATE: _EQUALITY,
    Kind.TEXT: _EQUALITY | _ORDER | _SUBSTRING,
    Kind.TEXTS: _EQUALITY | _SUBSTRING,
    Kind.BODY: _EQUALITY | _SUBSTRING,
}

# The longest suffix wins: order_number_not_eq is not_eq of order_number.
_BY_LENGTH: Final = sorted(Predicate, key=lambda predicate: len(predicate.value), reverse=True)
_TRUTHY: Final = frozenset({"1", "t", "T", "true", "TRUE"})
_FALSY: Final = frozenset({"0", "f", "F", "false", "FALSE"})
_KEY: Final = re.compile(r"^q\[([^\[\]]+)\]$")
_DATE: Final = re.compile(r"^\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class Condition:
    """One attribute compared with values: one for most predicates, one or more for lists, none for null and the like."""

    attribute: str
    predicate: Predicate
    values: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Sort:
    """An attribute to sort by."""

    attribute: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class AttemptQuery:
    """A search: all conditions must hold. Without sorts the newest come first. ``ignored`` says what was left out, and why."""

    conditions: tuple[Condition, ...] = ()
    sorts: tuple[Sort, ...] = ()
    page: int = 1
    per_page: int = DEFAULT_PER_PAGE
    ignored: tuple[str, ...] = ()


class _IgnoredError(ValueError):
    """A part of the query that cannot be used; the text says why."""


def parse_query(pairs: Iterable[tuple[str, str]]) -> AttemptQuery:
    """Read the decoded pairs of a query string. Never fails; keys other than ``q``, ``page``, ``per_page`` are not its business."""
    conditions: list[Condition] = []
    sorts: list[Sort] = []
    ignored: list[str] = []
    pages = {"page": 1, "per_page": DEFAULT_PER_PAGE}
    for key, values in _gathered(pairs).items():
        if key in pages:
            # A number that is none means the default, one that is out of range the nearest.
            pages[key] = int(values[-1]) if re.fullmatch(r"-?[0-9]{1,19}", values[-1]) else pages[key]
        elif key in ("q[s]", "q[sorts]"):
            sorts += _sorts(values, ignored)
        elif key == "q" or key.startswith("q["):
            conditions += _conditions(key, values, ignored)
    return AttemptQuery(
        conditions=tuple(conditions),
        sorts=tuple(sorts),
        page=min(max(pages["page"], 1), _MAX_PAGE),
        per_page=min(max(pages["per_page"], 1), MAX_PER_PAGE),
        ignored=tuple(ignored),
    )


def _gathered(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The values of each key that are not blank, stripped. ``q[x][]`` is another way to write ``q[x]``."""
    gathered: dict[str, list[str]] = {}
    for key, value in pairs:
        if stripped := value.strip():
            gathered.setdefault(key.strip().removesuffix("[]"), []).append(stripped)
    return gathered


def _sorts(texts: list[str], ignored: list[str]) -> list[Sort]:
    sorts = []
    for text in texts:
        name, _, direction = text.partition(" ")
        attribute = _ALIASES.get(name, name)
        if attribute in SORTABLE:
            # As in ransack: whatever is not desc is asc.
            sorts.append(Sort(attribute, descending=direction.strip().lower() == "desc"))
        else:
            ignored.append(f"s: attempts cannot be sorted by {_shown(name)}")
    return sorts


def _conditions(key: str, texts: list[str], ignored: list[str]) -> list[Condition]:
    """The condition that a key and its values make: one, or none with a note of why."""
    match = _KEY.match(key)
    if match is None:
        ignored.append(f"{_shown(key)}: conditions look like q[order_number_eq]")
        return []
    name = match[1]
    try:
        attribute, predicate = _split(name)
        if predicate in _INVERSE:
            return _yes_or_no(attribute, predicate, texts[-1])
    except _IgnoredError as reason:
        ignored.append(f"{_shown(name)}: {reason}")
        return []
    if predicate not in _LISTS and len(texts) > 1:
        ignored += [f"{_shown(name)}: it takes one value, {_shown(text)} was left out" for text in texts[:-1]]
        texts = texts[-1:]
    kind = ATTRIBUTES[attribute]
    if kind is Kind.TIME and predicate in _ORDER and _DATE.match(texts[0]):
        # A date without a time: gt and gteq mean the start of that day, lt and lteq its end (so, before the next day).
        predicate = Predicate.GTEQ if predicate in (Predicate.GT, Predicate.GTEQ) else Predicate.LT
    values = []
    for text in texts:
        try:
            values.append(_value(kind, predicate, text))
        except _IgnoredError as reason:
            ignored.append(f"{_shown(name)}: {reason}")
    return [Condition(attribute, predicate, tuple(values))] if values else []


def _split(name: str) -> tuple[str, Predicate]:
    """``order_number_not_eq`` → order_number, not_eq."""
    predicate = next((one for one in _BY_LENGTH if name.endswith(f"_{one.value}")), None)
    if predicate is None:
        raise _IgnoredError("it does not end in a predicate such as _eq")
    stem = name.removesuffix(f"_{predicate.value}")
    attribute = _ALIASES.get(stem, stem)
    if attribute not in ATTRIBUTES:
        raise _IgnoredError(f"attempts have no attribute {_shown(stem)}")
    if predicate not in PREDICATES[ATTRIBUTES[attribute]]:
        raise _IgnoredError(f"{predicate.value} does not work with {ATTRIBUTES[attribute].value}")
    return attribute, predicate


def _yes_or_no(attribute: str, predicate: Predicate, text: str) -> list[Condition]:
    if text in _TRUTHY:
        return [Condition(attribute, predicate)]
    if text in _FALSY:
        return [Condition(attribute, _INVERSE[predicate])]
    raise _IgnoredError(f"{_shown(text)} is neither 1 nor 0")


def _value(kind: Kind, predicate: Predicate, text: str) -> Value:
    if kind is Kind.TIME and predicate is Predicate.LT and _DATE.match(text):
        return _time(text) + timedelta(days=1)
    return _READ.get(kind, _text)(text)


def _integer(text: str) -> int:
    # Not int(): it also takes 1_000 and digits of other scripts, and Int64 is what a column can hold.
    if re.fullmatch(r"[+-]?[0-9]{1,19}", text) and -(2**63) <= int(text) < 2**63:
        return int(text)
    raise _IgnoredError(f"{_shown(text)} is not {Kind.INTEGER.value}")


def _number(text: str) -> float:
    if re.fullmatch(r"[+-]?[0-9]{1,19}(\.[0-9]{1,19})?", text):
        return float(text)
    raise _IgnoredError(f"{_shown(text)} is not {Kind.NUMBER.value}")


def _time(text: str) -> datetime:
    """A time; without an offset it is UTC, without a time of day the day's start."""
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if 1900 <= moment.year < 2299:  # what a column can compare
            return moment
    except (ValueError, OverflowError):
        pass
    raise _IgnoredError(f"{_shown(text)} is not {Kind.TIME.value}")


def _state(text: str) -> str:
    if text.lower() in ("succeeded", "failed"):
        return text.lower()
    raise _IgnoredError(f"{_shown(text)} is not {Kind.STATE.value}")


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _IgnoredError("the value is not valid UTF-8") from error
    return text


def _shown(text: str) -> str:
    """What somebody typed, short and printable, for a note."""
    return repr(text[:60])[1:-1].encode("utf-8", "replace").decode()


_READ: Final[dict[Kind, Callable[[str], Value]]] = {
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
    Kind.TIME: _time,
    Kind.STATE: _state,
}
