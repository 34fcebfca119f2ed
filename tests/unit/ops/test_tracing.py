"""Spans as an exporter gets them: names, parents, attributes, and nothing secret."""

from __future__ import annotations

import logging

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from pipeline.core.trace import TraceContext
from pipeline.ops.tracing import Tracing, make_tracing
from tests.unit.sample_events import META

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = TraceContext(f"00-{TRACE_ID}-{SPAN_ID}-01", "rojo=1")
UNSAMPLED = TraceContext(f"00-{TRACE_ID}-{SPAN_ID}-00")


class Traced:
    """Tracing, and what it exported."""

    def __init__(self, ratio: float = 1.0) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing: Tracing = make_tracing(self._exporter, ratio=ratio, service="oms-webhooks-fanout", version="1")

    def ended(self) -> list[ReadableSpan]:
        """Return every span that has ended; there will be no more."""
        self.tracing.close()
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def traced() -> Traced:
    return Traced()


def test_a_record_continues_the_trace_of_its_producer(traced: Traced) -> None:
    with traced.tracing.record("oms.orders", 3, 41, group="webhooks.fanout", parent=PARENT) as span:
        handed_on = span.trace

    [ended] = traced.ended()
    assert ended.parent is not None
    assert (f"{ended.parent.trace_id:032x}", f"{ended.parent.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert ended.context is not None
    assert handed_on == TraceContext(f"00-{TRACE_ID}-{ended.context.span_id:016x}-01", "rojo=1")
    assert (ended.name, ended.kind) == ("process oms.orders", SpanKind.CONSUMER)
    assert ended.attributes == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "oms.orders",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 41,
        "messaging.consumer.group.name": "webhooks.fanout",
    }
    assert ended.resource.attributes["service.name"] == "oms-webhooks-fanout"


def test_a_record_without_a_trace_begins_one(traced: Traced) -> None:
    with traced.tracing.record("oms.orders", 3, 41, group="g", parent=None) as span:
        assert span.trace.is_sampled

    [ended] = traced.ended()
    assert ended.parent is None


def test_an_attempt_is_a_client_span_without_path_and_query(traced: Traced) -> None:
    url = "https://hooks.example.com/services/s3cret-path?key=s3cret-query"
    span = traced.tracing.attempt(META, endpoint_id=7, target_url=url, attempt=3, parent=PARENT)
    span.end()

    [ended] = traced.ended()
    assert (ended.name, ended.kind) == ("POST", SpanKind.CLIENT)
    assert ended.attributes == {
        "http.request.method": "POST",
        "http.request.resend_count": 2,
        "url.scheme": "https",
        "server.address": "hooks.example.com",
        "server.port": 443,
        "oms_webhooks.endpoint.id": 7,
        "oms_webhooks.event.id": META.id,
        "oms_webhooks.event.name": META.event_name,
        "oms_webhooks.attempt": 3,
    }


@pytest.mark.parametrize("url", ["", "no url", "http://[::1", "https://host:99999/", "mailto:ada@example.com"])
def test_an_attempt_at_an_invalid_url_still_has_a_span(traced: Traced, url: str) -> None:
    traced.tracing.attempt(META, endpoint_id=7, target_url=url, attempt=1, parent=None).end()

    [ended] = traced.ended()
    assert "server.address" not in (ended.attributes or {})


def test_the_links_of_a_batch_are_limited(traced: Traced) -> None:
    with traced.tracing.batch("attempts", 500, attempts=(PARENT for _ in range(500))):
        pass

    [ended] = traced.ended()
    assert (ended.name, len(ended.links), ended.parent) == ("INSERT attempts", 128, None)
    assert {f"{link.context.trace_id:032x}" for link in ended.links} == {TRACE_ID}


def test_an_error_is_named_but_not_quoted(traced: Traced) -> None:
    with pytest.raises(RuntimeError), traced.tracing.request("GET", "/api/webhook/attempts", parent=None):
        raise RuntimeError("hunter2")

    [ended] = traced.ended()
    assert ended.status.status_code is StatusCode.ERROR
    assert (ended.attributes or {})["error.type"] == "RuntimeError"
    assert "hunter2" not in ended.to_json()


def test_the_start_of_a_trace_decides_whether_it_is_recorded() -> None:
    never, always = Traced(ratio=0.0), Traced(ratio=1.0)

    for each, parent in ((never, PARENT), (never, None), (always, UNSAMPLED)):
        with each.tracing.record("oms.orders", 0, 0, group="g", parent=parent) as span:
            assert span.trace.is_sampled is (parent is PARENT)
            assert parent is None or span.trace.trace_id == TRACE_ID

    assert len(never.ended()) == 1
    assert always.ended() == []


def test_an_unreachable_collector_does_not_fill_the_log() -> None:
    """There were 24 lines a minute."""
    of_library = logging.getLogger("opentelemetry.exporter.of.this.test")
    with capture_logs() as logs:
        for number in range(50):
            of_library.warning("Transient error at 0x%x", number)
        of_library.error("Failed to export")
    assert [(line["log_level"], line["said"]) for line in logs] == [
        ("warning", "Transient error at 0x0"),
        ("error", "Failed to export"),
    ]
