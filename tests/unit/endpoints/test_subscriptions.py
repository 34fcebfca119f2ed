"""The index finds the endpoints that a check of each would find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.matching import has_one_of
from pipeline.endpoints import subscriptions
from pipeline.endpoints.endpoint import Endpoint, open_endpoint
from pipeline.endpoints.subscriptions import MatchInput, Subscriptions
from pipeline.endpoints.vault import Vault
from schemas.filter_texts import FilterValue
from tests.unit.core.equality_oracle import accepts
from tests.unit.sample_events import endpoint_record

VAULT = Vault(Vault.new_key())
EVENTS = ("order_completed", "order_cancelled")
scalars = st.sampled_from([None, True, False, 0, 1, 1.0, "1", "DE", "NL"])
paths = st.sampled_from(["state", "store.id", "items.sku", "address"])
filters = st.dictionaries(paths, st.lists(scalars, max_size=3).map(tuple), max_size=3)
payloads = st.fixed_dictionaries(
    {},
    optional={
        "state": scalars,
        "store": st.fixed_dictionaries({}, optional={"id": scalars}),
        "items": st.lists(st.fixed_dictionaries({"sku": scalars}), max_size=3),
        "address": st.one_of(scalars, st.fixed_dictionaries({"country": scalars}), st.lists(scalars, max_size=2)),
    },
)
wanted = st.tuples(filters, st.sets(st.sampled_from(EVENTS), min_size=1), st.booleans())


def endpoint(
    endpoint_id: int,
    wanted_filters: Mapping[str, tuple[FilterValue, ...]],
    events: tuple[str, ...] = EVENTS,
    *,
    active: bool = True,
) -> Endpoint:
    return open_endpoint(endpoint_record(endpoint_id, filters=dict(wanted_filters), events=events, active=active), VAULT)


def checked_one_by_one(endpoints: list[Endpoint], event: str, payload: Any) -> list[int]:
    return sorted(one.id for one in endpoints if event in one.events and accepts(dict(one.filters.equalities), payload))


@given(added=st.lists(wanted, max_size=12), removed=st.sets(st.integers(0, 11)), payload=payloads)
def test_the_index_finds_what_checking_each_endpoint_finds(
    added: list[tuple[dict[str, tuple[FilterValue, ...]], set[str], bool]], removed: set[int], payload: dict[str, Any]
) -> None:
    index = Subscriptions()
    endpoints = [
        endpoint(number, some, tuple(sorted(events)), active=active) for number, (some, events, active) in enumerate(added)
    ]
    for one in endpoints:
        index.add(one)
    for one in endpoints:
        if one.id in removed:
            index.remove(one)
    left = [one for one in endpoints if one.id not in removed]

    for event in EVENTS:
        assert [one.id for one in index.matching(MatchInput(event, lambda: payload))] == checked_one_by_one(left, event, payload)


def test_only_the_filters_of_a_few_endpoints_are_evaluated(monkeypatch: Any) -> None:
    index, asked = Subscriptions(), Counter[str]()

    def counted(payload: Any, path: str, values: Any) -> bool:
        asked["asked"] += 1
        return has_one_of(payload, path, values)

    for number in range(3_000):
        # All have the same state; the store distinguishes them.
        index.add(endpoint(number, {"state": ("complete",), "store.id": (number % 1_000,)}))
    monkeypatch.setattr(subscriptions, "has_one_of", counted)

    found = index.matching(MatchInput("order_completed", lambda: {"state": "complete", "store": {"id": 7}}))

    assert [one.id for one in found] == [7, 1_007, 2_007]
    assert asked.total() <= 20  # comparisons; each endpoint has two


def test_without_filters_no_payload_is_parsed() -> None:
    def parsed() -> Any:
        raise AssertionError("the payload was parsed")

    index = Subscriptions()
    index.add(endpoint(1, {}))
    assert [one.id for one in index.matching(MatchInput("order_completed", parsed))] == [1]
    assert index.matching(MatchInput("stock_item_out_of_stock", parsed)) == []


def test_removed_endpoints_leave_nothing_behind() -> None:
    index = Subscriptions()
    for number in range(10):
        index.add(endpoint(number, {"store.id": (number, number, 3)}))
    for number in range(10):
        index.remove(endpoint(number, {"store.id": (number, number, 3)}))
    assert not index._events["order_completed"]._filtered
    assert not index._events["order_completed"]._paths
