"""Write events to the source topics from the command line: those of a file, or of a simulated OMS."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from pipeline.broker.api import Position
from pipeline.broker.errors import PublishError
from pipeline.broker.factory import open_broker
from pipeline.broker.producer import Producer
from pipeline.core.counted import counted
from pipeline.devtools.sample_records import sample_record
from pipeline.devtools.simulator import Shop, SimulatedEvent
from pipeline.ops.settings import Settings
from schemas.event import EventMeta
from schemas.event_types import BUILT_IN
from schemas.topics import Topics

_MAX_UNACKNOWLEDGED = 2000

_ADDED_SHARE = 0.2
"""The share of order events after which the simulation also publishes one of an event type that the deployment adds."""


def source_topic(topics: Topics, event_name: str) -> str:
    """The topic that a built-in event type belongs to."""
    return topics.prefix + BUILT_IN.by_name[event_name].topic


def record_key(meta: EventMeta) -> bytes:
    """The key of an event: order number or stock item id. For other event types: the identity that they are found by."""
    if meta.stock_item_id is not None:
        return str(meta.stock_item_id).encode()
    return (meta.order_number or next(iter(meta.shipment_numbers), None) or meta.subscription_id or meta.id).encode()


async def publish(settings: Settings, values: Sequence[bytes]) -> list[Position]:
    """Write events to their topics, and wait until Kafka has them. Events with the same key keep their order.

    Raises:
        InvalidRecordError: an event would become a dead letter. Nothing was written.
        PublishError: Kafka refused an event. It says how many others were written.
    """
    events = settings.event_reader
    metas = [events.read_unpublished(value).meta for value in values]
    targets = [events.topic_of(meta.event_name) for meta in metas]
    producer = Producer(open_broker(settings), sorted(set(targets)))
    await producer.start()
    try:
        sent = [
            producer.send(topic, key=record_key(meta), value=value)
            for topic, meta, value in zip(targets, metas, values, strict=True)
        ]
        results = await asyncio.gather(*sent, return_exceptions=True)
    finally:
        await producer.close()
    refused = [result for result in results if isinstance(result, BaseException)]
    if refused:
        told = f"{refused[0]}. Published: {len(results) - len(refused):,} of {counted(len(results), 'event')}."
        raise PublishError(told) from refused[0]
    return [result for result in results if not isinstance(result, BaseException)]


async def simulate(
    settings: Settings,
    *,
    rate: float,
    seed: int,
    seconds: float | None = None,
    count: int | None = None,
    on_event: Callable[[SimulatedEvent], None] | None = None,
) -> int:
    """Publish the events of a simulated OMS, ``rate`` per second. Returns how many Kafka acknowledged.

    Raises:
        PublishError: Kafka refused one. No more are published.
    """
    producer = Producer(open_broker(settings), settings.topics.sources)
    await producer.start()
    shop, started, published = Shop(seed), time.monotonic(), 0
    records_of = _Records(settings, seed)
    unsettled = _Unsettled()
    try:
        while (
            (seconds is None or time.monotonic() - started < seconds)
            and (count is None or published < count)
            and unsettled.refusal is None
        ):
            event = shop.next_event(datetime.now(UTC))
            records = records_of(event, is_last=count is not None and published + 1 >= count)
            for topic, key, value in records:
                unsettled.add(producer.send(topic, key=key.encode(), value=value))
            published += len(records)
            if on_event is not None:
                on_event(event)
            await unsettled.until_below(_MAX_UNACKNOWLEDGED)
            # Behind schedule: continue immediately, but let other tasks run.
            await asyncio.sleep(max(0.0, started + published / rate - time.monotonic()))
    finally:
        await unsettled.until_below(1)
        await producer.close()
    if unsettled.refusal is not None:
        raise unsettled.refusal
    return published


class _Records:
    """The records of simulated events: topic, key, value. Some orders also get an event of a configured type."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self._topics = settings.topics
        self._configured = list(settings.event_types.configured.values())
        self._chance = random.Random(seed)  # noqa: S311 - repeatable

    def __call__(self, event: SimulatedEvent, *, is_last: bool) -> list[tuple[str, str, bytes]]:
        """``is_last``: one record only."""
        records = [(getattr(self._topics, event.topic_kind), event.key, event.value)]
        if self._configured and event.topic_kind == "orders" and self._chance.random() < _ADDED_SHARE and not is_last:
            kind = self._chance.choice(self._configured)
            more = sample_record(kind, f"evt_{self._chance.getrandbits(128):032x}", event.key, event.occurred_at)
            records.append((self._topics.prefix + kind.topic, more.key, more.value))
        return records


class _Unsettled:
    """Records that Kafka has neither acknowledged nor refused yet."""

    def __init__(self) -> None:
        self.refusal: BaseException | None = None
        """Why Kafka refused the first one that it refused."""
        self._sent: set[asyncio.Future[Position]] = set()

    def add(self, sent: asyncio.Future[Position]) -> None:
        self._sent.add(sent)
        sent.add_done_callback(self._settle)

    async def until_below(self, limit: int) -> None:
        while len(self._sent) >= limit:
            await asyncio.wait(self._sent, return_when=asyncio.FIRST_COMPLETED)

    def _settle(self, sent: asyncio.Future[Position]) -> None:
        self._sent.discard(sent)
        if not sent.cancelled() and self.refusal is None:
            self.refusal = sent.exception()
