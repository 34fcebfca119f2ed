from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.matching import MAX_ELEMENTS
from tests.unit.core.equality_oracle import accepts

ORDER: dict[str, Any] = {
    "channel": "spree",
    "total_quantity": 2,
    "rate": 2.5,
    "covered_by_store_credit": True,
    "gift_note": None,
    "ship_address": {"country_iso": "DE", "country": {"iso": "DE"}},
    "line_items": [{"variant": {"sku": "A"}}, {"variant": {"sku": "B"}}, {"variant": None}],
    "tag_list": ["vip", "b2b"],
    "matrix": [[1, 2], [3]],
    "none": [],
}


@pytest.mark.parametrize(
    ("path", "values", "accepted"),
    [
        ("channel", ["spree"], True),
        ("channel", ["app", "spree"], True),
        ("channel", ["Spree"], False),
        ("channel", [], False),
        ("ship_address.country_iso", ["DE", "AT"], True),
        ("ship_address.country.iso", ["DE"], True),
        ("ship_address", ["DE"], False),
        ("total_quantity", [2], True),
        ("total_quantity", [2.0], True),
        ("total_quantity", ["2"], False),
        ("rate", [2.5], True),
        ("covered_by_store_credit", [True], True),
        ("covered_by_store_credit", [1], False),
        ("covered_by_store_credit", [False], False),
        ("total_quantity", [True], False),
        ("gift_note", [None], True),
        ("gift_note", [False, "", 0], False),
        ("absent", [None], True),
        ("absent.deeper", [None], True),
        ("channel.deeper", [None], True),
        ("absent", ["x"], False),
        ("line_items.variant.sku", ["B"], True),
        ("line_items.variant.sku", ["C"], False),
        ("line_items.variant.sku", [None], True),
        ("tag_list", ["vip"], True),
        ("tag_list", ["VIP"], False),
        ("matrix", [3], True),
        ("none", ["x"], False),
    ],
)
def test_a_path_must_have_one_of_its_values(path: str, values: list[object], accepted: bool) -> None:
    assert accepts({path: values}, ORDER) is accepted


def test_every_path_must_have_one() -> None:
    assert accepts({"channel": ["spree"], "gift_note": [None]}, ORDER)
    assert not accepts({"channel": ["spree"], "gift_note": ["x"]}, ORDER)
    assert accepts({}, ORDER)


@pytest.mark.parametrize("payload", [None, 5, "text", {}, {"channel": {"spree": 1}}])
def test_a_payload_without_the_path_is_not_accepted(payload: Any) -> None:
    assert not accepts({"channel": ["spree"]}, payload)
    assert accepts({"missing": [None]}, payload)


def test_a_path_into_an_empty_array_matches_nothing() -> None:
    assert accepts({"none.sku": [None]}, ORDER)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from("abc"), children, max_size=3),
    max_leaves=10,
)


@given(
    json_values,
    st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(".".join),
    st.none() | st.booleans() | st.integers() | st.text(),
)
def test_any_payload_is_accepted_or_not(payload: Any, path: str, value: Any) -> None:
    assert accepts({path: [value]}, payload) in {True, False}


@given(st.dictionaries(st.sampled_from("abc"), st.none() | st.booleans() | st.integers() | st.text(max_size=3), min_size=1))
def test_a_payload_is_accepted_by_its_own_values(payload: dict[str, Any]) -> None:
    assert accepts({name: [value] for name, value in payload.items()}, payload)


def test_only_the_first_elements_of_a_very_long_array_count() -> None:
    payload = {"a": [{"b": 0}] * (MAX_ELEMENTS - 1) + [{"b": 1}, {"b": 2}]}

    assert accepts({"a.b": [1]}, payload)
    assert not accepts({"a.b": [2]}, payload)
    assert accepts({"c": [1]}, {"c": [[[[]], [1]]]})
