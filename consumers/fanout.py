"""The fan-out hop: an OMS event in, its first attempt at every endpoint that subscribed to it out.

oms.orders, oms.shipments, oms.stock-items
  -> dispatches (body, who matched), attempts, delay topics (failed), dead letters (unusable)
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pipeline.broker.producer import Position, Producer
from pipeline.broker.record import Record
from pipeline.broker.worker import Worker
from pipeline.delivery.courier import Courier
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.registry import Registry
from pipeline.ops import metrics
from pipeline.ops.clock import utc_now
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from schemas.codec import DecodedEvent, InvalidRecordError, decode_event, to_header, webhook_body
from schemas.delivery import DISPATCH_HEADER, DeadLetterReason, Dispatch, Trigger

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with an event: this body to these endpoints."""

    event: DecodedEvent
    body: bytes
    endpoints: list[Endpoint]


class FanOut:
    """Reads the source topics as group ``webhooks.fanout``. Start it when the registry has caught up, not before."""

    def __init__(
        self,
        settings: Settings,
        consumer_config: dict[str, Any],
        *,
        registry: Registry,
        courier: Courier,
        producer: Producer,
        dead_letters: DeadLetters,
    ) -> None:
        self._max_bytes = settings.max_event_bytes
        self._dispatches = settings.topics.dispatches
        self._registry = registry
        self._courier = courier
        self._producer = producer
        self._dead_letters = dead_letters
        self.worker = Worker(
            consumer_config,
            self.handle,
            group=settings.topics.fanout_group,
            topics=settings.topics.sources,
            max_outstanding=settings.max_outstanding_records,
        )

    async def handle(self, record: Record) -> None:
        """Deal with one event; returns when everything that came of it is acknowledged by Kafka."""
        try:
            plan = self.plan(record)
        except InvalidRecordError as error:
            await self._dead_letters.send(record, error.reason, str(error))
            return
        except Exception as error:  # whatever is wrong with it, it must not stop the events behind it
            log.exception("an event could not be planned", partition=record.partition, offset=record.offset)
            detail = f"Unexpected {type(error).__name__}; see the log of the fan-out."
            await self._dead_letters.send(record, DeadLetterReason.UNEXPECTED_ERROR, detail)
            return
        dispatched = self._dispatch(record, plan)
        deliveries = [
            self._courier.deliver(
                plan.event.meta, plan.body, endpoint, attempt=1, trigger=Trigger.EVENT, written_at=record.timestamp_ms / 1000
            )
            for endpoint in plan.endpoints
        ]
        if len(deliveries) == 1:
            await deliveries[0]  # without a task of its own
        else:
            await asyncio.gather(*deliveries)
        await dispatched

    def plan(self, record: Record) -> Plan:
        """Decode and match.

        Raises:
            InvalidRecordError: the record is a dead letter.
        """
        if record.key is None:
            message = "The record has no key; publish it with the order number (stock events: the stock item id) as its key."
            raise InvalidRecordError(DeadLetterReason.MISSING_KEY, message)
        event = decode_event(record.value, max_bytes=self._max_bytes)
        event = replace(event, meta=event.meta.model_copy(update={"received_at": _received_at(record)}))
        endpoints = self._registry.matching(event.meta.event_name, event.payload)
        _events_counter(event.meta.event_name).inc()
        if endpoints:
            _matches_counter(event.meta.event_name).inc(len(endpoints))
        else:
            metrics.UNMATCHED.labels(event.meta.event_name).inc()
        return Plan(event, webhook_body(event), endpoints)

    def _dispatch(self, record: Record, plan: Plan) -> asyncio.Future[Position]:
        """Write the body down once, with who matched: also when nobody did."""
        dispatch = Dispatch(
            event=plan.event.meta,
            endpoint_ids=tuple(endpoint.id for endpoint in plan.endpoints),
            received_at=plan.event.meta.received_at or _received_at(record),
            source_topic=record.partition.topic,
            source_partition=record.partition.number,
            source_offset=record.offset,
        )
        return self._producer.send(
            self._dispatches,
            key=plan.event.meta.id.encode(),
            value=plan.body,
            headers=[to_header(DISPATCH_HEADER, dispatch)],
            spread=True,
        )


def _received_at(record: Record) -> datetime:
    """When the record was written, by its timestamp; now, when a producer set one that is no time (microseconds, say)."""
    try:
        return datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return utc_now()


_events_counter = functools.cache(metrics.EVENTS.labels)
_matches_counter = functools.cache(metrics.MATCHES.labels)
