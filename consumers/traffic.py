"""Writing events to the source topics from the command line: one from a file, or a simulated OMS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from pipeline.broker.api import Position
from pipeline.broker.choice import open_broker
from pipeline.broker.producer import Producer
from pipeline.ops.settings import Settings
from pipeline.playground.simulator import Shop, SimulatedEvent
from schemas.codec import decode_event
from schemas.event import EventMeta, EventType
from schemas.topics import Topics

_MAX_UNACKNOWLEDGED = 2000

_KINDS = {"order": "orders", "shipment": "shipments", "stock": "stock_items"}


def source_topic(topics: Topics, event_name: str) -> str:
    """The topic that an event type belongs to."""
    topic: str = getattr(topics, _KINDS[EventType(event_name).value.split("_", 1)[0]])
    return topic


def record_key(meta: EventMeta) -> bytes:
    """The key that an event is published with: order number, or stock item id."""
    return (str(meta.stock_item_id) if meta.stock_item_id is not None else meta.order_number or meta.shipment_numbers[0]).encode()


async def publish(settings: Settings, values: Sequence[bytes]) -> list[Position]:
    """Write events to their topics, and wait until Kafka has them. Those of one key keep their order.

    Raises:
        InvalidRecordError: one of them would be a dead letter; nothing was written.
    """
    metas = [decode_event(value, max_bytes=settings.max_event_bytes).meta for value in values]
    targets = [source_topic(settings.topics, meta.event_name) for meta in metas]
    producer = Producer(open_broker(settings), sorted(set(targets)))
    await producer.start()
    try:
        sent = [
            producer.send(topic, key=record_key(meta), value=value)
            for topic, meta, value in zip(targets, metas, values, strict=True)
        ]
        return await asyncio.gather(*sent)
    finally:
        await producer.close()


async def simulate(
    settings: Settings,
    *,
    rate: float,
    seed: int,
    seconds: float | None = None,
    count: int | None = None,
    on_event: Callable[[SimulatedEvent], None] | None = None,
) -> int:
    """Publish what a simulated OMS lives through, ``rate`` events a second; returns how many Kafka acknowledged."""
    producer = Producer(open_broker(settings), settings.topics.sources)
    await producer.start()
    shop, started, published = Shop(seed), time.monotonic(), 0
    pending: set[asyncio.Future[Position]] = set()
    try:
        while (seconds is None or time.monotonic() - started < seconds) and (count is None or published < count):
            event = shop.next_event(datetime.now(UTC))
            topic = getattr(settings.topics, event.topic_kind)
            sent = producer.send(topic, key=event.key.encode(), value=event.value)
            pending.add(sent)
            sent.add_done_callback(pending.discard)
            published += 1
            if on_event is not None:
                on_event(event)
            if len(pending) >= _MAX_UNACKNOWLEDGED:
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            # Behind the plan: go on at once, but let the loop breathe.
            await asyncio.sleep(max(0.0, started + published / rate - time.monotonic()))
    finally:
        if pending:
            await asyncio.gather(*pending)
        await producer.close()
    return published
