"""The retry with records in memory: what is attempted, held, discarded, or becomes a dead letter."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import UNSET, Raw
from msgspec.structs import replace
from pydantic import SecretStr

from consumers.retry import Retry
from pipeline.broker.api import Record
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.core.signing import new_secret
from pipeline.core.trace import TraceContext
from pipeline.delivery.consumer_services import ConsumerServices
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.delivery.delivery import Delivery, DiscardedDelivery
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.delivery.publisher import DeliveryPublisher
from pipeline.delivery.records import delivery_record
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.operational_endpoint import operational_endpoint
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.vault import Vault
from pipeline.ops import metrics
from pipeline.ops.settings import Settings
from schemas.codec import from_header, to_header, to_json
from schemas.delivery import DEAD_LETTER_HEADER, DELIVERY_HEADER, DeadLetter, DeliveryRecord, Trigger
from schemas.endpoint import EndpointRecord
from tests.unit.fake_kafka import FakeProducer, record, settle
from tests.unit.sample_events import META, NOW, disabled, endpoint_record

SETTINGS = Settings(
    _env_file=None,
    kafka_topic_prefix="t.",
    operational_url="https://ops.example.com/",
    operational_secret=SecretStr(new_secret()),
)
VAULT = Vault(Vault.new_key())
BODY = b'{"id":"evt_1","data":{"total": 1.10}}'
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
RETRY_DUE = DeliveryRecord(event=META, endpoint_id=7, attempt=3, trigger=Trigger.RETRY, parked=2)


class FakeDeliveryService:
    """Records what it is asked to do; ``gate`` blocks it. Deliveries to paused endpoints are held."""

    def __init__(self, publisher: DeliveryPublisher) -> None:
        self.publisher = publisher
        self.delivered: list[Delivery] = []
        self.discarded: list[DiscardedDelivery] = []
        self.parked: list[tuple[DeliveryRecord, bytes]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def deliver(self, made: Delivery) -> None:
        if not made.endpoint.active:
            await self.publisher.hold(delivery_record(made), made.body)
            return
        self.delivered.append(made)
        await self.gate.wait()

    async def settle(self, discarded: DiscardedDelivery) -> None:
        self.discarded.append(discarded)
        await self.gate.wait()

    async def park_for_unknown_endpoint(self, due: DeliveryRecord, body: bytes) -> None:
        self.parked.append((due, body))
        await self.gate.wait()


class Scene:
    """A retry and everything around it."""

    def __init__(
        self,
        *endpoints: EndpointRecord,
        hold: bool = False,
        vault: Vault = VAULT,
        broker_seconds: float | None = NOW.timestamp(),
    ) -> None:
        self.producer = FakeProducer(hold=hold)
        self.delivery_service = FakeDeliveryService(DeliveryPublisher(self.producer, SETTINGS.topics))
        self.health = HealthTable(MemoryBroker(), "t.webhooks.endpoint-health")
        operational = operational_endpoint(SETTINGS)
        self.registry = Registry(MemoryBroker(), "t.webhooks.endpoints", vault, health=self.health, operational=operational)
        self.registry._apply(
            record(to_json(endpoint), topic="t.webhooks.endpoints", key=str(endpoint.id).encode()) for endpoint in endpoints
        )
        self.retry = Retry(
            SETTINGS,
            MemoryBroker(),
            ConsumerServices(
                registry=self.registry,
                service=cast("DeliveryService", self.delivery_service),
                producer=self.producer,
                dead_letters=DeadLetters(self.producer, "t.webhooks.dead-letters", lambda: NOW),
            ),
            broker_seconds=lambda: broker_seconds,
        )

    def disable(self, endpoint_id: int) -> None:
        self.health.apply([record(to_json(disabled(endpoint_id)), topic="t.webhooks.endpoint-health")])


def due(delivery: DeliveryRecord = RETRY_DUE, *, body: bytes | None = BODY) -> Record:
    return record(
        body, topic="t.webhooks.delay.1m", key=b"evt_1", headers=[("trace", b"1"), to_header(DELIVERY_HEADER, delivery)]
    )


async def test_a_due_attempt_is_made() -> None:
    scene = Scene(endpoint_record(7))

    await scene.retry.handle(due())

    current = scene.registry.get(7)
    assert current is not None
    assert scene.delivery_service.delivered == [Delivery(META, BODY, current, 3, Trigger.RETRY, parked=2)]
    assert scene.delivery_service.delivered[0].body is BODY
    assert scene.delivery_service.discarded == []
    assert scene.producer.sent == []


@pytest.mark.parametrize("trigger", Trigger)
async def test_every_trigger_is_kept(trigger: Trigger) -> None:
    scene = Scene(endpoint_record(7))

    await scene.retry.handle(due(replace(RETRY_DUE, trigger=trigger, attempt=1)))

    assert [(made.trigger, made.attempt) for made in scene.delivery_service.delivered] == [(trigger, 1)]


async def test_the_current_endpoint_is_used() -> None:
    scene = Scene(endpoint_record(7), endpoint_record(7, target_url="https://new.example", version=2))
    await scene.retry.handle(due())

    assert [made.endpoint.target_url for made in scene.delivery_service.delivered] == ["https://new.example"]


@pytest.mark.parametrize(
    ("endpoint", "kind", "reason", "target_url"),
    [
        (endpoint_record(7, deleted=True), "endpoint_deleted", "The endpoint was deleted before this attempt was due.", ""),
        (
            endpoint_record(7, events=("shipment_shipped",)),
            "not_subscribed",
            "The endpoint was no longer subscribed to this event type when the attempt was due.",
            "https://hooks.example.com/7",
        ),
    ],
    ids=["deleted", "not subscribed"],
)
async def test_a_pointless_attempt_is_discarded_and_recorded(
    endpoint: EndpointRecord, kind: str, reason: str, target_url: str
) -> None:
    scene = Scene(endpoint)

    await scene.retry.handle(due())

    assert scene.delivery_service.delivered == []
    assert scene.delivery_service.discarded == [DiscardedDelivery(RETRY_DUE, target_url, kind, reason)]


async def test_a_delivery_to_an_endpoint_not_read_yet_is_parked() -> None:
    scene = Scene()

    await scene.retry.handle(due())

    assert (scene.delivery_service.delivered, scene.delivery_service.discarded) == ([], [])
    assert scene.delivery_service.parked == [(RETRY_DUE, BODY)]


@pytest.mark.parametrize(("endpoint_id", "parked"), [(7, 100), (0, 0)], ids=["for long", "the built-in receiver"])
async def test_a_delivery_without_an_endpoint_does_not_wait_forever(endpoint_id: int, parked: int) -> None:
    scene = Scene()
    scene.registry.operational = None
    delivery = replace(RETRY_DUE, endpoint_id=endpoint_id, parked=parked)

    await scene.retry.handle(due(delivery))

    reason = "There is no such endpoint: it was removed, or its record was lost."
    assert scene.delivery_service.parked == []
    assert scene.delivery_service.discarded == [DiscardedDelivery(delivery, "", "endpoint_deleted", reason)]


async def test_a_resend_is_sent_regardless_of_subscriptions() -> None:
    scene = Scene(endpoint_record(7, events=("shipment_shipped",)))

    await scene.retry.handle(due(replace(RETRY_DUE, trigger=Trigger.RESEND)))

    assert len(scene.delivery_service.delivered) == 1


@pytest.mark.parametrize("trigger", Trigger)
@pytest.mark.parametrize("is_disabled", [False, True], ids=["paused", "disabled"])
async def test_a_delivery_to_an_inactive_endpoint_is_held(trigger: Trigger, is_disabled: bool) -> None:
    scene = Scene(endpoint_record(7, active=is_disabled))
    if is_disabled:
        scene.disable(7)
    delivery = replace(RETRY_DUE, trigger=trigger, later={"added_later": Raw(b"1")})

    await scene.retry.handle(due(delivery))

    assert (scene.delivery_service.delivered, scene.delivery_service.discarded) == ([], [])
    [sent] = scene.producer.sent
    assert (sent.topic, sent.key, sent.value) == ("t.webhooks.held", b"7", BODY)
    assert from_header(sent.headers, DELIVERY_HEADER, DeliveryRecord) == delivery


async def test_a_held_delivery_is_not_done_before_kafka_has_it() -> None:
    scene = Scene(endpoint_record(7, active=False), hold=True)
    handling = asyncio.create_task(scene.retry.handle(due()))
    await settle()
    assert not handling.done()

    scene.producer.sent[0].acknowledge()
    await handling


async def test_a_held_delivery_keeps_its_trace() -> None:
    scene = Scene(endpoint_record(7, active=False))

    await scene.retry.handle(due(replace(RETRY_DUE, traceparent=PARENT, tracestate="rojo=1")))

    held = from_header(scene.producer.sent[0].headers, DELIVERY_HEADER, DeliveryRecord)
    assert (held.traceparent, held.tracestate) == (PARENT, "rojo=1")


async def test_a_delivery_to_the_built_in_receiver_is_sent() -> None:
    scene = Scene(endpoint_record(7))
    operational = replace(RETRY_DUE, endpoint_id=0, event=replace(META, event_name="endpoint.disabled"))

    await scene.retry.handle(due(operational))

    assert [made.endpoint.id for made in scene.delivery_service.delivered] == [0]


@pytest.mark.parametrize(
    "endpoints",
    [[endpoint_record(7)], [endpoint_record(7, deleted=True)], []],
    ids=["delivered", "discarded", "parked"],
)
async def test_a_record_is_not_done_before_its_delivery_is(endpoints: list[EndpointRecord]) -> None:
    scene = Scene(*endpoints)
    scene.delivery_service.gate.clear()
    handling = asyncio.create_task(scene.retry.handle(due()))
    await settle()
    assert not handling.done()

    scene.delivery_service.gate.set()
    await handling


NULL: Any = None


@pytest.mark.parametrize(
    ("unusable", "reason", "detail"),
    [
        (due()._replace(headers=[]), "invalid_record", "The record has no header oms-webhooks-delivery."),
        (due()._replace(headers=[(DELIVERY_HEADER, b"{")]), "not_json", "The value is not JSON: "),
        (due()._replace(headers=[(DELIVERY_HEADER, b"{}")]), "invalid_record", "event: Field required; endpoint_id: "),
        (
            due()._replace(headers=[(DELIVERY_HEADER, b'{"schema_version":9}')]),
            "unsupported_version",
            "The record has schema_version 9",
        ),
        (due(body=None), "null_value", "The delivery has no body."),
    ],
)
async def test_an_unusable_record_becomes_a_dead_letter(unusable: Record, reason: str, detail: str) -> None:
    scene = Scene(endpoint_record(7))

    await scene.retry.handle(unusable)

    [sent] = scene.producer.sent
    letter = from_header(sent.headers, DEAD_LETTER_HEADER, DeadLetter)
    assert (sent.topic, sent.key, sent.value) == ("t.webhooks.dead-letters", unusable.key, unusable.value)
    assert letter.reason == reason
    assert letter.detail.startswith(detail)
    assert (letter.topic, letter.partition, letter.offset) == ("t.webhooks.delay.1m", 3, 41)
    assert (scene.delivery_service.delivered, scene.delivery_service.discarded) == ([], [])


async def test_a_delivery_with_a_null_header_becomes_a_dead_letter() -> None:
    scene = Scene(endpoint_record(7))

    await scene.retry.handle(due()._replace(headers=[(DELIVERY_HEADER, NULL)]))

    assert len(scene.producer.sent) == 1


async def test_a_dead_letter_is_not_done_before_it_is_acknowledged() -> None:
    scene = Scene(hold=True)
    handling = asyncio.create_task(scene.retry.handle(due(body=None)))
    await settle()
    assert not handling.done()

    scene.producer.sent[0].acknowledge()
    await handling


async def test_an_undecryptable_endpoint_does_not_discard_retries() -> None:
    sealed_elsewhere = endpoint_record(7, sealed_token=Vault(Vault.new_key()).seal("t0ken"))
    scene = Scene(sealed_elsewhere)

    await scene.retry.handle(due())

    assert scene.delivery_service.discarded == []


@pytest.mark.parametrize(
    ("topic", "seconds"),
    [("t.webhooks.delay.0s", 0), ("t.webhooks.delay.5s", 5), ("t.webhooks.delay.10m", 600), ("t.webhooks.delay.6h", 21_600)],
)
async def test_a_record_is_due_after_its_topics_delay(topic: str, seconds: int) -> None:
    record = SimpleNamespace(topic=topic, timestamp=1_772_463_840_600)

    assert Scene(broker_seconds=1_772_463_840.6 + 1).retry._due_in(record) == pytest.approx(seconds - 1)


@pytest.mark.parametrize(
    ("written_ago", "left"),
    [(20, 40), (60, 0), (0, 60), (-3600, 60)],  # the last: written by a fast clock, or read by a slow one
)
def test_no_clock_prolongs_a_wait_beyond_the_delay(written_ago: float, left: float) -> None:
    record = SimpleNamespace(topic="t.webhooks.delay.1m", timestamp=1_772_463_840_600)

    scene = Scene(broker_seconds=1_772_463_840.6 + written_ago)
    assert scene.retry._due_in(record) == pytest.approx(left, abs=0.001)


@pytest.mark.parametrize("wall_is_ahead", [3600, -3600, 432_000])
def test_the_local_wall_clock_is_not_used(wall_is_ahead: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that was an hour fast, a schedule of 2 s to 50 min was over in 14 s."""
    record = SimpleNamespace(topic="t.webhooks.delay.1h", timestamp=1_772_463_840_600)

    scene = Scene(broker_seconds=1_772_463_840.6 + 60)
    monkeypatch.setattr(time, "time", lambda: 1_772_463_840.6 + 60 + wall_is_ahead)
    assert scene.retry._due_in(record) == pytest.approx(3540)


def test_nothing_is_due_before_the_brokers_time_is_known() -> None:
    record = SimpleNamespace(topic="t.webhooks.delay.1h", timestamp=1_772_463_840_600)

    assert Scene(broker_seconds=None).retry._due_in(record) == 3600


async def test_every_delay_topic_is_read() -> None:
    assert Scene().retry.worker.consumer.topics == SETTINGS.topics.delay_topics


async def test_due_deliveries_are_counted_by_delay() -> None:
    counter = metrics.RETRIES_DUE.labels("1m")
    before = counter._value.get()

    await Scene(endpoint_record(7)).retry.handle(due())

    assert counter._value.get() == before + 1


# --- traces ---


async def test_a_retry_belongs_to_the_trace_of_its_event() -> None:
    scene = Scene(endpoint_record(7))

    await scene.retry.handle(due(replace(RETRY_DUE, traceparent=PARENT, tracestate="rojo=1")))

    assert scene.delivery_service.delivered[0].trace == TraceContext(PARENT, "rojo=1")
    assert scene.delivery_service.delivered[0].kept is UNSET


async def test_an_invalid_trace_does_not_stop_retries() -> None:
    scene = Scene(endpoint_record(7))

    await scene.retry.handle(due(replace(RETRY_DUE, traceparent="x\r\ny: z", tracestate="rojo=1")))

    assert scene.delivery_service.delivered[0].trace is None
    assert scene.producer.sent == []
