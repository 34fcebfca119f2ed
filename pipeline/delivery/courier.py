"""The courier makes one attempt of one event at one endpoint, and leaves behind every record that follows from it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pipeline.broker.api import Position
from pipeline.broker.bundles import Bundles, Place
from pipeline.broker.producer import Producer
from pipeline.core.attempts import attempt_record, discarded_record
from pipeline.core.exchange import Exchange, Request
from pipeline.core.outcome import Repeat, Verdict, judge
from pipeline.core.own_faults import PARKED_IN_DOUBT, NotSent, NotSentError, charged
from pipeline.core.redaction import REDACTED
from pipeline.core.retry import RetrySchedule
from pipeline.core.signing import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from pipeline.core.trace import TraceContext, exemplar
from pipeline.delivery.gate import PARKED_WHILE_BUSY, Gate, Pass, Refusal
from pipeline.delivery.next_delivery import repeat, traced
from pipeline.delivery.watch import Watch
from pipeline.endpoints.endpoint import Endpoint
from pipeline.ops import metrics
from pipeline.ops.clock import Clock
from pipeline.ops.logs import logger
from pipeline.ops.own_faults import OwnFaults
from pipeline.sender.client import Sender
from schemas.attempt import Attempt, AttemptState, Outcome
from schemas.codec import to_header, to_json
from schemas.delivery import DELIVERY_HEADER, Delivery, Trigger
from schemas.event import EventMeta
from schemas.topics import Topics, delay_label

if TYPE_CHECKING:
    from pipeline.ops.tracing import Span, Tracing

log = logger(__name__)

_ATTEMPT_BYTES = 4 * 1024
"""About what the record of an attempt takes until Kafka has it."""

CONTENT_TYPE = "application/json"
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_NO_REPEATS = RetrySchedule(())


class Courier:
    """Delivers. One per process."""

    def __init__(
        self,
        *,
        sender: Sender,
        gate: Gate,
        watch: Watch,
        producer: Producer,
        topics: Topics,
        schedule: RetrySchedule,
        clock: Clock,
        tracing: Tracing | None = None,
    ) -> None:
        self._sender = sender
        self._gate = gate
        self._watch = watch
        self._producer = producer
        self._schedule = schedule
        self._clock = clock
        self._tracing = tracing
        self.own_faults = OwnFaults()
        self._attempts = Bundles(producer, topics.attempts, separator=b"\n")
        # Bound once: the module's logger looks for its configuration at each call.
        self._debug = log.bind().debug
        # Looked up once for each delay of the schedule.
        self._later = functools.cache(lambda delay: (topics.delay(delay), metrics.RETRIES_SCHEDULED.labels(delay_label(delay))))

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
        kept: Mapping[str, Any] = _NOTHING,
        trace: TraceContext | None = None,
    ) -> None:
        """Make the ``attempt``-th (from 1) attempt, or park it when the gate does not let it through (see Gate).

        Returns when everything that came of it (the attempt; the repeat, if any) is acknowledged by Kafka. If the process dies
        before that, the input record is not committed, and the attempt is made again with the same webhook-id. ``written_at``,
        given for a first attempt, is when the event was written to Kafka, in seconds since 1970. ``kept`` is what the delivery holds
        of a newer release; the next delivery holds it too. ``trace`` is where the delivery belongs in a trace: the receiver and the
        next delivery are told.
        """
        # While Kafka does not acknowledge, nothing is begun: what comes of it would gather here.
        await self._producer.room(_ATTEMPT_BYTES)
        entry = await self._gate.enter(endpoint)
        if isinstance(entry, Refusal):
            delivery = Delivery(**kept, event=event, endpoint_id=endpoint.id, attempt=attempt, trigger=trigger, parked=parked + 1)
            await self._park(delivery, body, entry, trace)
            return
        with entry:
            begun_at = self._clock().timestamp()
            made = await self._attempt(event, body, endpoint, attempt, trigger, self._schedule, entry, trace, parked=parked)
        if isinstance(made, NotSent):
            self.own_faults.count(made.fault, made.detail)
            delivery = Delivery(**kept, event=event, endpoint_id=endpoint.id, attempt=attempt, trigger=trigger, parked=parked + 1)
            await self._park(delivery, body, Refusal(made.fault.value, PARKED_WHILE_BUSY), trace)
            return
        if written_at is not None:
            metrics.FIRST_ATTEMPT.observe(max(0.0, begun_at - written_at), exemplar=exemplar(trace))
        record, verdict, exchange = made
        # All of it is on its way before any of it is waited for.
        attempt_written = self._send_attempt(record)
        disabled = self._watch.ended(endpoint, exchange)
        if isinstance(verdict, Repeat):
            await self._producer.room(len(body))
            await self._send_later(traced(repeat(record, kept), trace), body, verdict.delay)
        await attempt_written
        if disabled is not None:
            await disabled

    async def test(
        self, event: EventMeta, body: bytes, endpoint: Endpoint, trace: TraceContext | None = None
    ) -> tuple[Attempt, Place]:
        """Make one attempt now, without a repeat; returns its record and where Kafka put it.

        It does not wait in line, and its endpoint may be paused: somebody wants to see what the endpoint answers.

        Raises:
            NotSentError: nothing was sent, through a fault of ours.
        """
        made = await self._attempt(event, body, endpoint, 1, Trigger.TEST, _NO_REPEATS, trace=trace, parked=PARKED_IN_DOUBT)
        if isinstance(made, NotSent):
            raise NotSentError(made.detail)
        record, _, _ = made
        return record, await self._send_attempt(record)

    async def _attempt(
        self,
        event: EventMeta,
        body: bytes,
        endpoint: Endpoint,
        attempt: int,
        trigger: Trigger,
        schedule: RetrySchedule,
        entry: Pass | None = None,
        trace: TraceContext | None = None,
        *,
        parked: int = 0,
    ) -> tuple[Attempt, Verdict, Exchange] | NotSent:
        span = None
        if self._tracing is not None:
            span = self._tracing.attempt(
                event, endpoint_id=endpoint.id, target_url=endpoint.target_url, attempt=attempt, parent=trace
            )
            trace = span.trace
        request, shown_headers = self._request(event, body, endpoint, trace)
        exchange = charged(await self._sender.post(request, None if entry is None else entry.start), parked)
        if isinstance(exchange, NotSent):
            return exchange
        finished_at = self._clock()
        if entry is not None:
            entry.end(exchange, finished_at)
        verdict = judge(exchange, attempt, schedule, finished_at)
        exchange = endpoint.redactor.redact(exchange)  # what is written, logged or traced of it comes after this
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
        self._count(event, record, exchange, trace)
        if span is not None:  # an attempt that was cancelled leaves no span, as it leaves no record
            _end(span, record, exchange)
        return record, verdict, exchange

    async def discard(
        self,
        event: EventMeta,
        endpoint_id: int,
        target_url: str,
        *,
        attempt: int,
        trigger: Trigger,
        reason: str,
        kind: str,
        trace: TraceContext | None = None,
        outcome: Outcome = Outcome.DISCARDED,
    ) -> None:
        """Record that an attempt was due and is not made. ``kind`` is the reason as one word, for the metrics."""
        (metrics.EXPIRED if outcome is Outcome.EXPIRED else metrics.DISCARDED.labels(kind)).inc()
        log.debug("attempt discarded", **_ids(event, endpoint_id, attempt, trace), reason=kind)
        record = discarded_record(
            event,
            endpoint_id=endpoint_id,
            target_url=target_url,
            attempt=attempt,
            trigger=trigger,
            now=self._clock(),
            reason=reason,
            outcome=outcome,
        )
        await self._send_attempt(record)

    def _request(
        self, event: EventMeta, body: bytes, endpoint: Endpoint, trace: TraceContext | None
    ) -> tuple[Request, Mapping[str, str]]:
        """The request, and its headers without credentials for the record of the attempt."""
        now = self._clock()
        timestamp = int(now.timestamp())
        shown = {
            "content-type": CONTENT_TYPE,
            ID_HEADER: event.id,
            TIMESTAMP_HEADER: str(timestamp),
            SIGNATURE_HEADER: sign(endpoint.keys(now), event.id, timestamp, body),
        }
        if trace is not None:
            shown |= trace.headers()
        if not endpoint.headers and not endpoint.token:
            return Request(endpoint.target_url, shown, body), shown
        headers = {**endpoint.headers, **shown}
        if endpoint.token:
            headers["authorization"] = f"Bearer {endpoint.token}"
        # The record of an attempt names custom headers; their values may be passwords.
        return Request(endpoint.target_url, headers, body), {**dict.fromkeys(endpoint.headers, REDACTED), **shown}

    def _count(self, event: EventMeta, record: Attempt, exchange: Exchange, trace: TraceContext | None) -> None:
        outcome = record.outcome.value
        code = f"{exchange.status // 100}xx" if exchange.status else record.failure or "none"
        metrics.ATTEMPTS.count(event.event_name, outcome, code)
        if metrics.ENDPOINT_ATTEMPTS.size:
            metrics.ENDPOINT_ATTEMPTS.count(record.endpoint_id, outcome)
        metrics.ATTEMPT_DURATION.observe(record.duration_ms / 1000, outcome, exemplar=exemplar(trace))
        self._debug(
            "attempt",
            event_id=event.id,
            endpoint_id=record.endpoint_id,
            attempt=record.attempt,
            trace_id=None if trace is None else trace.trace_id,
            outcome=outcome,
            status=exchange.status,
            failure=record.failure,
            duration_ms=record.duration_ms,
        )

    def _send_attempt(self, record: Attempt) -> asyncio.Future[Place]:
        return self._attempts.add(to_json(record), day=record.created_at.date())

    async def _park(self, delivery: Delivery, body: bytes, refusal: Refusal, trace: TraceContext | None) -> None:
        """Put a delivery off without using up an attempt (promise 4); ``delivery.parked`` counts this time already."""
        _parked_counter(refusal.reason).inc()
        self._debug(
            "delivery parked", **_ids(delivery.event, delivery.endpoint_id, delivery.attempt, trace), reason=refusal.reason
        )
        delay = self._schedule.parking(delivery.parked - 1, refusal.at_least, refusal.longest)
        await self._producer.room(len(body))
        await self._send_later(traced(delivery, trace), body, delay)

    def _send_later(self, delivery: Delivery, body: bytes, delay: timedelta) -> asyncio.Future[Position]:
        topic, scheduled = self._later(delay)
        scheduled.inc()
        return self._producer.send(
            topic,
            key=delivery.event.id.encode(),
            value=body,
            headers=[to_header(DELIVERY_HEADER, delivery)],
            spread=True,
        )


def _end(span: Span, record: Attempt, exchange: Exchange) -> None:
    described: dict[str, str | int | float | bool] = {"oms_webhooks.outcome": record.outcome.value}
    if exchange.status is not None:
        described["http.response.status_code"] = exchange.status
    span.describe(described)
    if record.state is not AttemptState.SUCCEEDED:
        span.fail(record.failure or str(exchange.status))
    span.end()


def _ids(event: EventMeta, endpoint_id: int, attempt: int, trace: TraceContext | None) -> dict[str, str | int | None]:
    """What every line about a delivery is found by."""
    trace_id = None if trace is None else trace.trace_id
    return {"event_id": event.id, "endpoint_id": endpoint_id, "attempt": attempt, "trace_id": trace_id}


# labels() takes a lock and builds a key each time; the label sets are few.
_parked_counter = functools.cache(metrics.PARKED.labels)
