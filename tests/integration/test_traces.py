"""One trace, from the header of a producer's record to the header that a receiver gets, also across retries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pipeline.devtools.receiver import Behaviour, Receiver
from pipeline.ops import tracing
from tests.integration.conftest import Pipeline, StartPipeline, event_bytes
from tests.waiting import until

pytestmark = pytest.mark.slow  # starts whole pipelines; make test-slow and make test-kafka run it

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADERS = (("traceparent", PARENT.encode()), ("tracestate", b"rojo=1"))


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Provide an exporter instead of the collector."""
    in_memory = InMemorySpanExporter()
    monkeypatch.setattr(tracing, "to_collector", lambda _: in_memory)
    return in_memory


async def test_one_trace_from_the_producer_to_the_receiver(start_pipeline: StartPipeline, exporter: InMemorySpanExporter) -> None:
    async with start_pipeline(otlp_endpoint="http://127.0.0.1:4318") as pipeline:
        receiver = await pipeline.receiver("flaky", Behaviour(fail_first=1, status=503))
        await pipeline.publish(event_bytes("evt-traced"), HEADERS)
        await until(lambda: _acknowledged(receiver))
        recorded = await until(lambda: _recorded(pipeline, 2))
        resent = await pipeline.api.post(f"attempts/{recorded[0]['id']}/resend", headers={"traceparent": OTHER})
        assert resent.status_code == 202
        await until(lambda: _acknowledged(receiver, 2))

    # Draining has sent the rest.
    spans = exporter.get_finished_spans()
    *deliveries, again = receiver.deliveries
    first, second = (by_id(spans, each.headers["traceparent"]) for each in deliveries)
    consumed, repeated = parent_of(spans, first), parent_of(spans, second)
    assert (consumed.name.partition("oms.")[2], repeated.name.partition("webhooks.")[2]) == ("orders", "delay.100ms")
    assert parent_of(spans, repeated) is consumed
    assert consumed.parent is not None
    assert (f"{consumed.parent.trace_id:032x}", f"{consumed.parent.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert {each.headers["traceparent"][3:35] for each in deliveries} == {TRACE_ID}
    assert {each.headers["tracestate"] for each in deliveries} == {"rojo=1"}
    # A resend belongs to the trace of its API request.
    asked = parent_of(spans, parent_of(spans, by_id(spans, again.headers["traceparent"])))
    assert (asked.name, again.headers["traceparent"][3:35]) == ("POST /api/webhook/attempts/{id}/resend", OTHER[3:35])

    codes = [(span.attributes or {}).get("http.response.status_code") for span in (first, second)]
    assert codes == [503, 204]
    assert [span.status.is_ok for span in (first, second)] == [False, True]
    assert (consumed.attributes or {})["oms_webhooks.event.id"] == "evt-traced"
    # The recorder's batches link to each attempt; the API has its own spans.
    linked = {link.context.span_id for span in spans if span.name == "INSERT attempts" for link in span.links}
    assert {span.context.span_id for span in (first, second) if span.context} <= linked
    assert {span.name for span in spans} >= {"POST /api/webhook/endpoints", "GET /api/webhook/attempts"}
    # Attempts contain their trace.
    shown = sorted((each["attempt"], each["request_headers"]["traceparent"]) for each in recorded)
    assert shown == [(number, each.headers["traceparent"]) for number, each in enumerate(deliveries, 1)]


async def test_without_a_collector_the_trace_is_passed_on_unchanged(start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:
        receiver = await pipeline.receiver("flaky", Behaviour(fail_first=1, status=503))
        await pipeline.publish(event_bytes("evt-passed"), HEADERS)
        await until(lambda: _acknowledged(receiver))
        found = await _exemplars(pipeline)

    assert [(each.headers["traceparent"], each.headers["tracestate"]) for each in receiver.deliveries] == [(PARENT, "rojo=1")] * 2
    # Scraped exemplars lead from a latency to a trace.
    assert found >= {
        "oms_webhooks_event_to_first_attempt_seconds",
        "oms_webhooks_attempt_duration_seconds",
        "oms_webhooks_retry_lateness_seconds",
    }


HOSTILE = (
    PARENT.upper().encode(),
    b"\xff\xfe" + b"0" * 100_000,
    PARENT.encode() + b"\r\nx-smuggled: 1",
    f"00-{'0' * 32}".encode(),
)


async def test_a_hostile_traceparent_is_dropped(start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:
        receiver = await pipeline.receiver("well")
        for number, value in enumerate(HOSTILE):
            headers = [("traceparent", value), ("tracestate", b"a=1\r\nx-smuggled: 1")]
            await pipeline.publish(event_bytes(f"evt-hostile-{number}"), headers)
        await until(lambda: _acknowledged(receiver, len(HOSTILE)))
        letters = (await pipeline.api.get("dead_letters")).json()

    for delivery in receiver.deliveries:
        assert not {"traceparent", "tracestate", "x-smuggled"} & set(delivery.headers)
    assert letters["dead_letters"] == []


async def _acknowledged(receiver: Receiver, count: int = 1) -> bool:
    return receiver.counts.acknowledged >= count


async def _recorded(pipeline: Pipeline, count: int) -> list[dict[str, Any]]:
    found = await pipeline.attempts(event_id_eq="evt-traced")
    if len(found) < count:
        return []
    details = [(await pipeline.api.get(f"attempts/{each['id']}")).json() for each in found]
    return details if all(each["request_body"] for each in details) else []  # a resend needs its body


async def _exemplars(pipeline: Pipeline) -> set[str]:
    """Return the histograms whose exemplars name the trace, parsed like Prometheus."""
    async with httpx.AsyncClient(base_url=pipeline.running.url, trust_env=False) as client:
        scraped = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert scraped.headers["content-type"].startswith("application/openmetrics-text")
    return {
        family.name
        for family in text_string_to_metric_families(scraped.text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar and sample.exemplar.labels == {"trace_id": TRACE_ID}
    }


def by_id(spans: Sequence[ReadableSpan], traceparent: str) -> ReadableSpan:
    """Return the span that a receiver's header names."""
    [found] = [span for span in spans if span.context and f"{span.context.span_id:016x}" == traceparent.split("-")[2]]
    return found


def parent_of(spans: Sequence[ReadableSpan], child: ReadableSpan) -> ReadableSpan:
    """Return the parent of a span."""
    assert child.parent is not None
    [found] = [span for span in spans if span.context and span.context.span_id == child.parent.span_id]
    return found
