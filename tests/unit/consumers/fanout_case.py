"""A fan-out with a delivery service and a producer in memory."""

from __future__ import annotations

import asyncio
from typing import cast

from consumers.fanout import FanOut
from pipeline.broker.api import Record
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.core.trace import TraceContext
from pipeline.delivery.consumer_services import ConsumerServices
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.delivery.delivery import Delivery
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.delivery.publisher import DeliveryPublisher
from pipeline.delivery.records import delivery_record
from pipeline.endpoints.operational_endpoint import operational_endpoint
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from schemas.codec import from_header, to_json
from schemas.delivery import DEAD_LETTER_HEADER, DISPATCH_HEADER, DeadLetter, Dispatch, Trigger
from schemas.endpoint import EndpointRecord
from schemas.event import EventMeta
from tests.unit.fake_kafka import FakeProducer, Sent, record
from tests.unit.sample_events import NOW, event

SETTINGS = Settings(_env_file=None, max_event_bytes=100_000)
VAULT = Vault(Vault.new_key())


class FakeDeliveryService:
    """Records what it is asked to deliver. ``gate`` blocks it, ``error`` makes it fail. Deliveries to paused endpoints are
    held.
    """

    def __init__(self, publisher: DeliveryPublisher) -> None:
        self.publisher = publisher
        self.delivered: list[tuple[EventMeta, bytes, int, int, Trigger]] = []
        self.traces: list[TraceContext | None] = []
        self.written_at: list[float | None] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def deliver(self, made: Delivery) -> None:
        self.written_at.append(made.written_at)
        if not made.endpoint.active:
            await self.publisher.hold(delivery_record(made), made.body)
            return
        self.traces.append(made.trace)
        self.delivered.append((made.event, made.body, made.endpoint.id, made.attempt, made.trigger))
        await self.gate.wait()
        if self.error:
            raise self.error


class Scene:
    """A fan-out and everything around it."""

    def __init__(self, *endpoints: EndpointRecord, hold: bool = False, settings: Settings = SETTINGS) -> None:
        self.producer = FakeProducer(hold=hold)
        self.delivery_service = FakeDeliveryService(DeliveryPublisher(self.producer, settings.topics))
        self.registry = Registry(MemoryBroker(), "webhooks.endpoints", VAULT, operational=operational_endpoint(settings))
        self.registry._apply(
            record(to_json(endpoint), topic="webhooks.endpoints", key=str(endpoint.id).encode()) for endpoint in endpoints
        )
        self.fan_out = FanOut(
            settings,
            MemoryBroker(),
            ConsumerServices(
                registry=self.registry,
                service=cast("DeliveryService", self.delivery_service),
                producer=self.producer,
                dead_letters=DeadLetters(self.producer, "webhooks.dead-letters", lambda: NOW),
            ),
        )

    def handling(self, unusual: Record | None = None) -> asyncio.Task[None]:
        return asyncio.create_task(self.fan_out.handle(unusual or record(event())))

    def only_letter(self) -> tuple[Sent, DeadLetter]:
        """The dead letter, if nothing else was sent."""
        [sent] = self.producer.sent
        assert sent.topic == "webhooks.dead-letters"
        return sent, from_header(sent.headers, DEAD_LETTER_HEADER, DeadLetter)


def dispatch_of(sent: Sent) -> Dispatch:
    assert sent.topic == "webhooks.dispatches"
    return from_header(sent.headers, DISPATCH_HEADER, Dispatch)
