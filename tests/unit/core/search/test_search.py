"""The parser of searches: what it accepts, and how it reports what it does not."""

from __future__ import annotations

import operator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.search import (
    ATTRIBUTES,
    NOTHING,
    PREDICATES,
    AttemptQuery,
    Combinator,
    Condition,
    ConditionGroup,
    Cursor,
    Filter,
    Kind,
    Predicate,
    SearchLimitError,
    Sort,
    decode_cursor,
    parse_query,
)
from pipeline.core.search.attributes import WORDS
from pipeline.core.search.predicates import INVERSE
from pipeline.core.search.times import FORMS


def parsed(*pairs: tuple[str, str]) -> AttemptQuery:
    return parse_query(pairs)


def only(name: str, *values: str) -> Filter:
    query = parse_query([(f"q[{name}]", value) for value in values])
    assert query.ignored == ()
    [condition] = query.conditions
    return condition


def why(name: str, value: str = "1") -> str:
    query = parse_query([(f"q[{name}]", value)])
    assert query.conditions == ()
    [reason] = query.ignored
    return reason


def test_an_empty_query_matches_everything() -> None:
    assert parsed() == AttemptQuery(conditions=(), sorts=(), page=1, per_page=25, ignored=())


@pytest.mark.parametrize(
    ("name", "value", "condition"),
    [
        ("order_number_eq", "R1", Condition("order_number", Predicate.EQ, ("R1",))),
        ("order_number_not_eq", "R1", Condition("order_number", Predicate.NOT_EQ, ("R1",))),
        ("order_number_i_cont", " r1 ", Condition("order_number", Predicate.I_CONT, ("r1",))),
        ("event_id_eq", "evt_1", Condition("event_id", Predicate.EQ, ("evt_1",))),
        ("event_name_start", "order", Condition("event_name", Predicate.START, ("order",))),
        ("event_eq", "order_completed", Condition("event_name", Predicate.EQ, ("order_completed",))),
        ("event_not_in", "x", Condition("event_name", Predicate.NOT_IN, ("x",))),
        ("endpoint_id_eq", "7", Condition("endpoint_id", Predicate.EQ, (7,))),
        ("id_gteq", "-9223372036854775808", Condition("id", Predicate.GTEQ, (-(2**63),))),
        ("duration_ms_lt", "1.5", Condition("duration_ms", Predicate.LT, (1.5,))),
        ("state_eq", "Failed", Condition("state", Predicate.EQ, ("failed",))),
        ("sku_in", "MUG", Condition("sku", Predicate.IN, ("MUG",))),
        ("request_body_cont", "100%_\\", Condition("request_body", Predicate.CONT, ("100%_\\",))),
        ("error_present", "1", Condition("error", Predicate.PRESENT)),
        ("error_present", "0", Condition("error", Predicate.BLANK)),
        ("http_status_code_null", "false", Condition("http_status_code", Predicate.NOT_NULL)),
        ("http_status_code_not_null", "TRUE", Condition("http_status_code", Predicate.NOT_NULL)),
    ],
)
def test_conditions(name: str, value: str, condition: Condition) -> None:
    assert only(name, value) == condition


@pytest.mark.parametrize(
    ("name", "value", "predicate", "moment"),
    [
        ("created_at_gt", "2026-03-02", Predicate.GTEQ, datetime(2026, 3, 2, tzinfo=UTC)),
        ("created_at_gteq", "2026-03-02", Predicate.GTEQ, datetime(2026, 3, 2, tzinfo=UTC)),
        ("created_at_lt", "2026-03-02", Predicate.LT, datetime(2026, 3, 3, tzinfo=UTC)),
        ("created_at_lteq", "2026-12-31", Predicate.LT, datetime(2027, 1, 1, tzinfo=UTC)),
        ("created_at_eq", "2026-03-02", Predicate.EQ, datetime(2026, 3, 2, tzinfo=UTC)),
        ("created_at_lteq", "2026-03-02T15:04:00.512Z", Predicate.LTEQ, datetime(2026, 3, 2, 15, 4, 0, 512_000, tzinfo=UTC)),
        ("created_at_gt", "2026-03-02 15:04", Predicate.GT, datetime(2026, 3, 2, 15, 4, tzinfo=UTC)),
        ("created_at_gt", "2026-03-02T01:00:00+02:00", Predicate.GT, datetime(2026, 3, 1, 23, tzinfo=UTC)),
    ],
)
def test_times(name: str, value: str, predicate: Predicate, moment: datetime) -> None:
    assert only(name, value) == Condition("created_at", predicate, (moment,))


def test_lists() -> None:
    both: Filter = Condition("shipment_number", Predicate.IN, ("H1", "H2"))
    assert parsed(("q[shipment_number_in][]", "H1"), ("q[shipment_number_in][]", "H2")).conditions == (both,)
    assert parsed(("q[shipment_number_in][0]", "H1"), ("q[shipment_number_in][1]", "H2")).conditions == (both,)
    assert parsed(("q[shipment_number_in][7]", "H2"), ("q[shipment_number_in][0]", "H1")) == AttemptQuery((both,))
    last = parsed(("q[shipment_number_in]", "H1"), ("q[shipment_number_in]", "H2"))
    assert last.conditions == (Condition("shipment_number", Predicate.IN, ("H2",)),)
    assert last.ignored == ("q[shipment_number_in]: only the last value counts, H1 was left out; several are written with []",)


def test_conditions_keep_their_order() -> None:
    query = parsed(("q[sku_eq]", "A"), ("page", "2"), ("q[state_eq]", "failed"))
    assert query.conditions == (Condition("sku", Predicate.EQ, ("A",)), Condition("state", Predicate.EQ, ("failed",)))


@pytest.mark.parametrize("value", ["", " ", "\t\n"])
def test_blank_values_are_dropped_and_noted(value: str) -> None:
    found = parsed(("q[order_number_eq]", value), ("q[s]", value), ("page", value), ("q[nonsense]", value), ("q[s]", value))
    assert found == AttemptQuery(blank=("q[order_number_eq]", "q[s]", "q[nonsense]"))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("order_numbr_eq", "1", "order_numbr_eq: attempts have no attribute order_numbr"),
        ("order_number_like", "1", "order_number_like: it does not end in a predicate such as _eq"),
        ("eq", "1", "eq: it does not end in a predicate such as _eq"),
        ("token_eq", "1", "token_eq: attempts have no attribute token"),
        ("secret_cont", "1", "secret_cont: attempts have no attribute secret"),
        ("order_number_or_typo_eq", "1", "order_number_or_typo_eq: attempts have no attribute typo"),
        ("m", "xor", "q[m]: xor is neither and nor or; and is used"),
        ("g", "1", "q[g]: it must contain groups or conditions, such as q[g][0][state_eq]"),
        ("g][0", "1", "q[g][0]: it must contain conditions, such as q[g][0][state_eq]"),
        ("g][0][state_eqq", "1", "q[g][0][state_eqq]: it does not end in a predicate such as _eq"),
        ("c][0][p", "eq", "q[c][0]: a condition needs attributes (a) and a predicate (p)"),
        ("state_eq]x", "1", "q[state_eq]x]: write conditions as q[order_number_eq]"),
    ],
)
def test_ignored_parameters_are_reported(name: str, value: str, reason: str) -> None:
    assert why(name, value) == reason


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("endpoint_id_eq", "abc", "endpoint_id_eq: abc is not a whole number"),
        ("endpoint_id_eq", "1_0", "endpoint_id_eq: 1_0 is not a whole number"),
        ("endpoint_id_eq", "٣", "endpoint_id_eq: ٣ is not a whole number"),
        ("duration_ms_gt", "nan", "duration_ms_gt: nan is not a number"),
        ("state_eq", "done", "state_eq: done is not succeeded or failed"),
        ("trigger_eq", "retry", "trigger_eq: retry is not event, repeat, resend or test"),
        (
            "outcome_not_eq",
            "deliverd",
            "outcome_not_eq: deliverd is not delivered, repeated, exhausted, discarded or expired",
        ),
        ("created_at_gt", "yesterday", f"created_at_gt: yesterday is not {FORMS}"),
        ("endpoint_id_cont", "7", "endpoint_id_cont: cont does not work with a whole number"),
        ("sku_gt", "A", "sku_gt: gt does not work with several texts"),
        ("error_present", "maybe", "error_present: maybe is neither 1 nor 0"),
        ("error_eq", "\ud800", "error_eq: the value is not valid UTF-8"),
        ("endpoint_id_true", "1", "endpoint_id_true: true does not work with a whole number"),
        (
            "state_or_sku_and_id_eq",
            "1",
            "state_or_sku_and_id_eq: it may combine attributes with _or_ or with _and_, not with both",
        ),
        ("g][0][state_eq][x", "1", "q[g][0][state_eq]: write several values as q[order_number_in][]=A&q[order_number_in][]=B"),
        ("state_eq][x", "1", "q[state_eq]: write several values as q[order_number_in][]=A&q[order_number_in][]=B"),
        ("created_at_lt", "garbage", f"created_at_lt: garbage is not {FORMS}"),
        ("endpoint_id_not_eq", "abc", "endpoint_id_not_eq: abc is not a whole number"),
        ("endpoint_id_eq", "7abc", "endpoint_id_eq: 7abc is not a whole number"),
        ("endpoint_id_gt", "7.9", "endpoint_id_gt: 7.9 is not a whole number"),
        ("endpoint_id_in][", "7,11", "endpoint_id_in: 7,11 is not a whole number"),
        ("order_number_null", "on", "order_number_null: on is neither 1 nor 0"),
    ],
)
def test_an_invalid_value_is_reported_and_finds_nothing(name: str, value: str, reason: str) -> None:
    query = parse_query([(f"q[{name}]", value)])
    assert (query.conditions, query.ignored) == ((NOTHING,), (reason,))


def test_a_query_that_is_not_a_hash_is_ignored() -> None:
    assert parsed(("q", "R1")).ignored == ("q: write conditions as q[order_number_eq]",)


def test_an_invalid_value_does_not_invalidate_the_others() -> None:
    query = parsed(("q[endpoint_id_in][]", "7"), ("q[endpoint_id_in][]", "x"), ("q[endpoint_id_in][]", "8"))
    assert query.conditions == (Condition("endpoint_id", Predicate.IN, (7, 8)),)
    assert query.ignored == ("endpoint_id_in: x is not a whole number",)


def test_an_extra_value_is_reported_where_one_is_expected() -> None:
    query = parsed(("q[order_number_eq]", "R1"), ("q[order_number_eq]", "R2"))
    assert query.conditions == (Condition("order_number", Predicate.EQ, ("R2",)),)
    assert query.ignored == ("q[order_number_eq]: only the last value counts, R1 was left out; several are written with []",)
    query = parsed(("q[order_number_eq][]", "R1"), ("q[order_number_eq][]", "R2"))
    assert query.conditions == (Condition("order_number", Predicate.EQ, ("R2",)),)
    assert query.ignored == ("order_number_eq: it takes one value, R1 was left out",)


def test_a_comparison_with_an_invalid_value_is_never_true() -> None:
    either = parsed(("q[order_number_or_endpoint_id_eq]", "R1"))
    assert either.conditions == (ConditionGroup(Combinator.OR, (Condition("order_number", Predicate.EQ, ("R1",)), NOTHING)),)
    assert either.ignored == ("order_number_or_endpoint_id_eq: R1 is not a whole number",)
    for name in ("endpoint_id_not_in][", "endpoint_id_eq_all][", "endpoint_id_gt_all]["):
        assert parsed((f"q[{name}]", "7"), (f"q[{name}]", "x")).conditions == (NOTHING,)
    [some] = parsed(("q[endpoint_id_gt_any][]", "7"), ("q[endpoint_id_gt_any][]", "x")).conditions
    assert some == Condition("endpoint_id", Predicate.GT, (7,))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("duration_ms_lt", "1e3", 1000.0),
        ("duration_ms_lt", ".5", 0.5),
        ("duration_ms_lt", "80.", 80.0),
        ("duration_ms_lt", "+1E-3", 0.001),
        ("duration_ms_lt", "1e400", 1.7976931348623157e308),
        ("endpoint_id_eq", "+7", 7),
        ("endpoint_id_eq", "007", 7),
        ("endpoint_id_eq", "7.0", 7),
        ("endpoint_id_eq", "7e2", 700),
        ("endpoint_id_eq", "9223372036854775807", 2**63 - 1),
        ("endpoint_id_eq", "9" * 5000, 2**63 - 1),
        ("endpoint_id_eq", "-9223372036854775808", -(2**63)),
        ("endpoint_id_eq", "-" + "9" * 20, -(2**63)),
        ("endpoint_id_eq", "0" * 30 + "7", 7),
    ],
)
def test_numbers(name: str, value: str, expected: float) -> None:
    condition = only(name, value)
    assert isinstance(condition, Condition)
    assert [(type(one), one) for one in condition.values] == [(type(expected), expected)]


def test_sorts() -> None:
    query = parsed(("q[s][]", "created_at desc"), ("q[s][]", "event"), ("q[s][]", "id sideways"), ("q[s][]", "request_body"))
    assert query.sorts == (Sort("created_at", descending=True), Sort("event_name"), Sort("id"))
    assert query.ignored == (
        "s: sideways is neither asc nor desc; asc is used",
        "s: attempts cannot be sorted by request_body",
    )
    for text in ("duration_ms DESC", "duration_ms  desc", "duration_ms\tdesc"):
        assert parsed(("q[s]", text)) == AttemptQuery(sorts=(Sort("duration_ms", descending=True),))
    numbered = parsed(("q[s][0]", "endpoint_id asc"), ("q[s][1]", "id"))
    assert numbered == AttemptQuery(sorts=(Sort("endpoint_id"), Sort("id")))


@pytest.mark.parametrize(
    ("page", "per_page", "expected"),
    [
        ("1", "25", (1, 25)),
        ("3", "200", (3, 200)),
        ("0", "0", (1, 1)),
        ("-5", "-5", (1, 1)),
        ("x", "x", (1, 25)),
        ("2", "201", (2, 200)),
        ("999999999999999999", "100000", (10**9, 200)),
        ("9" * 100, "9" * 100, (10**9, 200)),
        ("+2", "-" + "9" * 100, (2, 1)),
    ],
)
def test_pages(page: str, per_page: str, expected: tuple[int, int]) -> None:
    query = parsed(("page", page), ("per_page", per_page))
    assert (query.page, query.per_page) == expected


def test_unrelated_parameters_are_ignored() -> None:
    assert parsed(("strict", "1"), ("attempts_count", "3"), ("query", "x")) == AttemptQuery()


def test_every_attribute_accepts_every_predicate_of_its_kind() -> None:
    samples = {
        Kind.INTEGER: "1",
        Kind.NUMBER: "1",
        Kind.TIME: "2026-03-02T00:00:00Z",
        Kind.STATE: "failed",
        Kind.BOOLEAN: "true",
    }
    for attribute, kind in ATTRIBUTES.items():
        for predicate in PREDICATES[kind]:
            sample = WORDS[attribute][0] if attribute in WORDS else samples.get(kind, "text")
            condition = only(f"{attribute}_{predicate}", "1" if predicate in INVERSE else sample)
            assert isinstance(condition, Condition)
            assert (condition.attribute, condition.predicate) == (attribute, predicate)


def eq(attribute: str, *values: str | int) -> Condition:
    return Condition(attribute, Predicate.EQ, values)


def either(*parts: Filter) -> ConditionGroup:
    return ConditionGroup(Combinator.OR, parts)


def every(*parts: Filter) -> ConditionGroup:
    return ConditionGroup(Combinator.AND, parts)


def cont(attribute: str, value: str) -> Condition:
    return Condition(attribute, Predicate.CONT, (value,))


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("state_eq_any", ["failed"], Condition("state", Predicate.IN, ("failed",))),
        ("order_number_eq_any", ["A", "B"], Condition("order_number", Predicate.IN, ("A", "B"))),
        ("order_number_in_any", ["A", "B"], Condition("order_number", Predicate.IN, ("A", "B"))),
        ("order_number_not_eq_all", ["A", "B"], Condition("order_number", Predicate.NOT_IN, ("A", "B"))),
        ("order_number_not_in_all", ["A", "B"], Condition("order_number", Predicate.NOT_IN, ("A", "B"))),
        ("sku_eq_all", ["A", "B"], every(eq("sku", "A"), eq("sku", "B"))),
        ("sku_in_all", ["A", "B"], every(eq("sku", "A"), eq("sku", "B"))),
        (
            "sku_not_eq_any",
            ["A", "B"],
            either(Condition("sku", Predicate.NOT_EQ, ("A",)), Condition("sku", Predicate.NOT_EQ, ("B",))),
        ),
        ("request_body_cont_any", ["a", "b"], either(cont("request_body", "a"), cont("request_body", "b"))),
        ("request_body_cont_all", ["a", "b"], every(cont("request_body", "a"), cont("request_body", "b"))),
        ("request_body_cont_all", ["a"], cont("request_body", "a")),
        ("order_number_or_event_id_eq", ["A"], either(eq("order_number", "A"), eq("event_id", "A"))),
        ("order_number_and_event_id_eq", ["A"], every(eq("order_number", "A"), eq("event_id", "A"))),
        (
            "order_number_or_error_present",
            ["0"],
            either(Condition("order_number", Predicate.BLANK), Condition("error", Predicate.BLANK)),
        ),
        (
            "error_or_sku_cont_all",
            ["a", "b"],
            either(every(cont("error", "a"), cont("error", "b")), every(cont("sku", "a"), cont("sku", "b"))),
        ),
        (
            "id_lt_any",
            ["1", "2"],
            either(Condition("id", Predicate.LT, (1,)), Condition("id", Predicate.LT, (2,))),
        ),
        ("response_truncated_true", ["0"], Condition("response_truncated", Predicate.NOT_TRUE)),
        ("response_truncated_not_false", ["1"], Condition("response_truncated", Predicate.NOT_FALSE)),
        ("error_does_not_match", ["a%_"], Condition("error", Predicate.DOES_NOT_MATCH, ("a%_",))),
    ],
)
def test_forms_and_combinators(name: str, values: list[str], expected: Filter) -> None:
    assert only(f"{name}][", *values) == expected


FAILED = eq("state", "failed")


@pytest.mark.parametrize(
    ("pairs", "conditions"),
    [
        ([("q[g][0][state_eq]", "failed")], (FAILED,)),
        (
            [("q[g][0][m]", "or"), ("q[g][0][state_eq]", "failed"), ("q[g][0][order_number_eq]", "X"), ("q[id_eq]", "1")],
            (either(FAILED, eq("order_number", "X")), eq("id", 1)),
        ),
        (
            [
                ("q[g][a][g][b][m]", "or"),
                ("q[g][a][g][b][id_eq]", "1"),
                ("q[g][a][g][b][id_in][]", "2"),
                ("q[g][a][state_eq]", "failed"),
            ],
            (every(either(eq("id", 1), Condition("id", Predicate.IN, (2,))), FAILED),),
        ),
        (
            [("q[g][][m]", "or"), ("q[g][][id_eq]", "1"), ("q[g][][sku_eq]", "A"), ("q[g][][id_eq]", "2")],
            (either(eq("id", 1), eq("sku", "A")), eq("id", 2)),
        ),
        (
            [
                ("q[g][0][c][0][a][0][name]", "order_number"),
                ("q[g][0][c][0][a][1][name]", "event_id"),
                ("q[g][0][c][0][m]", "or"),
                ("q[g][0][c][0][p]", "eq"),
                ("q[g][0][c][0][v][0][value]", "X"),
            ],
            (either(eq("order_number", "X"), eq("event_id", "X")),),
        ),
        (
            [("q[c][0][a][]", "sku"), ("q[c][0][p]", "eq_any"), ("q[c][0][v][]", "A"), ("q[c][0][v][]", "B")],
            (Condition("sku", Predicate.IN, ("A", "B")),),
        ),
        ([("q[c][0][a]", "event"), ("q[c][0][p]", "eq"), ("q[c][0][v]", "x")], (eq("event_name", "x"),)),
    ],
)
def test_groups(pairs: list[tuple[str, str]], conditions: tuple[Filter, ...]) -> None:
    assert parsed(*pairs) == AttemptQuery(conditions=conditions)


def test_an_empty_group_is_reported() -> None:
    assert parsed(("q[g][0][m]", "or")) == AttemptQuery(ignored=("q[g][0]: the group has no conditions",))


def test_a_condition_with_a_blank_value_is_ignored() -> None:
    pairs = [("q[c][0][a][0][name]", "state"), ("q[c][0][p]", "eq"), ("q[c][0][v][0][value]", " ")]
    reason = "q[c][0]: a condition needs a value (v)"
    assert parsed(*pairs) == AttemptQuery(blank=("q[c][0][v][0][value]",), ignored=(reason,))


def test_the_combinator_or() -> None:
    query = parsed(("q[m]", "or"), ("q[state_eq]", "failed"), ("q[id_eq]", "1"))
    assert query.combinator is Combinator.OR
    assert query.required == (either(FAILED, eq("id", 1)),)
    assert parsed(("q[m]", "or"), ("q[state_eq]", "failed")).required == (FAILED,)
    assert parsed(("q[g][0][state_eq]", "failed"), ("q[g][0][id_eq]", "1")).required == (FAILED, eq("id", 1))


def test_sorts_in_long_form() -> None:
    query = parsed(
        ("q[s][0][name]", "created_at"), ("q[s][0][dir]", "desc"), ("q[sorts][1][name]", "id"), ("q[s][2][name]", "token")
    )
    assert query.sorts == (Sort("created_at", descending=True), Sort("id"))
    assert query.ignored == ("s: attempts cannot be sorted by token",)


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([("q[order_number_eq_any][]", str(n)) for n in range(10_000)], "at most 2,000 filters and values"),
        ([("q[order_number_in][]", str(n)) for n in range(1_001)], "at most 1,000 values"),
        ([("q[error_cont_any][]", str(n)) for n in range(201)], "at most 200 conditions"),
        ([("q[order_number_eq]", "x" * 1_000_000)], "1,000,000 characters; at most 20,000"),
        ([("q" + "[g][0]" * 6 + "[state_eq]", "failed")], "nested 5 deep"),
        ([("q" + "[g][0]" * 1_000 + "[state_eq]", "failed")], "nested too deeply"),
        ([("after", "x")], "not a cursor"),
        ([("after", Cursor(1, 1).encode()), ("q[s]", "id desc")], "sorted by created_at only"),
        ([("after", Cursor(1, 1).encode()), ("q[s]", "created_at asc")], "opposite order"),
    ],
)
def test_searches_beyond_a_limit_are_refused(pairs: list[tuple[str, str]], reason: str) -> None:
    with pytest.raises(SearchLimitError, match=reason):
        parse_query(pairs)


def test_groups_may_be_nested_as_deep_as_the_error_says() -> None:
    query = parse_query([("q" + "[g][0]" * 5 + "[state_eq]", "failed")])
    assert query.conditions == (FAILED,)
    assert query.ignored == ()


def test_the_number_of_notes_is_limited() -> None:
    ignored = parse_query([(f"q[typo_{n}]", "1") for n in range(1_000)]).ignored
    assert len(ignored) == 51
    assert ignored[-1] == "and 950 more were left out"


@given(st.integers(-(10**13), 10**14), st.integers(-(2**63), 2**63 - 1), st.booleans())
def test_cursors(time: int, identifier: int, descending: bool) -> None:
    cursor = Cursor(time, identifier, descending)
    assert decode_cursor(cursor.encode()) == cursor
    order = [] if descending else [("q[s]", "created_at asc")]
    assert parse_query([("after", cursor.encode()), ("page", "7"), *order]).after == cursor


@given(st.text(max_size=40))
def test_invalid_cursors(text: str) -> None:
    found = decode_cursor(text)
    assert found is None or decode_cursor(found.encode()) == found


@given(st.integers(0, 10**6), st.sampled_from(["gt", "gteq", "lt", "lteq"]))
def test_times_between_milliseconds_compare_exactly(micros: int, predicate: str) -> None:
    """Rows have whole milliseconds: the answer to any comparison is that of the exact time."""
    asked = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(microseconds=micros)
    condition = only(f"created_at_{predicate}", asked.isoformat())
    assert isinstance(condition, Condition)
    [value] = condition.values
    assert isinstance(value, datetime)
    bound = value - timedelta(microseconds=value.microsecond % 1000)
    compare = {"gt": operator.gt, "gteq": operator.ge, "lt": operator.lt, "lteq": operator.le}
    for row in (asked.replace(microsecond=asked.microsecond // 1000 * 1000) + timedelta(milliseconds=n) for n in (-1, 0, 1)):
        assert compare[condition.predicate.value](row, bound) is compare[predicate](row, asked)


names = st.one_of(
    st.builds(
        lambda attribute, predicate: f"q[{attribute}_{predicate}]",
        st.sampled_from(sorted(ATTRIBUTES)),
        st.sampled_from(sorted(Predicate)),
    ),
    st.text(max_size=20).map(lambda text: f"q[{text}]"),
    st.sampled_from(["q[s]", "q[s][]", "page", "per_page", "q", "q[m]", "q[g][0][m]", "q[g][][m]", "q[c][0][a][]", "q[c][0][p]"]),
    st.lists(st.sampled_from(["g", "c", "a", "v", "p", "m", "s", "0", "", "name", "value", "state_eq", "id_in"]), max_size=8).map(
        lambda path: "q" + "".join(f"[{part}]" for part in path)
    ),
    st.text(max_size=10),
)


@given(st.lists(st.tuples(names, st.text(st.characters(), max_size=20)), max_size=6))
def test_the_parser_never_fails(pairs: list[tuple[str, str]]) -> None:
    query = parse_query(pairs)
    assert 1 <= query.per_page <= 200
    assert query.page >= 1
    "".join(query.ignored).encode()
