"""The fan-out hop: dispatches, deliveries, and when an event is dealt with."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from pipeline.core.trace import TraceContext
from schemas.codec import decode_event, from_header, webhook_body
from schemas.delivery import DELIVERY_HEADER, Delivery, Dispatch, Trigger
from schemas.event import EventType
from tests.unit.consumers.fanout_case import SETTINGS, Scene, dispatch_of
from tests.unit.fake_kafka import record, settle
from tests.unit.sample_events import endpoint_record, event, event_of

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

# --- usable events ---


@pytest.mark.parametrize("event_type", EventType)
async def test_an_event_is_dispatched_and_delivered(event_type: EventType) -> None:
    scene = Scene(endpoint_record(7, events=tuple(EventType)), endpoint_record(9, events=(event_type,)))
    value = event_of(event_type)

    await scene.fan_out.handle(record(value, topic="oms.any", partition=3, offset=41, timestamp_ms=1_772_463_840_600))

    decoded = decode_event(value, max_bytes=100_000)
    body = webhook_body(decoded)
    received_at = datetime(2026, 3, 2, 15, 4, 0, 600_000, tzinfo=UTC)
    meta = decoded.meta.model_copy(update={"received_at": received_at})
    assert scene.courier.delivered == [(meta, body, endpoint_id, 1, Trigger.EVENT) for endpoint_id in (7, 9)]
    [sent] = scene.producer.sent
    assert (sent.key, sent.value) == (None, body)
    assert b"guest-token" not in body
    assert dispatch_of(sent) == Dispatch(
        event=meta,
        endpoint_ids=(7, 9),
        received_at=received_at,
        source_topic="oms.any",
        source_partition=3,
        source_offset=41,
        body_bytes=len(body),
    )


async def test_every_endpoint_gets_the_same_bytes() -> None:
    scene = Scene(endpoint_record(7), endpoint_record(9))

    await scene.fan_out.handle(record(event('{ "number" : "R1", "total": 1.10 }')))

    bodies = [body for _, body, *_ in scene.courier.delivered]
    assert bodies[0] is bodies[1] is scene.producer.sent[0].value
    assert bodies[0].endswith(b'"data":{ "number" : "R1", "total": 1.10 }}')


async def test_an_event_that_nobody_wants_is_dispatched_all_the_same() -> None:
    scene = Scene(endpoint_record(7, events=("shipment_shipped",)))

    await scene.fan_out.handle(record(event()))

    assert scene.courier.delivered == []
    [sent] = scene.producer.sent
    assert dispatch_of(sent).endpoint_ids == ()
    assert sent.value is not None


async def test_filters_see_the_payload() -> None:
    scene = Scene(
        endpoint_record(1, filters={"channel": ("spree",)}),
        endpoint_record(2, filters={"channel": ("app",)}),
        endpoint_record(3, filters={"line_items.variant.sku": ("B",), "channel": ("spree",)}),
    )

    await scene.fan_out.handle(record(event('{"number":"R1","channel":"spree","line_items":[{"variant":{"sku":"B"}}]}')))

    assert [endpoint_id for _, _, endpoint_id, *_ in scene.courier.delivered] == [1, 3]
    assert dispatch_of(scene.producer.sent[0]).endpoint_ids == (1, 3)


async def test_filters_never_see_the_guest_token() -> None:
    scene = Scene(endpoint_record(1, filters={"token": ("guest",)}))

    await scene.fan_out.handle(record(event('{"number":"R1","token":"guest"}')))

    assert scene.courier.delivered == []


# --- when an event is dealt with ---


async def test_nothing_is_done_before_the_dispatch_is_acknowledged() -> None:
    scene = Scene(endpoint_record(7), hold=True)
    handling = scene.handling()
    await settle()
    assert len(scene.courier.delivered) == 1, "the attempt does not wait for the dispatch"
    assert not handling.done()

    scene.producer.sent[0].acknowledge()
    await handling


@pytest.mark.parametrize("endpoints", [1, 3])
async def test_nothing_is_done_before_the_deliveries_are(endpoints: int) -> None:
    scene = Scene(*(endpoint_record(number) for number in range(1, endpoints + 1)))
    scene.courier.gate.clear()
    handling = scene.handling()
    await settle()
    assert len(scene.courier.delivered) == endpoints, "all at once"
    assert not handling.done()

    scene.courier.gate.set()
    await handling


async def test_an_event_that_nobody_wants_is_not_done_before_its_dispatch() -> None:
    scene = Scene(hold=True)
    handling = scene.handling()
    await settle()
    assert not handling.done()

    scene.producer.sent[0].acknowledge()
    await handling


async def test_a_dead_letter_is_not_done_before_it_is_acknowledged() -> None:
    scene = Scene(hold=True)
    handling = scene.handling(record(b"{"))
    await settle()
    assert not handling.done()

    scene.producer.sent[0].acknowledge()
    await handling


@pytest.mark.parametrize("endpoints", [0, 1, 2])
async def test_a_dispatch_that_kafka_refuses_is_an_error(endpoints: int) -> None:
    scene = Scene(*(endpoint_record(number) for number in range(1, endpoints + 1)))
    scene.producer.errors["webhooks.dispatches"] = PermissionError("not allowed")

    with pytest.raises(PermissionError):
        await scene.fan_out.handle(record(event()))


@pytest.mark.parametrize("endpoints", [1, 2])
async def test_a_delivery_that_fails_is_an_error(endpoints: int) -> None:
    scene = Scene(*(endpoint_record(number) for number in range(1, endpoints + 1)))
    scene.courier.error = PermissionError("not allowed")

    with pytest.raises(PermissionError):
        await scene.fan_out.handle(record(event()))


async def test_an_event_that_is_cancelled_is_not_done() -> None:
    scene = Scene(endpoint_record(1), endpoint_record(2))
    scene.courier.gate.clear()
    handling = scene.handling()
    await settle()

    handling.cancel()
    await asyncio.gather(handling, return_exceptions=True)

    assert handling.cancelled()


# --- an event that everybody wants ---


async def test_only_so_many_deliveries_are_under_way_at_once() -> None:
    settings = SETTINGS.model_copy(update={"max_outstanding_deliveries": 3})
    scene = Scene(*(endpoint_record(number) for number in range(1, 9)), settings=settings)
    scene.courier.gate.clear()
    handling = scene.handling()
    await settle()
    assert len(scene.courier.delivered) == 3

    scene.courier.gate.set()
    await handling
    assert [endpoint_id for _, _, endpoint_id, *_ in scene.courier.delivered] == list(range(1, 9))


async def test_an_event_that_is_given_up_while_it_waits_leaves_nothing_running() -> None:
    settings = SETTINGS.model_copy(update={"max_outstanding_deliveries": 2})
    scene = Scene(*(endpoint_record(number) for number in range(1, 9)), settings=settings)
    scene.courier.gate.clear()
    before = asyncio.all_tasks()
    handling = scene.handling()
    await settle()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    await settle()
    assert asyncio.all_tasks() == before


# --- traces ---


async def test_the_trace_of_an_event_is_handed_on_to_every_delivery() -> None:
    scene = Scene(endpoint_record(7), endpoint_record(9))

    await scene.fan_out.handle(record(event(), headers=[("traceparent", PARENT.encode()), ("tracestate", b"rojo=1")]))

    assert scene.courier.traces == [TraceContext(PARENT, "rojo=1")] * 2


@pytest.mark.parametrize("value", [b"", PARENT.upper().encode(), b"\xff" * 55, PARENT.encode() + b"\r\nx: y", None])
async def test_a_hostile_traceparent_is_dropped_and_the_event_is_delivered(value: bytes) -> None:
    scene = Scene(endpoint_record(7))

    await scene.fan_out.handle(record(event(), headers=[("traceparent", value)]))

    assert scene.courier.traces == [None]
    assert [sent.topic for sent in scene.producer.sent] == ["webhooks.dispatches"]


# --- endpoints that are not active ---


async def test_an_event_is_held_for_a_paused_endpoint_and_sent_to_the_others() -> None:
    scene = Scene(
        endpoint_record(7, active=False), endpoint_record(9), endpoint_record(8, active=False, events=("shipment_shipped",))
    )

    await scene.fan_out.handle(record(event()))

    assert [endpoint_id for _, _, endpoint_id, *_ in scene.courier.delivered] == [9]
    [held] = scene.producer.to("webhooks.held")
    [dispatched] = scene.producer.to("webhooks.dispatches")
    assert dispatch_of(dispatched).endpoint_ids == (7, 9)
    assert (held.key, held.value) == (b"7", dispatched.value)
    delivery = from_header(held.headers, DELIVERY_HEADER, Delivery)
    assert (delivery.endpoint_id, delivery.attempt, delivery.trigger) == (7, 1, Trigger.EVENT)
    assert delivery.event == dispatch_of(dispatched).event


async def test_an_event_that_is_held_is_not_done_before_kafka_has_it() -> None:
    scene = Scene(endpoint_record(7, active=False), hold=True)
    handling = scene.handling()
    await settle()
    for sent in scene.producer.to("webhooks.dispatches"):
        sent.acknowledge()
    await settle()
    assert not handling.done()

    for sent in scene.producer.to("webhooks.held"):
        sent.acknowledge()
    await handling
