"""A preview counts what the fan-out would deliver, says how much it has checked, and shows examples."""

from __future__ import annotations

import functools
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pipeline.broker.api import Record
from pipeline.core.filters.stored import compiled, fields_of
from pipeline.devtools.simulator import Shop
from pipeline.store.reports.history import PastEvent
from pipeline.web.filter_preview import PreviewBudget, PreviewTally, preview
from pipeline.web.services import Api
from schemas.event import EventType
from schemas.event_codec import decode_event, webhook_body
from schemas.event_types import BUILT_IN
from schemas.http.previews import PreviewInput
from tests.property_examples import examples
from tests.unit.consumers.fanout_case import Scene
from tests.unit.fake_kafka import record
from tests.unit.sample_events import NOW, endpoint_record
from tests.unit.web.endpoint_requests import request
from tests.unit.web.service import TOPICS, FakeHistory, Service

PATH = "/api/webhook/endpoints/preview"


@functools.cache
def shop_events() -> tuple[tuple[Record, PastEvent], ...]:
    """Events of a simulated shop, and the same events as ClickHouse later stores them."""
    found = []
    for number, one in zip(range(300), Shop(seed=17).events(1.0, NOW - timedelta(hours=1)), strict=False):
        event = decode_event(one.value, max_bytes=1_000_000)
        past = PastEvent(
            event.meta.id,
            event.meta.event_name,
            NOW - timedelta(hours=1) + timedelta(seconds=number),
            event.meta.order_number or "",
            webhook_body(event),
        )
        found.append((record(one.value, topic=getattr(TOPICS, one.topic_kind), key=one.key.encode()), past))
    return tuple(found)


texts = st.sampled_from(
    ["US", "DE", "GB", "spree", "subscriptions", "shipped", "complete", "KETTLE-1L", "R1", "10", "100", "1000"]
)
paths = st.sampled_from(
    [
        "channel",
        "ship_address.country_iso",
        "line_items.variant.sku",
        "state",
        "carrier",
        "no.such",
        "backorderable",
        "number",
        "total",
    ]
)
comparisons = st.one_of(
    st.builds(lambda path, text: f'data.{path} == "{text}"', paths, texts),
    st.builds(lambda path, one, two: f'data.{path} in ["{one}", "{two}", null]', paths, texts, texts),
    st.builds(lambda path, text: f'data.{path}.startsWith("{text}")', paths, texts),
    st.builds(lambda path, text: f'data.{path} != "{text}"', paths, texts),
    st.builds(
        lambda sign, text: f'decimal(data.total) {sign} decimal("{text}")',
        st.sampled_from([">=", "<"]),
        st.sampled_from(["10", "100"]),
    ),
    st.builds(lambda count: f"data.line_items.exists(i, i.quantity > {count})", st.integers(0, 3)),
    st.builds(lambda count: f"data.count_on_hand > {count}", st.integers(0, 20)),
    st.builds(lambda name: f'event.event_name == "{name.value}"', st.sampled_from(EventType)),
    st.builds(lambda path: f"has(data.{path})", paths),
)
expressions = st.one_of(
    comparisons,
    st.builds(lambda one, two: f"{one} || {two}", comparisons, comparisons),
    st.builds(lambda one, two: f"{one} && !({two})", comparisons, comparisons),
)
event_names = st.sets(st.sampled_from(EventType), min_size=1).map(lambda names: tuple(sorted(name.value for name in names)))


@settings(max_examples=examples(50), deadline=None)  # each over 100 events
@given(event_names, st.lists(expressions, max_size=3))
def test_a_preview_counts_what_the_fan_out_delivers(names: tuple[str, ...], filters: list[str]) -> None:
    found = compiled(filters)
    tally = PreviewTally(names, found)
    scene = Scene(replace(endpoint_record(events=names), **fields_of(found)))

    delivered = set()
    for published, past in shop_events()[::3]:
        if past.event_name in names:
            tally.take(past)
        if plan := scene.fan_out.plan(published).endpoints:
            delivered.add(past.id)
            assert [one.id for one in plan] == [7]

    assert tally.matched == len(delivered)
    assert {one.id for one in tally.would} <= delivered
    assert not {one.id for one in tally.would_not} & delivered


async def test_the_answer_has_counts_and_examples(service: Service) -> None:
    service.history.events = [past for _, past in shop_events()]
    wanted = {"events": ["order_completed"], "filters": ['data.channel == "spree"', "data.total > 100"], "days": 1}
    status, found = await request(service, "POST", PATH, json={"preview": wanted})
    completed = [past for _, past in shop_events() if past.event_name == "order_completed"]

    assert status == 200
    assert found["sentence"] == "The endpoint would have received 0 of 300 events in the last day."
    assert (found["examined"], found["is_complete"], found["unread"]) == (len(completed), True, 0)
    [failure] = found["failures"]
    assert (failure["expression"], "different kinds" in failure["reason"]) == ("data.total > 100", True)
    assert [one["id"] for one in found["would_not"]] == [past.id for past in reversed(completed)][:10]

    status, found = await request(service, "POST", PATH, json={"preview": {"events": ["order_completed"]}})
    assert (found["matched"], len(found["would"]), found["would_not"]) == (len(completed), 10, [])
    assert service.kafka.changes == []


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"events": []}, "events"),
        ({"events": ["order_completed"], "filters": ["data.total >"]}, "filters"),
        ({"events": ["order_completed"], "days": 8}, "days"),
        ({"events": ["order_completed"], "target_url": "https://x.example"}, "target_url"),
        ({}, "events"),
    ],
)
async def test_invalid_input_is_named(service: Service, wanted: dict[str, object], field: str) -> None:
    status, found = await request(service, "POST", PATH, json={"preview": wanted})
    assert (status, list(found["errors"])) == (422, [field])


async def test_a_preview_that_runs_out_of_budget_says_how_far_it_got() -> None:
    history = FakeHistory()
    api = cast(
        "Api",
        SimpleNamespace(history=history, clock=lambda: NOW, search_timeout_seconds=60.0, events=SimpleNamespace(types=BUILT_IN)),
    )
    history.events = [past for _, past in shop_events()]
    history.events += history.events[:5]  # dispatched twice
    given_input = PreviewInput.model_validate({"events": [event.value for event in EventType]})

    found = await preview(api, given_input, PreviewBudget(events=100, page=20))

    assert (found.examined, found.matched, found.events, found.is_complete) == (100, 100, 100, False)
    assert found.since == sorted((one.received_at for one in history.events), reverse=True)[99]
    assert "covers the time since" in found.sentence

    whole = await preview(api, given_input)
    assert (whole.examined, whole.events, whole.is_complete) == (300, 300, True)
