"""Endpoints with filters: the index decides what it can, the rest is evaluated, and failures are reported."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pipeline.core.filters.evaluation import Evaluation
from pipeline.core.filters.expression import Expression
from pipeline.core.filters.stored import compiled, fields_of
from pipeline.endpoints.endpoint import Endpoint, open_endpoint
from pipeline.endpoints.subscriptions import FilterFailure, MatchInput, Subscriptions
from pipeline.endpoints.vault import Vault
from tests.unit.sample_events import endpoint_record

VAULT = Vault(Vault.new_key())
ORDER = {"channel": "spree", "store_id": 7, "total": "120.0", "line_items": [{"sku": "A"}], "tags": ["new", "vip"]}


def endpoint(endpoint_id: int, *texts: str, events: tuple[str, ...] = ("order_completed",)) -> Endpoint:
    record = endpoint_record(endpoint_id, events=events)
    return open_endpoint(replace(record, **fields_of(compiled(texts))), VAULT)


def index_of(endpoints: Iterable[Endpoint]) -> Subscriptions:
    index = Subscriptions()
    for one in endpoints:
        index.add(one)
    return index


def matched(
    index: Subscriptions, payload: Any = ORDER, event_name: str = "order_completed"
) -> tuple[list[int], list[FilterFailure]]:
    failures: list[FilterFailure] = []
    seen = MatchInput(event_name, lambda: payload, lambda: {"id": "evt_1", "event_name": event_name})
    return [one.id for one in index.matching(seen, failures.append)], failures


def test_all_filters_must_hold() -> None:
    endpoints = [
        endpoint(1, 'data.channel == "spree"', 'decimal(data.total) >= decimal("100")'),
        endpoint(2, 'data.channel == "spree" && decimal(data.total) >= decimal("200")'),
        endpoint(3, 'data.channel == "edi" || data.store_id == 7'),
        endpoint(4, "data.line_items.exists(i, i.sku == 'A')", 'event.id == "evt_1"'),
        endpoint(5, 'data.tags == "vip"'),
        endpoint(6, "data.store_id in [6, 7]", "data.store_id != 6"),
        endpoint(7),
    ]
    index = index_of(endpoints)
    assert matched(index) == ([1, 3, 4, 5, 6, 7], [])
    for one in endpoints[:4]:
        index.remove(one)
    assert matched(index) == ([5, 6, 7], [])


def test_a_failing_filter_accepts_nothing_and_is_reported() -> None:
    index = index_of(
        [
            endpoint(1, 'data.chanel == "spree"'),
            endpoint(2, 'data.chanel == "edi"'),
            endpoint(3, "data.total > 100"),
            endpoint(4, 'data.store_id == 7 && data.shop == "x"'),
            endpoint(5, "data.chanel == null"),
            endpoint(6, "data.total > 100", "data.store_id > 8"),
        ]
    )
    ids, failures = matched(index)

    assert ids == [5]
    assert [(one.endpoint_id, one.expression, one.fault.value) for one in failures] == [
        (None, "data.chanel", "missing_field"),
        (4, "data.shop", "missing_field"),
        (3, "data.total > 100", "type"),
    ]
    assert [one.id for one in index.concerned_by(failures[0])] == [1, 2]
    assert failures[0].reason == "The event has no field 'chanel'."


@pytest.mark.parametrize(
    ("payload", "concerned"),
    [
        ({"note": {"kind": "b"}}, []),
        ({"note": {}}, [2, 3]),  # an endpoint that checks only data.note has made a mistake with data.note.kind
        ({"note": {"kind": None}}, []),
        ({}, [3]),
    ],
)
def test_a_filter_that_checks_for_a_field_does_not_fail_without_it(payload: dict[str, Any], concerned: list[int]) -> None:
    index = index_of(
        [
            endpoint(1, 'has(data.note) && has(data.note.kind) && data.note.kind == "a"'),
            endpoint(2, "has(data.note)", 'data.note.kind == "a"'),
            endpoint(3, 'has(data.other) && data.note.kind == "a"'),
        ]
    )
    ids, failures = matched(index, payload)

    assert ids == []
    assert [one.id for failure in failures for one in index.concerned_by(failure)] == concerned

    index.remove(endpoint(3, 'has(data.other) && data.note.kind == "a"'))
    assert [one.id for failure in matched(index, payload)[1] for one in index.concerned_by(failure)] == concerned[:-1]


@pytest.mark.parametrize("condition", ['data.note == "a"', "data.note > 1", 'data.channel == "spree" && data.note == "a"'])
def test_events_in_a_version_that_an_endpoint_does_not_pin_do_not_fail_its_filters(condition: str) -> None:
    def pinned(endpoint_id: int, version: int) -> Endpoint:
        one = endpoint(endpoint_id, condition)
        return open_endpoint(replace(one.record, event_type_versions={"order_completed": version}), VAULT)

    index = index_of([pinned(1, 1), pinned(2, 2)])
    failures: list[FilterFailure] = []
    seen = MatchInput("order_completed", lambda: ORDER, dict, lambda: 2)

    assert index.matching(seen, failures.append) == []
    assert len(failures) == 1
    failure = failures[0]
    concerned = [failure.endpoint_id] if failure.endpoint_id is not None else [one.id for one in index.concerned_by(failure)]
    assert concerned == [2]


def test_ten_thousand_unrelated_filters_are_not_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[str] = []
    original = Evaluation._evaluate

    def counted(self: Evaluation, expression: Expression) -> bool:
        evaluated.append(expression.text)
        return original(self, expression)

    monkeypatch.setattr(Evaluation, "_evaluate", counted)
    costly = 'decimal(data.total) >= decimal("100")'
    template = endpoint(1, costly, events=("shipment_shipped",))
    others = (Endpoint(**_with_id(template, number)) for number in range(2, 10_000))
    shops = (endpoint(number, f"data.store_id == {number} && {costly}") for number in range(20_000, 20_500))
    index = index_of([*others, *shops])

    assert matched(index, {"store_id": 20_007, "total": "120.0"}) == ([20_007], [])
    assert evaluated == [costly]  # by the one endpoint that the index left

    def unparsed() -> Any:
        raise AssertionError("no endpoint of this event has a filter")

    assert index.matching(MatchInput("order_cancelled", unparsed)) == []


def _with_id(one: Endpoint, endpoint_id: int) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Endpoint.__slots__} | {"id": endpoint_id}


def test_an_unneeded_payload_is_not_parsed() -> None:
    index = index_of([endpoint(1), endpoint(2, "data.store_id > 1", events=("order_cancelled",))])

    def unparsed() -> Any:
        raise AssertionError("no endpoint of this event has a filter")

    assert [one.id for one in index.matching(MatchInput("order_completed", unparsed))] == [1]


conditions = st.sampled_from(
    [
        'data.channel == "spree"',
        'data.channel in ["spree", "edi"]',
        'decimal(data.total) >= decimal("100")',
        "data.store_id > 5",
        "data.line_items.exists(i, i.sku == 'A')",
        "data.missing == 1",
        "data.missing > 1",
        'event.event_name == "order_completed"',
    ]
)


@given(st.lists(st.lists(conditions, max_size=3), max_size=6), st.data())
def test_an_endpoint_matches_the_same_events_alone_and_among_others(wanted: list[list[str]], data: st.DataObject) -> None:
    """Nor does it matter whether conditions are separate or joined by ``&&``."""
    endpoints = [endpoint(number, *texts) for number, texts in enumerate(wanted, 1)]
    alone = [one.id for one in endpoints if matched(index_of([one]))[0]]
    joined = [endpoint(number, *([" && ".join(texts)] if texts else [])) for number, texts in enumerate(wanted, 1)]

    assert matched(index_of(data.draw(st.permutations(endpoints))))[0] == alone
    assert matched(index_of(joined))[0] == alone
