"""Filters: what they mean, what is refused at registration, and how they fail on events."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pipeline.core.filters.equalities import split
from pipeline.core.filters.evaluation import Evaluation, EvaluationError, FilterFault, PathTree
from pipeline.core.filters.expression import compile_expression
from pipeline.core.filters.stored import compiled, fields_of, filters_of
from pipeline.core.filters.tokens import FilterError
from schemas.event import EventType
from schemas.filter_texts import FilterValue, expressions_of
from tests.unit.sample_events import endpoint_record, payload_of

ORDER: dict[str, Any] = json.loads(payload_of(EventType.ORDER_COMPLETED)) | {"total": "119.90", "channel": "spree"}
MEMBERS = {"id": "evt_1", "event_name": "order_completed", "created_at": "2026-03-02T15:04:00.512Z"}


def holds(text: str, payload: Any = ORDER) -> bool:
    expression = compile_expression(text)
    return Evaluation(MEMBERS, payload, PathTree(expression.paths)).holds(expression)


def failure(text: str, payload: Any = ORDER) -> EvaluationError:
    with pytest.raises(EvaluationError) as caught:
        holds(text, payload)
    return caught.value


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('data.channel == "spree"', True),
        ('data.channel.startsWith("sp") && event.event_name == "order_completed"', True),
        ('timestamp(event.created_at) > timestamp("2027-01-01T00:00:00Z")', False),
        ('decimal(data.total) >= decimal("100")', True),
        ('decimal(data.total) > decimal("119.9")', False),
        ('decimal(data.total) == decimal("119.900")', True),
        ('decimal(data.total) - decimal("0.1") == decimal("119.8")', True),
        ("data.line_items.exists(i, i.quantity > 0)", True),
        ('data.line_items.all(i, i.variant.sku.startsWith("SKU-9"))', False),
        ("has(data.no_such) || size(data.line_items) > 0", True),
        ('data["channel"] != "spree"', False),
        ('data.number.matches("^[A-Z]+[-0-9A-Z]*$")', True),
        ("data.line_items.filter(i, i.quantity > 0).size() > 0 // a comment", True),
    ],
)
def test_what_expressions_mean(text: str, result: bool) -> None:
    assert holds(text) is result


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("data.total >", "column 13: the expression ends too early."),
        ("data.x == 1 &&\n  data.y >> 3", "line 2, column 11: > was not expected here."),
        ('data.x == "abc', "column 11: the closing quote is missing."),
        ("data.x ~ 1", "column 8: '~' is not valid here."),
        ("order.total == 1 || true", "column 1: order is not defined here; use event or data."),
        ("upper(data.x) == 1", "column 1: there is no function upper."),
        ("data.l.map(i, i + i) == []", "column 8: map is not available; use exists, all or filter."),
        ("data.a.all(a, data.a.all(b, data.a.all(c, true)))", "column 36: loops can be nested 2 deep at most."),
        ("data.l.exists(i, j)", "column 18: j is not defined here; use event, data or i."),
        ("data.l.exists(i, data.l.exists(j, k))", "column 35: k is not defined here; use event, data or i, j."),
        ("data.l.exists(data, true)", "column 15: data cannot be the name of an element."),
        ("data.x.matches(data.y)", "column 8: matches must be given its pattern as a text"),
        ('data.x.matches("[")', "column 16: this is not a valid pattern"),
        ('data.x.matches("a{9999}")', "column 16: a pattern must be a text"),
        ("1 == 2", "the expression uses neither event nor data"),
        ("(" * 900 + "data.x" + ")" * 900, "nested too deeply"),
        ("data.x == 1 && ", "the expression ends too early."),
    ],
)
def test_errors_name_the_position(text: str, sentence: str) -> None:
    with pytest.raises(FilterError) as caught:
        compiled([text])
    assert sentence in str(caught.value)


def test_the_invalid_expression_of_several_is_named() -> None:
    with pytest.raises(FilterError, match=r"^expression 2, column 13: the expression ends too early"):
        compiled(['data.channel == "x"', "data.total >"])


@pytest.mark.parametrize(
    ("text", "fault", "sentence"),
    [
        ("data.nope.x > 1", FilterFault.MISSING_FIELD, "The event has no field 'nope'"),
        ("data.total > 100", FilterFault.TYPE, "different kinds"),
        ("data.channel", FilterFault.TYPE, "result is a string"),
        ("decimal(data.channel) > decimal('1')", FilterFault.VALUE, "needs a decimal number"),
        ("decimal(data.total) > 100", FilterFault.TYPE, "different kinds"),
        ("int(data.channel) == 1", FilterFault.VALUE, "cannot work with a value"),
    ],
)
def test_evaluation_errors_contain_no_values_of_the_event(text: str, fault: FilterFault, sentence: str) -> None:
    found = failure(text)
    assert (found.fault, sentence in str(found)) == (fault, True)
    assert "spree" not in str(found)


@pytest.mark.parametrize("value", ["1e999999", "9" * 15, "NaN", "0.1234567", "", "٣..", "1" * 5000, None, True, [1]])
def test_an_invalid_decimal_fails_at_once(value: object) -> None:
    assert failure('decimal(data.total) > decimal("1")', {"total": value}).fault in {FilterFault.VALUE, FilterFault.TYPE}


def test_very_large_values_are_refused_before_evaluation() -> None:
    wide = {"l": list(range(30_000)), "m": list(range(2_000)), "x": 1}
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]

    assert failure("data.l.exists(i, i == 0)", wide).fault is FilterFault.TOO_LARGE
    slow = failure("data.m.exists(i, data.m.exists(j, i == j + 1))", wide)
    assert (slow.fault, str(slow)) == (
        FilterFault.TOO_LARGE,
        "Evaluating the filter on an event of this size would take too long.",
    )
    assert failure("size(data.d) > 1", {"d": deep}).fault is FilterFault.TOO_LARGE
    assert holds("data.m.exists(i, i == 1999)", wide)

    # The lists themselves count: 20,000 values are read, and then one more.
    assert holds("size(data.l) == 2", {"l": [[0] * 9_999, [0] * 9_998]})
    assert failure("size(data.l) == 2", {"l": [[0] * 9_999, [0] * 9_999]}).fault is FilterFault.TOO_LARGE

    # Other filters are not affected.
    both = [compile_expression("size(data.l) > 0"), compile_expression("data.x > 0")]
    evaluation = Evaluation(MEMBERS, wide, PathTree(path for one in both for path in one.paths))
    assert evaluation.holds(both[1])
    with pytest.raises(EvaluationError):
        evaluation.holds(both[0])


@pytest.mark.parametrize("whole", ["size(data) > 0", "size(data.part) > 0"])
@pytest.mark.parametrize("giant", [list(range(30_000)), int("9" * 400)], ids=["list", "number"])
def test_a_filter_that_reads_a_huge_value_does_not_affect_filters_of_smaller_parts(whole: str, giant: object) -> None:
    expressions = [compile_expression(whole), compile_expression("data.x > 0"), compile_expression("data.part.y > 0")]
    payload = {"x": 1, "part": {"y": 2, "giant": giant}}
    evaluation = Evaluation(MEMBERS, payload, PathTree(path for one in expressions for path in one.paths))

    assert evaluation.holds(expressions[1])
    assert evaluation.holds(expressions[2])
    with pytest.raises(EvaluationError):
        evaluation.holds(expressions[0])


@pytest.mark.parametrize("number", [int("9" * 400), -int("9" * 400), [{"n": 10**309}]], ids=["large", "negative", "inside"])
def test_a_number_that_the_library_refuses_fails_only_the_filters_that_read_it(number: object) -> None:
    found = failure("data.n != 1", {"n": number, "x": 1})
    assert (found.fault, "more than 308 digits" in str(found)) == (FilterFault.VALUE, True)
    assert holds("data.n > 1", {"n": 10**308})

    both = [compile_expression("data.n != 1"), compile_expression("data.x > 0")]
    evaluation = Evaluation(MEMBERS, {"n": number, "x": 1}, PathTree(path for one in both for path in one.paths))
    assert evaluation.holds(both[1])
    with pytest.raises(EvaluationError):
        evaluation.holds(both[0])


def test_a_shared_expression_is_evaluated_once() -> None:
    expression = compile_expression("data.x > 0")
    evaluation = Evaluation(MEMBERS, {"x": 1}, PathTree(expression.paths))
    assert [evaluation.holds(expression) for _ in range(3)] == [True] * 3
    assert evaluation.count == 1


scalars: st.SearchStrategy[FilterValue] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
names = st.one_of(
    st.sampled_from(["channel", "in", "true", "a-b", "ü", 'q"', "x y", "\n"]), st.text(min_size=1, max_size=5)
).filter(lambda name: "." not in name)
paths = st.lists(names, min_size=1, max_size=3).map(".".join)


@given(st.dictionaries(paths, st.lists(scalars, min_size=1, max_size=4).map(tuple), max_size=3))
def test_paths_with_values_become_equivalent_expressions(filters: dict[str, tuple[FilterValue, ...]]) -> None:
    found = compiled(expressions_of(filters))

    assert not found.expressions
    typed = [(path, [(type(value), value) for value in values]) for path, values in found.equalities]
    assert typed == [(path, [(type(value), value) for value in values]) for path, values in filters.items()]
    assert filters_of(endpoint_record(filters=filters)).texts == found.texts
    assert filters_of(replace(endpoint_record(), **fields_of(found))) == found


@pytest.mark.parametrize(
    ("text", "equalities", "rest"),
    [
        ("data.a.b == 1 && 'x' == data.c", [("a.b", (1,)), ("c", ("x",))], []),
        ('data.a in [1, "b", null] && size(data.l) > 1', [("a", (1, "b", None))], ["size(data.l) > 1"]),
        ("data.a == 1 || data.b == 2", [], ["data.a == 1 || data.b == 2"]),
        ("(data.a == 1 && data.b == 2)", [], ["(data.a == 1 && data.b == 2)"]),
        ("!(data.a == 1) && data.b == -2.5", [("b", (-2.5,))], ["!(data.a == 1)"]),
        ("data.a == data.b", [], ["data.a == data.b"]),
        ("data.a == 1u", [], ["data.a == 1u"]),
        ("data.a == 1e400 && data.b in [-1e400]", [], ["data.a == 1e400", "data.b in [-1e400]"]),
        ("data.a == 1 == true", [], ["data.a == 1 == true"]),
        ('data.a == b"x"', [], ['data.a == b"x"']),
        ("data.a.size() == 1", [], ["data.a.size() == 1"]),
    ],
)
def test_equalities_are_extracted_for_the_index(text: str, equalities: list[Any], rest: list[str]) -> None:
    assert split(text) == (equalities, rest)


def test_simple_filters_are_stored_in_a_form_that_every_release_can_read() -> None:
    simple = fields_of(compiled(['data.channel=="spree"']))
    assert simple == {"filters": {"channel": ("spree",)}, "expressions": ('data.channel=="spree"',), "schema_version": 1}
    assert fields_of(compiled(["data.total != null"]))["schema_version"] == 2
    assert fields_of(compiled(["data.a == 1", "data.a == 2"]))["schema_version"] == 2

    record = replace(endpoint_record(), **simple)
    assert filters_of(record).texts == ('data.channel=="spree"',)
    # An older process has changed the filters, and kept the fields that it does not know.
    changed = replace(record, filters={"channel": ("edi",)})
    assert filters_of(changed).texts == ('data.channel == "edi"',)
    # A filter that this release cannot compile accepts nothing.
    newer = replace(record, expressions=("data.x.newFunction()",), schema_version=2)
    assert filters_of(newer).unreadable


@given(
    st.decimals(0, 999_999_999, places=6), st.decimals(0, 999_999_999, places=6), st.sampled_from(["<", "<=", "==", ">", ">="])
)
def test_a_decimal_in_an_expression_equals_the_same_number_of_the_event(one: Decimal, two: Decimal, sign: str) -> None:
    """The library creates the decimals of expressions; we create those of events."""
    expected = holds(f"decimal(data.a) {sign} decimal(data.b)", {"a": str(one), "b": str(two)})
    assert holds(f'decimal(data.a) {sign} decimal("{two}")', {"a": str(one)}) is expected
    assert holds(f'decimal("{one}") {sign} decimal(data.b)', {"b": str(two)}) is expected
    assert holds(f'decimal("{one:f}") == decimal(data.a)', {"a": str(one)})
    assert not holds(f'decimal("{one:f}") < decimal(data.a)', {"a": str(one)})
