"""Operational events go only to the built-in receiver, and through the same steps as other events."""

from __future__ import annotations

import json

from msgspec import Raw
from pydantic import SecretStr

from pipeline.core.signing import new_secret
from pipeline.ops import metrics
from pipeline.ops.settings import Settings
from schemas.codec import to_json
from schemas.delivery import DeadLetterReason, Trigger
from schemas.operational import DisabledEndpoint, OperationalEvent
from tests.unit.consumers.fanout_case import SETTINGS, Scene, dispatch_of
from tests.unit.fake_kafka import record
from tests.unit.sample_events import NOW, endpoint_record, event

TOPIC = "webhooks.operational-events"
WITH_RECEIVER = Settings(
    _env_file=None, operational_url="https://ops.example.com/hook", operational_secret=SecretStr(new_secret())
)
EVENT = OperationalEvent(
    id="endpoint-disabled_7_1",
    event_name="endpoint.disabled",
    occurred_at=NOW,
    data=Raw(
        to_json(
            DisabledEndpoint(
                id=7, target_url="https://hooks.example.com/7", description="ERP", reason="gone", detail="Gone.", disabled_at=NOW
            )
        )
    ),
)
EVERYTHING = endpoint_record(7, events=("order_completed", "endpoint.disabled"))


async def test_an_operational_event_goes_only_to_the_built_in_receiver() -> None:
    scene = Scene(endpoint_record(8), settings=WITH_RECEIVER)

    await scene.fan_out.handle(record(to_json(EVENT), topic=TOPIC, key=b"7"))

    [(meta, body, endpoint_id, attempt, trigger)] = scene.delivery_service.delivered
    assert (meta.id, meta.event_name, endpoint_id, attempt, trigger) == (EVENT.id, "endpoint.disabled", 0, 1, Trigger.EVENT)
    assert json.loads(body) == {
        "id": "endpoint-disabled_7_1",
        "event_name": "endpoint.disabled",
        "created_at": "2026-03-02T15:04:00.512Z",
        "data": {
            "id": 7,
            "target_url": "https://hooks.example.com/7",
            "description": "ERP",
            "reason": "gone",
            "detail": "Gone.",
            "disabled_at": "2026-03-02T15:04:00.512000Z",
            "failing_since": None,
        },
    }


async def test_an_operational_event_is_dispatched_like_any_other() -> None:
    scene = Scene(settings=WITH_RECEIVER)

    await scene.fan_out.handle(record(to_json(EVENT), topic=TOPIC, key=b"7"))

    [sent] = scene.producer.sent
    dispatch = dispatch_of(sent)
    assert (dispatch.event.id, dispatch.endpoint_ids, dispatch.source_topic) == (EVENT.id, (0,), TOPIC)
    [(meta, *_)] = scene.delivery_service.delivered
    assert meta.received_at == dispatch.event.received_at == dispatch.received_at


async def test_without_a_receiver_it_is_dispatched_and_sent_to_nobody() -> None:
    scene = Scene(EVERYTHING)

    await scene.fan_out.handle(record(to_json(EVENT), topic=TOPIC, key=b"7"))

    assert scene.delivery_service.delivered == []
    [sent] = scene.producer.sent
    assert dispatch_of(sent).endpoint_ids == ()


async def test_the_built_in_receiver_gets_nothing_else() -> None:
    scene = Scene(endpoint_record(7), settings=WITH_RECEIVER)

    await scene.fan_out.handle(record(event()))

    assert [endpoint_id for _, _, endpoint_id, _, _ in scene.delivery_service.delivered] == [7]


async def test_an_oms_event_in_the_operational_topic_is_a_dead_letter() -> None:
    scene = Scene(endpoint_record(7), settings=WITH_RECEIVER)

    await scene.fan_out.handle(record(event(), topic=TOPIC))

    _, letter = scene.only_letter()
    assert letter.reason is DeadLetterReason.INVALID_RECORD
    assert scene.delivery_service.delivered == []


async def test_an_operational_event_in_a_source_topic_is_a_dead_letter() -> None:
    scene = Scene(EVERYTHING, settings=WITH_RECEIVER)

    await scene.fan_out.handle(record(to_json(EVENT)))

    _, letter = scene.only_letter()
    assert letter.reason is DeadLetterReason.UNKNOWN_EVENT
    assert scene.delivery_service.delivered == []


def test_both_kinds_of_topics_are_read() -> None:
    topics = SETTINGS.topics

    assert Scene(settings=SETTINGS).fan_out.worker.consumer.topics == (*topics.sources, TOPIC)


def test_added_topics_are_read_and_counted_from_zero() -> None:
    fan_out = Scene(settings=SETTINGS).fan_out
    fan_out.add_topics(["oms.refunds"])
    fan_out.add_topics(["oms.refunds"])
    assert fan_out.worker.consumer.topics == (*SETTINGS.topics.sources, TOPIC, "oms.refunds")
    counted = [sample.labels["topic"] for metric in metrics.DEAD_LETTERS.collect() for sample in metric.samples]
    assert "oms.refunds" in counted
