"""The parser of searches: what it understands, and that it says what it does not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.search import ATTRIBUTES, PREDICATES, AttemptQuery, Condition, Kind, Predicate, Sort, parse_query


def parsed(*pairs: tuple[str, str]) -> AttemptQuery:
    return parse_query(pairs)


def only(name: str, *values: str) -> Condition:
    query = parse_query([(f"q[{name}]", value) for value in values])
    assert query.ignored == ()
    [condition] = query.conditions
    return condition


def why(name: str, value: str = "1") -> str:
    query = parse_query([(f"q[{name}]", value)])
    assert query.conditions == ()
    [reason] = query.ignored
    return reason


def test_nothing_asks_for_everything() -> None:
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
def test_a_condition(name: str, value: str, condition: Condition) -> None:
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
def test_a_time(name: str, value: str, predicate: Predicate, moment: datetime) -> None:
    assert only(name, value) == Condition("created_at", predicate, (moment,))


def test_lists() -> None:
    both = Condition("shipment_number", Predicate.IN, ("H1", "H2"))
    assert parsed(("q[shipment_number_in][]", "H1"), ("q[shipment_number_in][]", "H2")).conditions == (both,)
    assert parsed(("q[shipment_number_in]", "H1"), ("q[shipment_number_in]", "H2")).conditions == (both,)


def test_conditions_keep_their_order() -> None:
    query = parsed(("q[sku_eq]", "A"), ("page", "2"), ("q[state_eq]", "failed"))
    assert [condition.attribute for condition in query.conditions] == ["sku", "state"]


@pytest.mark.parametrize("value", ["", " ", "\t\n"])
def test_blank_values_are_dropped_without_a_word(value: str) -> None:
    assert parsed(("q[order_number_eq]", value), ("q[s]", value), ("page", value), ("q[nonsense]", value)) == AttemptQuery()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("order_numbr_eq", "1", "order_numbr_eq: attempts have no attribute order_numbr"),
        ("order_number_like", "1", "order_number_like: it does not end in a predicate such as _eq"),
        ("eq", "1", "eq: it does not end in a predicate such as _eq"),
        ("token_eq", "1", "token_eq: attempts have no attribute token"),
        ("secret_cont", "1", "secret_cont: attempts have no attribute secret"),
        ("endpoint_id_eq", "abc", "endpoint_id_eq: abc is not a whole number"),
        ("endpoint_id_eq", "1_0", "endpoint_id_eq: 1_0 is not a whole number"),
        ("endpoint_id_eq", "٣", "endpoint_id_eq: ٣ is not a whole number"),
        ("id_eq", str(2**63), f"id_eq: {2**63} is not a whole number"),
        ("duration_ms_gt", "nan", "duration_ms_gt: nan is not a number"),
        ("duration_ms_gt", "1e3", "duration_ms_gt: 1e3 is not a number"),
        ("state_eq", "done", "state_eq: done is not succeeded or failed"),
        ("created_at_gt", "yesterday", "created_at_gt: yesterday is not a time or a date, such as 2026-03-02T15:04:00Z"),
        ("created_at_gt", "0001-01-01", "created_at_gt: 0001-01-01 is not a time or a date, such as 2026-03-02T15:04:00Z"),
        ("endpoint_id_cont", "7", "endpoint_id_cont: cont does not work with a whole number"),
        ("sku_gt", "A", "sku_gt: gt does not work with several texts"),
        ("error_present", "maybe", "error_present: maybe is neither 1 nor 0"),
        ("error_eq", "\ud800", "error_eq: the value is not valid UTF-8"),
        ("m", "or", "m: it does not end in a predicate such as _eq"),
        ("g][0][state_eq", "failed", "q[g][0][state_eq]: conditions look like q[order_number_eq]"),
    ],
)
def test_what_is_ignored_is_reported(name: str, value: str, reason: str) -> None:
    assert why(name, value) == reason


def test_a_query_that_is_no_hash_is_ignored() -> None:
    assert parsed(("q", "R1")).ignored == ("q: conditions look like q[order_number_eq]",)


def test_one_bad_value_of_several_does_not_take_the_others_with_it() -> None:
    query = parsed(("q[endpoint_id_in][]", "7"), ("q[endpoint_id_in][]", "x"), ("q[endpoint_id_in][]", "8"))
    assert query.conditions == (Condition("endpoint_id", Predicate.IN, (7, 8)),)
    assert query.ignored == ("endpoint_id_in: x is not a whole number",)


def test_a_second_value_where_one_is_taken_is_reported() -> None:
    query = parsed(("q[order_number_eq]", "R1"), ("q[order_number_eq]", "R2"))
    assert query.conditions == (Condition("order_number", Predicate.EQ, ("R2",)),)
    assert query.ignored == ("order_number_eq: it takes one value, R1 was left out",)


def test_sorts() -> None:
    query = parsed(("q[s][]", "created_at desc"), ("q[s][]", "event"), ("q[s][]", "id sideways"), ("q[s][]", "request_body"))
    assert query.sorts == (Sort("created_at", descending=True), Sort("event_name"), Sort("id"))
    assert query.ignored == ("s: attempts cannot be sorted by request_body",)
    assert parsed(("q[s]", "duration_ms DESC")).sorts == (Sort("duration_ms", descending=True),)


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
        ("9" * 100, "9" * 100, (1, 25)),
    ],
)
def test_pages(page: str, per_page: str, expected: tuple[int, int]) -> None:
    query = parsed(("page", page), ("per_page", per_page))
    assert (query.page, query.per_page) == expected


def test_keys_of_others_are_none_of_its_business() -> None:
    assert parsed(("strict", "1"), ("attempts_count", "3"), ("query", "x")) == AttemptQuery()


def test_every_attribute_takes_every_predicate_of_its_kind() -> None:
    samples = {Kind.INTEGER: "1", Kind.NUMBER: "1", Kind.TIME: "2026-03-02T00:00:00Z", Kind.STATE: "failed"}
    for attribute, kind in ATTRIBUTES.items():
        for predicate in PREDICATES[kind]:
            bare = {Predicate.PRESENT, Predicate.BLANK, Predicate.NULL, Predicate.NOT_NULL}
            condition = only(f"{attribute}_{predicate}", "1" if predicate in bare else samples.get(kind, "text"))
            assert (condition.attribute, condition.predicate) == (attribute, predicate)


names = st.one_of(
    st.builds(
        lambda attribute, predicate: f"q[{attribute}_{predicate}]",
        st.sampled_from(sorted(ATTRIBUTES)),
        st.sampled_from(sorted(Predicate)),
    ),
    st.text(max_size=20).map(lambda text: f"q[{text}]"),
    st.sampled_from(["q[s]", "q[s][]", "page", "per_page", "q"]),
    st.text(max_size=10),
)


@given(st.lists(st.tuples(names, st.text(st.characters(), max_size=20)), max_size=6))
def test_never_fails(pairs: list[tuple[str, str]]) -> None:
    query = parse_query(pairs)
    assert 1 <= query.per_page <= 200
    assert query.page >= 1
    "".join(query.ignored).encode()
