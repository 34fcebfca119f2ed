"""Events that no producer published: tests and verifications. They are recorded, so that an attempt's details show the body."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from pipeline.broker.api import Position
from pipeline.broker.producer import Producer
from schemas.codec import to_header
from schemas.delivery import DISPATCH_HEADER, Dispatch
from schemas.event import EventMeta


@dataclass(frozen=True, slots=True)
class UnpublishedEvent:
    """An event for one endpoint. ``source`` stands for the source topic in its row."""

    meta: EventMeta
    body: bytes
    endpoint_id: int
    source: str


def dispatch_unpublished(producer: Producer, topic: str, event: UnpublishedEvent, now: datetime) -> asyncio.Future[Position]:
    """Write the event's dispatch; the future is done when Kafka has it. ``topic``: the topic of dispatches."""
    dispatch = Dispatch(
        event=event.meta,
        endpoint_ids=(event.endpoint_id,),
        received_at=now,
        source_topic=event.source,
        source_partition=0,
        source_offset=0,
    )
    header = to_header(DISPATCH_HEADER, dispatch)
    return producer.send(topic, key=event.meta.id.encode(), value=event.body, headers=[header], spread=True)
