"""A delivery's place in a trace: the headers of the request, and what the next attempt and the records contain."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from pipeline.core.trace import TraceContext
from pipeline.delivery.delivery import Delivery, DiscardedDelivery
from pipeline.ops import metrics
from schemas.delivery import DeliveryRecord, Trigger
from tests.unit.delivery.delivery_case import BODY, Scene, answer, delivery_of, endpoint
from tests.unit.sample_events import META

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACE = TraceContext(f"00-{TRACE_ID}-00f067aa0ba902b7-01", "rojo=00f067aa0ba902b7")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Our log as JSON, from level debug."""
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    )
    with caplog.at_level(logging.DEBUG):
        yield caplog
    structlog.reset_defaults()


async def test_the_receiver_gets_the_headers_and_the_attempt_records_them() -> None:
    scene = Scene()

    await scene.delivery_service.deliver(Delivery(META, BODY, endpoint(), trace=TRACE))

    [request] = scene.sender.requests
    [attempt] = scene.attempts()
    for headers in (request.headers, attempt.request_headers):
        assert (headers["traceparent"], headers["tracestate"]) == TRACE


async def test_a_delivery_without_a_trace_sends_no_such_header() -> None:
    scene = Scene()

    await scene.deliver()

    assert not {"traceparent", "tracestate"} & set(scene.sender.requests[0].headers)


@pytest.mark.parametrize("is_parked", [False, True], ids=["repeated", "parked"])
@pytest.mark.parametrize("trace", [TRACE, TraceContext(TRACE.traceparent), None], ids=["whole", "without state", "none"])
async def test_the_trace_is_passed_to_the_next_delivery(is_parked: bool, trace: TraceContext | None) -> None:
    scene = Scene()
    scene.sender.exchange = answer(503)
    to = endpoint(secret=None) if is_parked else endpoint()

    await scene.delivery_service.deliver(Delivery(META, BODY, to, trace=trace))

    next_one = delivery_of(scene.delayed()[0])
    expected = (trace.traceparent, trace.tracestate or None) if trace else (None, None)
    assert (next_one.traceparent, next_one.tracestate) == expected


async def test_the_latency_histograms_have_exemplars() -> None:
    scene = Scene()
    scene.sender.exchange = answer(418)

    await scene.delivery_service.deliver(Delivery(META, BODY, endpoint(), trace=TRACE, written_at=scene.now.timestamp()))

    for histogram in (metrics.FIRST_ATTEMPT, metrics.ATTEMPT_DURATION):
        found = [sample.exemplar.labels for family in histogram.collect() for sample in family.samples if sample.exemplar]
        assert {"trace_id": TRACE_ID} in found


async def test_every_attempt_is_logged_in_one_line_at_debug(lines: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.sender.exchange = answer(503)

    await scene.delivery_service.deliver(Delivery(META, BODY, endpoint(token="t0ken"), 2, Trigger.RETRY, TRACE))
    await scene.delivery_service.deliver(Delivery(META, BODY, endpoint(secret=None), 3, Trigger.RETRY, TRACE))
    await scene.delivery_service.settle(
        DiscardedDelivery(
            DeliveryRecord(event=META, endpoint_id=7, attempt=4, trigger=Trigger.RETRY), "", "endpoint_deleted", "Gone."
        )
    )

    ids = {"event_id": "evt_1", "endpoint_id": 7, "trace_id": TRACE_ID}
    made, parked, discarded = [
        json.loads(record.message) for record in lines.records if record.name.endswith("delivery.observer")
    ]
    assert made == ids | {"event": "attempt", "attempt": 2, "outcome": "repeated", "status": 503, "failure": None} | {
        "duration_ms": 250.0
    }
    assert parked == ids | {"event": "delivery parked", "attempt": 3, "reason": "endpoint_unusable"}
    assert discarded == ids | {
        "event": "attempt discarded",
        "attempt": 4,
        "reason": "endpoint_deleted",
        "trace_id": None,
    }
