"""The courier makes one attempt of one event at one endpoint, and leaves behind every record that follows from it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from datetime import timedelta

from pipeline.broker.producer import Position, Producer
from pipeline.core.attempts import attempt_record, discarded_record
from pipeline.core.exchange import Exchange, Request
from pipeline.core.outcome import Repeat, Verdict, judge
from pipeline.core.retry import RetrySchedule
from pipeline.core.signing import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from pipeline.endpoints.endpoint import Endpoint
from pipeline.ops import metrics
from pipeline.ops.clock import Clock
from pipeline.ops.logs import logger
from pipeline.sender.client import Sender
from pipeline.sender.lanes import Lanes
from schemas.attempt import Attempt
from schemas.codec import to_header
from schemas.delivery import DELIVERY_HEADER, Delivery, Trigger
from schemas.event import EventMeta
from schemas.topics import Topics, delay_label

log = logger(__name__)

CONTENT_TYPE = "application/json"
REDACTED = "[redacted]"
_NO_REPEATS = RetrySchedule(())


class Courier:
    """Delivers. One per process."""

    def __init__(
        self,
        *,
        sender: Sender,
        lanes: Lanes,
        producer: Producer,
        topics: Topics,
        schedule: RetrySchedule,
        clock: Clock,
    ) -> None:
        self._sender = sender
        self._lanes = lanes
        self._producer = producer
        self._topics = topics
        self._schedule = schedule
        self._clock = clock

    async def deliver(
        self,
        event: EventMeta,
        body: bytes,
        endpoint: Endpoint,
        *,
        attempt: int,
        trigger: Trigger,
        parked: int = 0,
        written_at: float | None = None,
    ) -> None:
        """Make the ``attempt``-th (from 1) attempt, or park it when the endpoint is at its bound or its secrets cannot be opened.

        Returns when everything that came of it (the attempt; the repeat, if any) is acknowledged by Kafka. If the process dies
        before that, the input record is not committed, and the attempt is made again with the same webhook-id. ``written_at``,
        given for a first attempt, is when the event was written to Kafka, in seconds since 1970.
        """
        place = await self._lanes.enter(endpoint.id) if endpoint.problem is None else None
        if place is None:
            reason = "endpoint_at_its_bound" if endpoint.problem is None else "endpoint_unusable"
            delivery = Delivery(event=event, endpoint_id=endpoint.id, attempt=attempt, trigger=trigger, parked=parked + 1)
            await self._park(delivery, body, reason)
            return
        with place:
            if written_at is not None:
                metrics.FIRST_ATTEMPT.observe(max(0.0, self._clock().timestamp() - written_at))
            record, verdict = await self._attempt(event, body, endpoint, attempt, trigger, self._schedule)
        for acknowledged in self._leave_behind(record, verdict, body):
            await acknowledged

    async def test(self, event: EventMeta, body: bytes, endpoint: Endpoint) -> tuple[Attempt, Position]:
        """Make one attempt now, without a repeat; returns its record and where Kafka put it.

        It does not wait in line, and its endpoint may be paused: somebody wants to see what the endpoint answers.
        """
        record, _ = await self._attempt(event, body, endpoint, 1, Trigger.TEST, _NO_REPEATS)
        return record, await self._send_attempt(record)

    async def _attempt(
        self, event: EventMeta, body: bytes, endpoint: Endpoint, attempt: int, trigger: Trigger, schedule: RetrySchedule
    ) -> tuple[Attempt, Verdict]:
        request, shown_headers = self._request(event, body, endpoint)
        with metrics.IN_FLIGHT.track_inprogress():
            exchange = await self._sender.post(request)
        finished_at = self._clock()
        verdict = judge(exchange, attempt, schedule, finished_at)
        record = attempt_record(
            event,
            endpoint_id=endpoint.id,
            target_url=endpoint.target_url,
            attempt=attempt,
            trigger=trigger,
            started_at=finished_at - timedelta(milliseconds=exchange.duration_ms),
            finished_at=finished_at,
            request_headers=shown_headers,
            exchange=exchange,
            verdict=verdict,
        )
        _count(event, record, exchange)
        return record, verdict

    async def discard(
        self, event: EventMeta, endpoint_id: int, target_url: str, *, attempt: int, trigger: Trigger, reason: str, kind: str
    ) -> None:
        """Record that an attempt was due and is not made. ``kind`` is the reason as one word, for the metrics."""
        metrics.DISCARDED.labels(kind).inc()
        record = discarded_record(
            event,
            endpoint_id=endpoint_id,
            target_url=target_url,
            attempt=attempt,
            trigger=trigger,
            now=self._clock(),
            reason=reason,
        )
        await self._send_attempt(record)

    def _request(self, event: EventMeta, body: bytes, endpoint: Endpoint) -> tuple[Request, Mapping[str, str]]:
        """The request, and its headers without credentials for the record of the attempt."""
        now = self._clock()
        timestamp = int(now.timestamp())
        shown = {
            "content-type": CONTENT_TYPE,
            ID_HEADER: event.id,
            TIMESTAMP_HEADER: str(timestamp),
            SIGNATURE_HEADER: sign(endpoint.keys(now), event.id, timestamp, body),
        }
        headers = {**endpoint.headers, **shown}
        if endpoint.token:
            headers["authorization"] = f"Bearer {endpoint.token}"
        # The record of an attempt names custom headers; their values may be passwords.
        return Request(endpoint.target_url, headers, body), {**dict.fromkeys(endpoint.headers, REDACTED), **shown}

    def _leave_behind(self, record: Attempt, verdict: Verdict, body: bytes) -> list[asyncio.Future[Position]]:
        sent = [self._send_attempt(record)]
        if isinstance(verdict, Repeat):
            # What was asked for stays so: its repeats are made though the endpoint does not subscribe to the event type.
            trigger = Trigger.RESEND if record.trigger is Trigger.RESEND else Trigger.REPEAT
            repeat = Delivery(event=record.event, endpoint_id=record.endpoint_id, attempt=record.attempt + 1, trigger=trigger)
            sent.append(self._send_later(repeat, body, verdict.delay))
        return sent

    def _send_attempt(self, record: Attempt) -> asyncio.Future[Position]:
        value = record.model_dump_json().encode()
        return self._producer.send(self._topics.attempts, key=record.event.id.encode(), value=value, spread=True)

    async def _park(self, delivery: Delivery, body: bytes, reason: str) -> None:
        """Put a delivery off by the shortest delay, without using up an attempt (promise 4)."""
        metrics.PARKED.labels(reason).inc()
        await self._send_later(delivery, body, self._schedule.delays[0])

    def _send_later(self, delivery: Delivery, body: bytes, delay: timedelta) -> asyncio.Future[Position]:
        metrics.RETRIES_SCHEDULED.labels(delay_label(delay)).inc()
        return self._producer.send(
            self._topics.delay(delay),
            key=delivery.event.id.encode(),
            value=body,
            headers=[to_header(DELIVERY_HEADER, delivery)],
            spread=True,
        )


def _count(event: EventMeta, record: Attempt, exchange: Exchange) -> None:
    outcome = record.outcome.value
    code = f"{exchange.status // 100}xx" if exchange.status else record.failure or "none"
    _attempts_counter(event.event_name, outcome, code).inc()
    _duration_histogram(outcome).observe(record.duration_ms / 1000)
    log.debug(
        "attempt",
        event_id=event.id,
        endpoint_id=record.endpoint_id,
        attempt=record.attempt,
        outcome=outcome,
        status=exchange.status,
        failure=record.failure,
        duration_ms=record.duration_ms,
    )


# labels() takes a lock and builds a key each time; the label sets are few.
_attempts_counter = functools.cache(metrics.ATTEMPTS.labels)
_duration_histogram = functools.cache(metrics.ATTEMPT_DURATION.labels)
