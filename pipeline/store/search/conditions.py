"""A search as SQL conditions with bound parameters. No value ever becomes part of a statement's text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.core.search import (
    ATTRIBUTES,
    NOTHING,
    AttemptQuery,
    Combinator,
    Condition,
    ConditionGroup,
    Filter,
    Kind,
    Predicate,
    Sort,
    Value,
    leaves,
)
from pipeline.core.search.predicates import POSITIVE
from pipeline.store.bound_values import BoundValues
from pipeline.store.search.body_conditions import body_test, body_tests, index_knows, is_body_test
from pipeline.store.search.like_patterns import SHAPES, like_pattern, wildcard_pattern

EVENT_ATTRIBUTES: Final = frozenset(
    {
        *("event_id", "idempotency_key", "event_name", "order_number", "shipment_number", "subscription_id"),
        *("stock_item_id", "sku"),
    }
)
"""The columns that events and attempts have in common, under the same names."""

# Attributes whose column in `attempts` has another name. The webhook-id, by which receivers recognize retries, is the event's id.
_COLUMNS: Final = {"idempotency_key": "event_id", "shipment_number": "shipment_numbers", "sku": "skus"}

_TYPES: Final = {Kind.INTEGER: "Int64", Kind.NUMBER: "Float64", Kind.TIME: "Int64", Kind.BOOLEAN: "Bool"}
_OPERATORS: Final = {
    Predicate.EQ: "=",
    Predicate.GT: ">",
    Predicate.GTEQ: ">=",
    Predicate.LT: "<",
    Predicate.LTEQ: "<=",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def where(filters: Sequence[Filter], parameters: BoundValues, candidates: str = "1") -> str:
    """Filters, all of which must hold, as an expression over ``attempts``.

    ``candidates`` is an expression over ``events``: attempts of other events cannot match.
    """
    return _joined(Combinator.AND, filters, parameters, candidates) if filters else "1"


def event_where(filters: Sequence[Filter], parameters: BoundValues) -> list[str]:
    """The given filters that concern the event, as expressions over ``events``."""
    return [
        _expression(one, parameters, "1") for one in filters if all(leaf.attribute in EVENT_ATTRIBUTES for leaf in leaves(one))
    ]


def indexed_bodies(filters: Sequence[Filter], parameters: BoundValues) -> list[str]:
    """The given filters on bodies that the indexes can answer, as expressions over ``events``, one of which must hold.

    There are two expressions if each can be looked up with its own index: both at once take ClickHouse twice as long.
    """
    found = [one for one in filters if isinstance(one, Condition) and is_indexed(one)]
    if len(found) == 1:
        return body_tests(found[0].attribute, found[0].predicate, found[0].values, parameters)
    return [" AND ".join(f"({_test(one, parameters)})" for one in found)] if found else []


def is_indexed(one: Filter) -> bool:
    """Whether the index can find the bodies, because every value is long enough for the n-grams."""
    if not isinstance(one, Condition) or not one.values or not _asks_for_body(one):
        return False
    return all(index_knows(one.predicate, str(value)) for value in one.values)


def has_body(one: Filter) -> bool:
    """Whether the condition needs the bodies of events."""
    return any(ATTRIBUTES[leaf.attribute] is Kind.BODY for leaf in leaves(one))


def order_by(query: AttemptQuery) -> str:
    """The order of a search: newest first, and always the same order for the same rows."""
    if query.in_time is not None:
        direction = "DESC" if query.in_time.descending else "ASC"
        return f"created_at {direction}, id {direction}"
    # Names come from the table of attributes, not from the request.
    return ", ".join([*(_in_order(one) for one in query.sorts), "created_at DESC", "id DESC"])


def _in_order(sort: Sort) -> str:
    """As in PostgreSQL, rows without a value are the largest: last in ascending order, first in descending."""
    column, direction = _COLUMNS.get(sort.attribute, sort.attribute), "DESC" if sort.descending else "ASC"
    if ATTRIBUTES[sort.attribute] is Kind.TEXT:
        return f"{column} = '' {direction}, {column} {direction}"
    return f"{column} {direction} NULLS {'FIRST' if sort.descending else 'LAST'}"


def milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970."""
    return (moment - _EPOCH) // _MILLISECOND


def _joined(combinator: Combinator, parts: Sequence[Filter], parameters: BoundValues, candidates: str) -> str:
    """The parts of a group. Conditions on bodies are combined into one lookup, because every lookup has a cost."""
    bodies = [part for part in parts if isinstance(part, Condition) and _asks_for_body(part)]
    others = [part for part in parts if part not in bodies]
    expressions = [_expression(part, parameters, candidates) for part in others]
    if bodies:
        tests = [_test(part, parameters) for part in bodies]
        expressions.append(_events(f" {combinator.upper()} ".join(tests), candidates))
    return f" {combinator.upper()} ".join(expressions)


def _asks_for_body(condition: Condition) -> bool:
    return ATTRIBUTES[condition.attribute] is Kind.BODY and condition.predicate not in POSITIVE


def _expression(one: Filter, parameters: BoundValues, candidates: str) -> str:
    """A negation also holds for rows without a value: an attempt without an answer has a status other than 200."""
    if one == NOTHING:
        return "0"
    if isinstance(one, ConditionGroup):
        return f"({_joined(one.combinator, one.parts, parameters, candidates)})"
    positive = POSITIVE.get(one.predicate)
    test = _test(Condition(one.attribute, positive or one.predicate, one.values), parameters)
    if ATTRIBUTES[one.attribute] is Kind.BODY:
        test = _events(test, candidates)
    return f"NOT ifNull({test}, 0)" if positive else f"({test})"


def _events(test: str, candidates: str) -> str:
    """The index of bodies finds the events, and their ids find the attempts. IN, because an event may have two rows."""
    return " ".join(("event_id IN (SELECT event_id FROM events WHERE", candidates, "AND (", test, "))"))


def _test(condition: Condition, parameters: BoundValues) -> str:
    """A condition without negation, as an expression over the columns of its table."""
    kind = ATTRIBUTES[condition.attribute]
    column = _COLUMNS.get(condition.attribute, condition.attribute)
    if is_body_test(condition.attribute, condition.predicate):
        return body_test(condition.attribute, condition.predicate, condition.values, parameters)
    test = _array_test if kind is Kind.TEXTS else _scalar_test
    return test(column, kind, condition.predicate, condition.values, parameters)


def _scalar_test(column: str, kind: Kind, predicate: Predicate, values: Sequence[Value], parameters: BoundValues) -> str:
    if not values:
        present = f"{column} IS NOT NULL" if kind in _TYPES else f"{column} != ''"
        return {Predicate.TRUE: column, Predicate.FALSE: f"NOT {column}"}.get(predicate, present)
    if predicate in SHAPES:
        like = f"lowerUTF8({column}) LIKE {_pattern(predicate, values[0], parameters)}"
        return _of_value(column, like) if predicate is Predicate.MATCHES else like
    if predicate is Predicate.IN:
        if kind is Kind.TIME:
            return f"toUnixTimestamp64Milli({column}) IN {_bind_all(kind, values, parameters)}"
        return f"{column} IN {_bind_all(kind, values, parameters)}"
    if isinstance(values[0], datetime):
        return f"{column} {_OPERATORS[predicate]} {parameters.time(milliseconds(values[0]))}"
    test = f"{column} {_OPERATORS[predicate]} {parameters.add(values[0], _TYPES.get(kind, 'String'))}"
    return _of_value(column, test) if kind is Kind.TEXT and predicate in (Predicate.LT, Predicate.LTEQ) else test


def _of_value(column: str, test: str) -> str:
    """A missing text is stored as an empty one. Like NULL, it is not less than others and matches no pattern."""
    return f"({column} != '' AND {test})"


def _array_test(column: str, kind: Kind, predicate: Predicate, values: Sequence[Value], parameters: BoundValues) -> str:
    if predicate in (Predicate.PRESENT, Predicate.NOT_NULL):
        return f"notEmpty({column})"
    if predicate in SHAPES:
        return f"arrayExists(element -> lowerUTF8(element) LIKE {_pattern(predicate, values[0], parameters)}, {column})"
    # hasAny, even for a single value: the Bloom filters support it.
    return f"hasAny({column}, {_bind_all(kind, values, parameters)})"


def _pattern(predicate: Predicate, value: Value, parameters: BoundValues) -> str:
    text = str(value)
    pattern = wildcard_pattern(text) if predicate is Predicate.MATCHES else like_pattern(text, SHAPES[predicate])
    # The server lowercases it, by the same rules as the column.
    return f"lowerUTF8({parameters.add(pattern, 'String')})"


def _bind_all(kind: Kind, values: Sequence[Value], parameters: BoundValues) -> str:
    plain = [milliseconds(value) if isinstance(value, datetime) else value for value in values]
    return parameters.add(plain, f"Array({_TYPES.get(kind, 'String')})")
