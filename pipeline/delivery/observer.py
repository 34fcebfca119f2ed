"""Reports deliveries: metrics, the debug log, and a span for each attempt if traces are collected."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pipeline.core.trace import TraceContext, exemplar
from pipeline.delivery.delivery import AttemptResult, Delivery, DeliveryOutcome, DiscardedDelivery, HeldDelivery, ParkedDelivery
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from schemas.attempt import Attempt, AttemptState, Outcome
from schemas.delivery import DeliveryRecord

if TYPE_CHECKING:
    from pipeline.ops.tracing import Span, Tracing

log = logger(__name__)

# labels() takes a lock and builds a key each time; the label sets are few.
_parked_counter = functools.cache(metrics.PARKED.labels)


class DeliveryObserver:
    """One per process that delivers. It does not affect the outcome of a delivery."""

    def __init__(self, tracing: Tracing | None = None, *, counts_endpoints: bool = False) -> None:
        """``counts_endpoints``: whether attempts are also counted by endpoint (setting ``metrics_top_endpoints``)."""
        self._tracing = tracing
        self._counts_endpoints = counts_endpoints
        # Bound once: the module's logger looks up its configuration on each call.
        self._debug = log.bind().debug

    def begin(self, delivery: Delivery) -> Span | None:
        """An attempt starts. A cancelled attempt leaves neither a span nor a record."""
        if self._tracing is None:
            return None
        return self._tracing.attempt(
            delivery.event,
            endpoint_id=delivery.endpoint.id,
            target_url=delivery.endpoint.target_url,
            attempt=delivery.attempt,
            parent=delivery.trace,
        )

    def report(self, outcome: DeliveryOutcome, attempt: Attempt | None) -> None:
        """Report the outcome of a delivery. ``attempt`` is its record, if an attempt was made or discarded."""
        match outcome:
            case AttemptResult():
                if attempt is not None:
                    self._ended(outcome, attempt)
            case ParkedDelivery():
                self._parked(outcome)
            case HeldDelivery(delivery=delivery):
                self._debug("delivery held", **_ids(delivery.event.id, delivery.endpoint.id, delivery.attempt, delivery.trace))
            case DiscardedDelivery():
                self._discarded(outcome)

    def _ended(self, result: AttemptResult, record: Attempt) -> None:
        delivery, exchange, trace = result.delivery, result.exchange, result.trace
        outcome = record.outcome.value
        code = f"{exchange.status // 100}xx" if exchange.status else record.failure or "none"
        metrics.ATTEMPTS.count(delivery.event.event_name, outcome, code)
        if self._counts_endpoints:
            metrics.ENDPOINT_ATTEMPTS.count(record.endpoint_id, outcome)
        metrics.ATTEMPT_DURATION.observe(record.duration_ms / 1000, outcome, exemplar=exemplar(trace))
        self._debug(
            "attempt",
            event_id=delivery.event.id,
            endpoint_id=record.endpoint_id,
            attempt=record.attempt,
            trace_id=None if trace is None else trace.trace_id,
            outcome=outcome,
            status=exchange.status,
            failure=record.failure,
            duration_ms=record.duration_ms,
        )
        if delivery.written_at is not None:
            waited = max(0.0, result.started_at.timestamp() - delivery.written_at)
            metrics.FIRST_ATTEMPT.observe(waited, exemplar=exemplar(delivery.trace))
        if result.span is not None:
            _end(result.span, result, record)

    def _parked(self, parked: ParkedDelivery) -> None:
        _parked_counter(parked.reason).inc()
        delivery = parked.delivery
        ids = _ids(delivery.event.id, delivery.endpoint.id, delivery.attempt, delivery.trace)
        self._debug("delivery parked", **ids, reason=parked.reason)

    def endpoint_unknown(self, due: DeliveryRecord) -> None:
        """A delivery is parked because this process does not know its endpoint."""
        _parked_counter("endpoint_unknown").inc()
        self._debug("delivery parked", event_id=due.event.id, endpoint_id=due.endpoint_id, reason="endpoint_unknown")

    def _discarded(self, discarded: DiscardedDelivery) -> None:
        (metrics.EXPIRED if discarded.outcome is Outcome.EXPIRED else metrics.DISCARDED.labels(discarded.kind)).inc()
        due = discarded.record
        ids = _ids(due.event.id, due.endpoint_id, due.attempt, discarded.trace)
        self._debug("attempt discarded", **ids, reason=discarded.kind)


def _end(span: Span, result: AttemptResult, record: Attempt) -> None:
    described: dict[str, str | int | float | bool] = {"oms_webhooks.outcome": record.outcome.value}
    if result.exchange.status is not None:
        described["http.response.status_code"] = result.exchange.status
    span.describe(described)
    if record.state is not AttemptState.SUCCEEDED:
        span.fail(record.failure or str(result.exchange.status))
    span.end()


def _ids(event_id: str, endpoint_id: int, attempt: int, trace: TraceContext | None) -> dict[str, str | int | None]:
    """The ids by which log lines about a delivery are found."""
    trace_id = None if trace is None else trace.trace_id
    return {"event_id": event_id, "endpoint_id": endpoint_id, "attempt": attempt, "trace_id": trace_id}
