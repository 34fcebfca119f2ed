"""The fan-out: dispatches, deliveries, and when an event is done."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from pipeline.broker.errors import PublishError
from pipeline.core.trace import TraceContext
from pipeline.ops.settings import Settings
from schemas.codec import from_header
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord, Dispatch, Trigger
from schemas.endpoint import EndpointRecord
from schemas.event import EventType
from schemas.event_codec import decode_event, webhook_body
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
    meta = replace(decoded.meta, received_at=received_at, key="oms.any/3/R1", sequence=41)
    assert scene.delivery_service.delivered == [(meta, body, endpoint_id, 1, Trigger.EVENT) for endpoint_id in (7, 9)]
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

    bodies = [body for _, body, *_ in scene.delivery_service.delivered]
    assert bodies[0] is bodies[1] is scene.producer.sent[0].value
    assert bodies[0].endswith(b'"data":{ "number" : "R1", "total": 1.10 }}')


async def test_an_event_without_subscribers_is_still_dispatched() -> None:
    scene = Scene(endpoint_record(7, events=("shipment_shipped",)))

    await scene.fan_out.handle(record(event()))

    assert scene.delivery_service.delivered == []
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

    assert [endpoint_id for _, _, endpoint_id, *_ in scene.delivery_service.delivered] == [1, 3]
    assert dispatch_of(scene.producer.sent[0]).endpoint_ids == (1, 3)


async def test_filters_never_see_the_guest_token() -> None:
    scene = Scene(endpoint_record(1, filters={"token": ("guest",)}))

    await scene.fan_out.handle(record(event('{"number":"R1","token":"guest"}')))

    assert scene.delivery_service.delivered == []


# --- when an event is done ---


async def test_an_event_is_not_done_before_its_dispatch_is_acknowledged() -> None:
    scene = Scene(endpoint_record(7), hold=True)
    handling = scene.handling()
    await settle()
    assert len(scene.delivery_service.delivered) == 1, "the attempt does not wait for the dispatch"
    assert not handling.done()

    scene.producer.sent[0].acknowledge()
    await handling


@pytest.mark.parametrize("endpoints", [1, 3])
async def test_an_event_is_not_done_before_its_deliveries_are(endpoints: int) -> None:
    scene = Scene(*(endpoint_record(number) for number in range(1, endpoints + 1)))
    scene.delivery_service.gate.clear()
    handling = scene.handling()
    await settle()
    assert len(scene.delivery_service.delivered) == endpoints, "all at once"
    assert not handling.done()

    scene.delivery_service.gate.set()
    await handling


async def test_an_event_without_subscribers_is_not_done_before_its_dispatch() -> None:
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
async def test_a_dispatch_refused_by_kafka_is_an_error(endpoints: int) -> None:
    scene = Scene(*(endpoint_record(number) for number in range(1, endpoints + 1)))
    scene.producer.errors["webhooks.dispatches"] = PermissionError("not allowed")

    with pytest.raises(PermissionError):
        await scene.fan_out.handle(record(event()))


@pytest.mark.parametrize("endpoints", [1, 2])
async def test_a_failed_delivery_is_an_error(endpoints: int) -> None:
    scene = Scene(*(endpoint_record(number) for number in range(1, endpoints + 1)))
    scene.delivery_service.error = PermissionError("not allowed")

    with pytest.raises(PermissionError):
        await scene.fan_out.handle(record(event()))


async def test_a_cancelled_event_is_not_done() -> None:
    scene = Scene(endpoint_record(1), endpoint_record(2))
    scene.delivery_service.gate.clear()
    handling = scene.handling()
    await settle()

    handling.cancel()
    await asyncio.gather(handling, return_exceptions=True)

    assert handling.cancelled()


# --- an event with many subscribers ---


async def test_concurrent_deliveries_of_an_event_are_limited() -> None:
    settings = SETTINGS.model_copy(update={"max_outstanding_deliveries": 3})
    scene = Scene(*(endpoint_record(number) for number in range(1, 9)), settings=settings)
    scene.delivery_service.gate.clear()
    handling = scene.handling()
    await settle()
    assert len(scene.delivery_service.delivered) == 3

    scene.delivery_service.gate.set()
    await handling
    assert [endpoint_id for _, _, endpoint_id, *_ in scene.delivery_service.delivered] == list(range(1, 9))


async def test_a_cancelled_event_leaves_nothing_running() -> None:
    settings = SETTINGS.model_copy(update={"max_outstanding_deliveries": 2})
    scene = Scene(*(endpoint_record(number) for number in range(1, 9)), settings=settings)
    scene.delivery_service.gate.clear()
    before = asyncio.all_tasks()
    handling = scene.handling()
    await settle()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    await settle()
    assert asyncio.all_tasks() == before


# --- traces ---


async def test_the_trace_of_an_event_is_passed_on_to_every_delivery() -> None:
    scene = Scene(endpoint_record(7), endpoint_record(9))

    await scene.fan_out.handle(record(event(), headers=[("traceparent", PARENT.encode()), ("tracestate", b"rojo=1")]))

    assert scene.delivery_service.traces == [TraceContext(PARENT, "rojo=1")] * 2


@pytest.mark.parametrize("value", [b"", PARENT.upper().encode(), b"\xff" * 55, PARENT.encode() + b"\r\nx: y", None])
async def test_a_hostile_traceparent_is_dropped_and_the_event_is_delivered(value: bytes) -> None:
    scene = Scene(endpoint_record(7))

    await scene.fan_out.handle(record(event(), headers=[("traceparent", value)]))

    assert scene.delivery_service.traces == [None]
    assert [sent.topic for sent in scene.producer.sent] == ["webhooks.dispatches"]


# --- endpoints that are not active ---


async def test_an_event_is_held_for_a_paused_endpoint_and_sent_to_the_others() -> None:
    scene = Scene(
        endpoint_record(7, active=False), endpoint_record(9), endpoint_record(8, active=False, events=("shipment_shipped",))
    )

    await scene.fan_out.handle(record(event()))

    assert [endpoint_id for _, _, endpoint_id, *_ in scene.delivery_service.delivered] == [9]
    [held] = scene.producer.to("webhooks.held")
    [dispatched] = scene.producer.to("webhooks.dispatches")
    assert dispatch_of(dispatched).endpoint_ids == (7, 9)
    assert (held.key, held.value) == (b"7", dispatched.value)
    delivery = from_header(held.headers, DELIVERY_HEADER, DeliveryRecord)
    assert (delivery.endpoint_id, delivery.attempt, delivery.trigger) == (7, 1, Trigger.EVENT)
    assert delivery.event == dispatch_of(dispatched).event


async def test_a_held_event_is_not_done_before_kafka_has_it() -> None:
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


async def test_an_event_of_a_configured_type_is_matched_and_delivered() -> None:
    file = Path(__file__).parents[3] / "deploy" / "event-types" / "event-types.yaml"
    settings = Settings(_env_file=None, event_types_file=file)
    scene = Scene(endpoint_record(7, events=("refund_issued",)), endpoint_record(8), settings=settings)
    data = json.dumps(settings.event_types.sample("refund_issued"))
    headers = [("id", b"e1"), ("eventType", b"refund_issued")]

    await scene.fan_out.handle(
        record(data.encode(), topic="oms.refunds", timestamp_ms=1_772_463_840_600)._replace(headers=headers)
    )

    ((meta, body, endpoint_id, attempt, _),) = scene.delivery_service.delivered
    assert (meta.id, meta.order_number, endpoint_id, attempt) == ("e1", "R204816339", 7, 1)
    assert body.endswith(f'"data":{data}}}'.encode())


def in_order(endpoint_id: int) -> EndpointRecord:
    return replace(endpoint_record(endpoint_id), ordered=True)


async def test_ordered_deliveries_are_written_to_their_topic_and_others_are_sent() -> None:
    scene = Scene(in_order(7), endpoint_record(9))

    await scene.fan_out.handle(record(event(), topic="oms.orders", key=b"R 1", partition=3, offset=41))

    assert [endpoint_id for _, _, endpoint_id, _, _ in scene.delivery_service.delivered] == [9]
    [sent] = scene.producer.to("webhooks.ordered")
    due = from_header(sent.headers, DELIVERY_HEADER, DeliveryRecord)
    assert (sent.key, due.endpoint_id, due.attempt, due.trigger) == (b"7/R%201", 7, 1, Trigger.EVENT)
    assert (due.event.key, due.event.sequence) == ("oms.orders/3/R%201", 41)
    assert sent.value == scene.delivery_service.delivered[0][1]


async def test_the_next_event_of_a_key_is_written_once_kafka_has_the_previous_one() -> None:
    scene = Scene(in_order(7), hold=True)
    first, second = (scene.handling(record(event(), offset=number)) for number in (1, 2))
    other = scene.handling(record(event(), key=b"R2", offset=3))
    await settle()

    written = scene.producer.to("webhooks.ordered")
    assert [sent.key for sent in written] == [b"7/R1", b"7/R2"], "another key does not wait"
    written[0].acknowledge()
    await settle()
    assert [sent.key for sent in scene.producer.to("webhooks.ordered")] == [b"7/R1", b"7/R2", b"7/R1"]
    assert not first.done(), "its dispatch is not acknowledged"
    for _ in range(3):
        for sent in scene.producer.sent:
            sent.acknowledge()
        await settle()
    await asyncio.gather(first, second, other)


async def test_nothing_overtakes_an_event_that_kafka_refuses() -> None:
    scene = Scene(in_order(7))
    scene.producer.errors["webhooks.ordered"] = PublishError("no permission")
    handling = [scene.handling(record(event(), offset=number)) for number in (1, 2)]

    results = await asyncio.gather(*handling, return_exceptions=True)

    assert [type(result) for result in results] == [PublishError, PublishError]


@pytest.mark.parametrize("endpoints", [0, 1, 10])
async def test_other_endpoints_get_the_event_at_once(endpoints: int) -> None:
    scene = Scene(in_order(1), *(endpoint_record(number) for number in range(2, 2 + endpoints)))

    await scene.fan_out.handle(record(event()))

    assert len(scene.delivery_service.delivered) == endpoints
    assert len(scene.producer.to("webhooks.ordered")) == 1
