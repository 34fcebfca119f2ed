from __future__ import annotations

import itertools
import json
import time
from collections import Counter, defaultdict
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.devtools.simulator import Shop
from schemas.codec import format_time
from schemas.event import EventType
from schemas.event_codec import decode_event
from tests.property_examples import examples
from tests.unit.devtools.parsed_events import RATE, START, ParsedEvent, named, parsed_events


@pytest.fixture(scope="module")
def events() -> list[ParsedEvent]:
    return parsed_events(seed=7, count=6000)


@pytest.fixture(scope="module")
def orders(events: list[ParsedEvent]) -> dict[str, list[ParsedEvent]]:
    """Return every order's events by its number, in order."""
    by_number: defaultdict[str, list[ParsedEvent]] = defaultdict(list)
    for parsed in events:
        if parsed.event.topic_kind != "stock_items":
            by_number[parsed.event.key].append(parsed)
    return dict(by_number)


@settings(max_examples=examples(20), deadline=None)
@given(st.integers())
def test_pipeline_accepts_every_event_of_every_seed(seed: int) -> None:
    for n, event in enumerate(itertools.islice(Shop(seed).events(RATE, START), 200)):
        decoded = decode_event(event.value, max_bytes=64 * 1024)

        assert (decoded.meta.id, decoded.meta.event_name) == (event.id, event.event_name)
        assert event.occurred_at == START + timedelta(seconds=n / RATE)
        assert format_time(decoded.meta.created_at) == format_time(event.occurred_at)
        if event.topic_kind == "stock_items":
            assert event.key == str(decoded.meta.stock_item_id)
        else:
            assert event.key == decoded.meta.order_number
            assert decoded.meta.shipment_numbers
        assert decoded.meta.skus


def test_same_seed_gives_the_same_bytes() -> None:
    first, second, other = (list(itertools.islice(Shop(seed).events(RATE, START), 500)) for seed in (3, 3, 4))

    assert first == second
    assert {event.id for event in first}.isdisjoint(event.id for event in other)


@pytest.mark.slow  # only for the demo
def test_everything_happens_in_realistic_proportions(events: list[ParsedEvent]) -> None:
    """It takes a second or two of CPU, in which events are simulated."""
    names = Counter(parsed.event.event_name for parsed in events)
    completed = named(events, EventType.ORDER_COMPLETED)

    assert set(names) == set(EventType)
    assert 0.04 < names[EventType.ORDER_CANCELLED] / len(completed) < 0.13
    assert 0.06 < sum(parsed.data["channel"] == "subscriptions" for parsed in completed) / len(completed) < 0.14
    assert {parsed.data["channel"] for parsed in completed} == {"subscriptions", "spree"}
    prefixes = Counter(parsed.event.key.rstrip("0123456789") for parsed in completed)
    assert prefixes.most_common(1)[0][0] == "R"
    assert len(prefixes) >= 3
    assert {parsed.data["delivery_status"] for parsed in named(events, EventType.SHIPMENT_DELIVERY_STATUS_UPDATED)} >= {
        *("pre_transit", "in_transit", "out_for_delivery", "delivered", "failure", "return_to_sender"),
    }


def test_topics_fit_the_event_names(events: list[ParsedEvent]) -> None:
    for parsed in events:
        assert parsed.event.event_name.startswith(parsed.event.topic_kind.split("_")[0].rstrip("s"))


def test_a_cancelled_order_equals_the_completed_one_otherwise(orders: dict[str, list[ParsedEvent]]) -> None:
    changing = {"state", "updated_at", "payment_total", "shipment_state", "payment_state", "canceler_id", "payments", "shipments"}
    cancellations = 0
    for events in orders.values():
        if events[-1].event.event_name != EventType.ORDER_CANCELLED:
            continue
        cancellations += 1
        before, after = events[0].data, events[-1].data
        for name in before.keys() - changing - {"line_items"}:
            assert before[name] == after[name], name
        assert (after["state"], after["payment_state"], after["shipment_state"]) == ("canceled", "void", "canceled")
        assert after["canceler_id"] is not None
        assert {payment["state"] for payment in after["payments"]} == {"void"}
        assert {shipment["state"] for shipment in after["shipments"]} == {"canceled"}
        assert [item["id"] for item in before["line_items"]] == [item["id"] for item in after["line_items"]]
    assert cancellations > 10


def test_the_events_of_an_order_are_consistent(orders: dict[str, list[ParsedEvent]]) -> None:
    finished = 0
    for number, events in orders.items():
        completed = events[0].data
        assert events[0].event.event_name == EventType.ORDER_COMPLETED
        assert completed["number"] == number
        assert [parsed.event.event_name for parsed in events].count(EventType.ORDER_COMPLETED) == 1
        assert EventType.ORDER_CANCELLED not in [parsed.event.event_name for parsed in events[:-1]]
        assert len({json.dumps(parsed.envelope.get("references")) for parsed in events}) == 1
        journeys: dict[str, list[ParsedEvent]] = {shipment["number"]: [] for shipment in completed["shipments"]}
        for parsed in events:
            if parsed.event.topic_kind == "shipments":
                assert parsed.data["order_id"] == number
                journeys[parsed.data["number"]].append(parsed)
        for shipment in completed["shipments"]:
            finished += check_journey(shipment, journeys[shipment["number"]])
        sold = sorted((item["variant"]["sku"], item["quantity"]) for item in completed["line_items"])
        packed = sorted((line["sku"], line["quantity"]) for shipment in completed["shipments"] for line in shipment["manifest"])
        assert sold == packed
    assert finished > 100


def check_journey(shipment: dict[str, Any], events: list[ParsedEvent]) -> bool:
    """Check one shipment's events against the shipment of the completed order; return True if it reached its end."""
    names = [parsed.event.event_name for parsed in events]
    updates = [EventType.SHIPMENT_DELIVERY_STATUS_UPDATED] * (len(names) - 2)
    assert names == [EventType.SHIPMENT_UPDATED, EventType.SHIPMENT_SHIPPED, *updates][: len(names)]
    for parsed in events:
        assert parsed.data["tracking"] == events[0].data["tracking"]
        assert parsed.data["tracking"] in parsed.data["tracking_url"]
        assert parsed.data["carrier"]
        for name in ("id", "number", "cost", "shipping_rates", "stock_location_name"):
            assert parsed.data[name] == shipment[name]
        shipped = parsed.event.event_name != EventType.SHIPMENT_UPDATED
        assert parsed.data["state"] == ("shipped" if shipped else "ready")
        assert parsed.data["shipped_at"] == (events[1].envelope["occurred_at"] if shipped else None)
        assert {state for line in parsed.data["manifest"] for state in line["states"]} == {"shipped" if shipped else "on_hand"}
    statuses = [parsed.data["delivery_status"] for parsed in events[2:]]
    assert statuses[:2] == ["pre_transit", "in_transit"][: len(statuses)]
    assert not {"delivered", "return_to_sender"} & set(statuses[:-1])
    return bool(statuses) and statuses[-1] in ("delivered", "return_to_sender")


def test_several_orders_are_in_progress_at_a_time(events: list[ParsedEvent]) -> None:
    keys = [parsed.event.key for parsed in events if parsed.event.topic_kind != "stock_items"]

    assert all(len(set(window)) > 5 for window in zip(*(keys[n:] for n in range(40)), strict=False))


def test_subscriptions_recur_for_the_same_customer_and_sku(events: list[ParsedEvent]) -> None:
    instalments: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for parsed in named(events, EventType.ORDER_COMPLETED):
        subscription = parsed.envelope.get("references", {}).get("subscription_id")
        assert (subscription is not None) == (parsed.data["channel"] == "subscriptions")
        if subscription:
            instalments[subscription].append(parsed.data)

    assert max(len(orders) for orders in instalments.values()) > 1
    for orders in instalments.values():
        assert len({order["email"] for order in orders}) == 1
        assert len({order["line_items"][0]["variant"]["sku"] for order in orders}) == 1


def test_stock_follows_sales(events: list[ParsedEvent]) -> None:
    on_hand: dict[str, int] = {}
    sold_out: dict[str, bool] = {}
    for parsed in events:
        name, data = parsed.event.event_name, parsed.data
        if parsed.event.topic_kind == "stock_items":
            sku = data["variant"]["sku"]
            is_out = name == EventType.STOCK_ITEM_OUT_OF_STOCK
            assert sold_out.get(sku, False) != is_out
            assert (data["count_on_hand"] == 0) == is_out
            assert data["variant"]["in_stock"] == (not is_out)
            assert data["variant"]["total_on_hand"] == data["count_on_hand"]
            sold_out[sku], on_hand[sku] = is_out, data["count_on_hand"]
        elif parsed.event.topic_kind == "orders":
            for item in data["line_items"]:
                sku = item["variant"]["sku"]
                change = item["quantity"] * (-1 if name == EventType.ORDER_COMPLETED else 1)
                left = item["variant"]["total_on_hand"]
                assert left >= 0
                # Orders of a sold out variant can be cancelled, but nobody can order it.
                assert change > 0 or not sold_out.get(sku, False)
                assert left == on_hand.get(sku, left - change) + change
                on_hand[sku] = left
    assert len(sold_out) > 5


def test_ids_rise_and_numbers_do_not_repeat(events: list[ParsedEvent]) -> None:
    completed = [parsed.data for parsed in named(events, EventType.ORDER_COMPLETED)]
    shipments = [shipment for order in completed for shipment in order["shipments"]]
    items = [item for order in completed for item in order["line_items"]]

    for objects in (completed, shipments, items):
        ids = [thing["id"] for thing in objects]
        assert ids == sorted(set(ids))
    for numbers in ([order["number"] for order in completed], [shipment["number"] for shipment in shipments]):
        assert len(set(numbers)) == len(numbers)
    assert len({parsed.event.id for parsed in events}) == len(events)
    assert {len(shipment["number"]) for shipment in shipments} == {12}


def test_unusable_time_and_rate_are_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        Shop(1).next_event(START.replace(tzinfo=None))
    for rate in (0, -1):
        with pytest.raises(ValueError, match="above 0"):
            Shop(1).events(rate, START)


def test_generation_is_fast_enough() -> None:
    events = Shop(1).events(RATE, START)
    started = time.process_time()
    for _ in itertools.islice(events, 3000):
        pass

    assert time.process_time() - started < 1.0
