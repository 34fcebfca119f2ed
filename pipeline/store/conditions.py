"""A search as SQL: conditions with bound parameters. No value ever becomes part of a statement's text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pipeline.core.search import ATTRIBUTES, AttemptQuery, Condition, Kind, Predicate, Value

# Attributes whose column in `attempts` has another name. The webhook-id, which receivers tell repeats by, is the event's id.
_COLUMNS: Final = {"idempotency_key": "event_id", "shipment_number": "shipment_numbers", "sku": "skus"}

_TYPES: Final = {Kind.INTEGER: "Int64", Kind.NUMBER: "Float64", Kind.TIME: "Int64"}
_OPERATORS: Final = {
    Predicate.EQ: "=",
    Predicate.GT: ">",
    Predicate.GTEQ: ">=",
    Predicate.LT: "<",
    Predicate.LTEQ: "<=",
}
_NEGATIONS: Final = {
    Predicate.NOT_EQ: Predicate.EQ,
    Predicate.NOT_IN: Predicate.IN,
    Predicate.BLANK: Predicate.PRESENT,
    Predicate.NULL: Predicate.PRESENT,
}
_PATTERNS: Final = {Predicate.CONT: "%{}%", Predicate.I_CONT: "%{}%", Predicate.START: "{}%", Predicate.END: "%{}"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Parameters:
    """Values on their way to the server, beside the statement."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def add(self, value: Any, type_name: str) -> str:
        """Bind a value; returns the placeholder that stands for it."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"{{{name}:{type_name}}}"


def where(query: AttemptQuery, parameters: Parameters) -> str:
    """The conditions of a search as an expression over ``attempts``."""
    return " AND ".join(_condition(condition, parameters) for condition in query.conditions) or "1"


def order_by(query: AttemptQuery) -> str:
    """The order of a search: the newest first, and always the same order for the same rows."""
    # Names come from the table of attributes, not from the request.
    chosen = [f"{_COLUMNS.get(sort.attribute, sort.attribute)} {'DESC' if sort.descending else 'ASC'}" for sort in query.sorts]
    return ", ".join([*chosen, "created_at DESC", "id DESC"])


def like_pattern(text: str, shape: str = "%{}%") -> str:
    """A LIKE pattern that finds ``text`` as it stands: ``%``, ``_`` and the backslash have no meaning in it."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return shape.replace("{}", escaped)


def _condition(condition: Condition, parameters: Parameters) -> str:
    """One condition. A negation also holds for what has no value: no answer at all is an answer other than 200."""
    kind = ATTRIBUTES[condition.attribute]
    column = _COLUMNS.get(condition.attribute, condition.attribute)
    positive = _NEGATIONS.get(condition.predicate)
    predicate = positive or {Predicate.NOT_NULL: Predicate.PRESENT}.get(condition.predicate, condition.predicate)
    test = _array_test if kind is Kind.TEXTS else _scalar_test
    expression = test(column, kind, predicate, condition.values, parameters)
    if kind is Kind.BODY:
        # The index of the bodies finds the events, the events' ids find the attempts. IN: an event may stand there twice.
        expression = " ".join(("event_id IN (SELECT event_id FROM events WHERE", expression, ")"))
    return f"NOT ifNull({expression}, 0)" if positive else f"({expression})"


def _scalar_test(column: str, kind: Kind, predicate: Predicate, values: Sequence[Value], parameters: Parameters) -> str:
    if predicate is Predicate.PRESENT:
        return f"{column} IS NOT NULL" if kind in _TYPES else f"{column} != ''"
    if shape := _PATTERNS.get(predicate):
        return f"lowerUTF8({column}) LIKE {_lowered(values[0], shape, parameters)}"
    if predicate is Predicate.IN:
        if kind is Kind.TIME:
            return f"toUnixTimestamp64Milli({column}) IN {_bind_all(kind, values, parameters)}"
        return f"{column} IN {_bind_all(kind, values, parameters)}"
    bound = parameters.add(_plain(values[0]), _TYPES.get(kind, "String"))
    if kind is Kind.TIME:
        # As a time, so that weeks that cannot match are left out.
        bound = f"fromUnixTimestamp64Milli({bound}, 'UTC')"
    return f"{column} {_OPERATORS[predicate]} {bound}"


def _array_test(column: str, kind: Kind, predicate: Predicate, values: Sequence[Value], parameters: Parameters) -> str:
    if predicate is Predicate.PRESENT:
        return f"notEmpty({column})"
    if shape := _PATTERNS.get(predicate):
        return f"arrayExists(element -> lowerUTF8(element) LIKE {_lowered(values[0], shape, parameters)}, {column})"
    # hasAny, for one value too: the bloom filters know it.
    return f"hasAny({column}, {_bind_all(kind, values, parameters)})"


def _lowered(value: Value, shape: str, parameters: Parameters) -> str:
    # Lowered by the server: by the same rules as the column.
    return f"lowerUTF8({parameters.add(like_pattern(str(value), shape), 'String')})"


def _bind_all(kind: Kind, values: Sequence[Value], parameters: Parameters) -> str:
    return parameters.add([_plain(value) for value in values], f"Array({_TYPES.get(kind, 'String')})")


def _plain(value: Value) -> str | int | float:
    """Times travel as whole milliseconds since 1970."""
    return (value - _EPOCH) // _MILLISECOND if isinstance(value, datetime) else value
