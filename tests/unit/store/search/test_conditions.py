"""Searches as SQL: values are bound, never spliced; patterns mean what was typed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.search import ATTRIBUTES, PREDICATES, AttemptQuery, Condition, Kind, Predicate, Sort, Value
from pipeline.core.search.predicates import INVERSE
from pipeline.store.bound_values import BoundValues
from pipeline.store.search.conditions import order_by, where
from pipeline.store.search.like_patterns import like_pattern


def compiled(*conditions: Condition) -> tuple[str, dict[str, object]]:
    parameters = BoundValues()
    return where(conditions, parameters), parameters.values


def test_no_condition_is_always_true() -> None:
    assert compiled() == ("1", {})


def test_a_value_is_bound() -> None:
    assert compiled(Condition("order_number", Predicate.EQ, ("R1",))) == ("(order_number = {p0:String})", {"p0": "R1"})


def test_conditions_are_joined() -> None:
    sql, values = compiled(
        Condition("endpoint_id", Predicate.IN, (7, 8)), Condition("created_at", Predicate.LT, (datetime(2026, 1, 1, tzinfo=UTC),))
    )
    assert sql == "(endpoint_id IN {p0:Array(Int64)}) AND (created_at < fromUnixTimestamp64Milli({p1:Int64}, 'UTC'))"
    assert values == {"p0": [7, 8], "p1": 1767225600000}


def test_a_search_for_a_body_finds_events_and_events_find_attempts() -> None:
    sql, values = compiled(Condition("request_body", Predicate.CONT, ("GÜN",)))
    folded = "normalizeUTF8NFC(caseFoldUTF8({p0:String}))"
    tests = f"lowerUTF8(request_body) LIKE lowerUTF8({{p0:String}}) OR lowerUTF8(request_body) LIKE {folded} OR request_body_strings LIKE {folded}"
    assert sql == f"event_id IN (SELECT event_id FROM events WHERE 1 AND ( ({tests}) ))"
    assert values == {"p0": "%GÜN%"}


@pytest.mark.parametrize(
    ("text", "pattern"),
    [("a", "%a%"), ("100%", "%100\\%%"), ("a_b", "%a\\_b%"), ("\\", "%\\\\%"), ("\\%", "%\\\\\\%%"), ("{}", "%{}%")],
)
def test_patterns(text: str, pattern: str) -> None:
    assert like_pattern(text) == pattern


def test_the_order_is_always_total() -> None:
    assert order_by(AttemptQuery()) == "created_at DESC, id DESC"
    sorts = (Sort("idempotency_key"), Sort("duration_ms", descending=True))
    assert (
        order_by(AttemptQuery(sorts=sorts))
        == "event_id = '' ASC, event_id ASC, duration_ms DESC NULLS FIRST, created_at DESC, id DESC"
    )


MARKER = "marker'\"`;--{x:String}"


@given(st.sampled_from(sorted(ATTRIBUTES)), st.data())
def test_no_value_becomes_part_of_the_statement(attribute: str, data: st.DataObject) -> None:
    kind = ATTRIBUTES[attribute]
    predicate = data.draw(st.sampled_from(sorted(PREDICATES[kind])))
    samples: dict[Kind, Value] = {
        Kind.INTEGER: 987654,
        Kind.NUMBER: 987654.5,
        Kind.TIME: datetime(2026, 1, 1, tzinfo=UTC),
        Kind.BOOLEAN: True,
    }
    values = () if predicate in INVERSE else (samples.get(kind, MARKER),)
    sql, bound = compiled(Condition(attribute, Predicate(predicate), values))
    assert "marker" not in sql
    assert "987654" not in sql
    assert len(bound) >= len(values)
    assert all(f"{{{name}:" in sql for name in bound)
