"""The real exporter with a collector on loopback, without one, and without OpenTelemetry."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from consumers.wiring import NoTracingError, open_tracing
from pipeline.devtools.local_process import free_port
from pipeline.ops.settings import Settings


class Collector:
    """Accepts traces with OTLP over HTTP."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, ExportTraceServiceRequest]] = []

    async def take(self, request: web.Request) -> web.Response:
        """Handle a request as a collector does."""
        self.requests.append((request.path, ExportTraceServiceRequest.FromString(await request.read())))
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")


@pytest.fixture
async def collector() -> AsyncIterator[tuple[Collector, str]]:
    taken = Collector()
    app = web.Application()
    app.router.add_post("/{path:.*}", taken.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield taken, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_spans_reach_a_collector(collector: tuple[Collector, str]) -> None:
    taken, url = collector
    tracing = open_tracing(Settings(_env_file=None, otlp_endpoint=f"{url}/"), ["fanout"])
    assert tracing is not None
    with tracing.record("oms.orders", 0, 7, group="webhooks.fanout", parent=None):
        pass
    await asyncio.to_thread(tracing.close)

    [(path, request)] = taken.requests
    assert path == "/v1/traces"
    [resource] = request.resource_spans
    attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert attributes["service.name"] == "oms-webhooks-fanout"
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["process oms.orders"]


def test_an_unavailable_collector_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a second: far more spans are recorded than the queue holds."""
    monkeypatch.setattr("pipeline.ops.tracing._CLOSE_SECONDS", 0.2)
    tracing = open_tracing(Settings(_env_file=None, otlp_endpoint=f"http://127.0.0.1:{free_port()}"), ["fanout", "retry"])
    assert tracing is not None
    started = time.monotonic()
    for offset in range(10_000):
        with tracing.record("oms.orders", 0, offset, group="webhooks.fanout", parent=None):
            pass
    tracing.close()

    assert time.monotonic() - started < 20  # it would be 30 s or more


def test_without_a_collector_there_is_no_tracing() -> None:
    assert open_tracing(Settings(_env_file=None), ["fanout"]) is None


def test_a_collector_without_opentelemetry_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pipeline.ops.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(NoTracingError, match=r"opentelemetry is not installed; install oms-webhooks\[tracing\]"):
        open_tracing(Settings(_env_file=None, otlp_endpoint="http://127.0.0.1:4318"), ["fanout"])
