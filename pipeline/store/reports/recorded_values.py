"""Finds which of several readings of a searched text exist in the records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from pipeline.core.search import Condition, Predicate, Value
from pipeline.store.bound_values import BoundValues
from pipeline.store.reader import INDEX_FIRST, Reader, sql
from pipeline.store.search.conditions import where

SearchedValue = tuple[str, str]
"""A searchable attribute of attempts, and a value."""

# An attribute's column as texts, and the table with its index. Events are stored before their attempts, and some have no attempts
# because nobody subscribed. Tests are left out: their events have the references of a sample.
_NO_TEST_EVENT: Final = "AND source_topic != 'test'"
_NO_TEST_ATTEMPT: Final = "AND trigger != 'test'"
_PLACES: Final = {
    "order_number": ("[order_number]", "FROM events WHERE", _NO_TEST_EVENT),
    "shipment_number": ("shipment_numbers", "FROM events WHERE", _NO_TEST_EVENT),
    "subscription_id": ("[subscription_id]", "FROM events WHERE", _NO_TEST_EVENT),
    "event_id": ("[event_id]", "FROM events WHERE", _NO_TEST_EVENT),
    "stock_item_id": ("[toString(stock_item_id)]", "FROM events WHERE", _NO_TEST_EVENT),
    "sku": ("skus", "FROM attempts WHERE", _NO_TEST_ATTEMPT),
    "id": ("[toString(id)]", "FROM attempts WHERE", ""),
}
NUMBERS: Final = frozenset({"stock_item_id", "id"})
"""Attributes whose values are whole numbers."""


async def recorded_values(reader: Reader, asked: Iterable[SearchedValue]) -> frozenset[SearchedValue]:
    """The asked values that an event or an attempt has. There is one lookup per attribute, which stops at the first row: of
    several values of one attribute, it may find only one.
    """
    by_attribute: defaultdict[str, list[str]] = defaultdict(list)
    for attribute, value in asked:
        by_attribute[attribute].append(value)
    if not by_attribute:
        return frozenset()
    parameters = BoundValues()
    queries = [_lookup_query(attribute, values, parameters) for attribute, values in by_attribute.items()]
    rows = await reader.rows(" UNION ALL ".join(queries), parameters.values, more=INDEX_FIRST)
    return frozenset((attribute, value) for attribute, found in rows for value in found if value in by_attribute[attribute])


def _lookup_query(attribute: str, texts: list[str], parameters: BoundValues) -> str:
    column, table, real = _PLACES[attribute]
    values: tuple[Value, ...] = tuple(map(int, texts)) if attribute in NUMBERS else tuple(texts)
    test = where([Condition(attribute, Predicate.IN, values)], parameters)
    name = parameters.add(attribute, "String")
    return sql("(SELECT", name, "AS attribute,", column, "AS found", table, test, real, "LIMIT 1)")
