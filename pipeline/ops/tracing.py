"""Spans, if a collector is configured. The only module that imports OpenTelemetry, which is an optional extra.

So this module is imported only if there is a collector (see ``open_tracing`` in consumers/wiring.py); code that creates spans uses
it for types only. Nothing here uses a global or a context variable: a parent is an argument, and a delivery carries its trace, also
through Kafka.

A span contains the same as the metrics and the log: words, numbers and ids. It never contains the path or the query of a target,
which may be secrets, or a header, a body or the text of an error.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from opentelemetry import trace as otel
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from pipeline.core.trace import TraceContext
from pipeline.ops.logs import logger
from pipeline.ops.once_a_minute import OnceAMinute
from schemas.event import EventMeta

log = logger(__name__)

Value = str | int | float | bool

_PATH: Final = "/v1/traces"
_CLOSE_SECONDS: Final = 3.0
_MAX_LINKS: Final = 128
"""OpenTelemetry's own limit for a span."""


class Span:
    """Work with a duration. Leaving its block ends it; an error that leaves the block is named, but not quoted."""

    __slots__ = ("_span", "trace")

    def __init__(self, span: otel.Span) -> None:
        self._span = span
        self.trace = _written(span.get_span_context())
        """The trace context for the consequences of the work."""

    def describe(self, attributes: dict[str, Value]) -> None:
        """Add attributes."""
        self._span.set_attributes(attributes)

    def fail(self, kind: str) -> None:
        """Mark the work as failed. ``kind``: one of a few words."""
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        """End a span that is not used as a block."""
        self._span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if kind is not None:
            self.fail(kind.__name__)
        self._span.end()


class Tracing:
    """Creates the spans of one process."""

    def __init__(self, provider: TracerProvider, exporter: SpanExporter) -> None:
        self._provider = provider
        self._exporter = exporter
        self._tracer = provider.get_tracer("oms_webhooks")

    def close(self) -> None:
        """Send the remaining spans. Blocks until then, but only a few seconds if the collector does not answer."""
        impatience = threading.Timer(_CLOSE_SECONDS, self._exporter.shutdown)  # the provider would wait for half a minute
        impatience.start()
        self._provider.shutdown()
        impatience.cancel()

    def record(self, topic: str, partition: int, offset: int, *, group: str, parent: TraceContext | None) -> Span:
        """A record is processed: the fan-out of an event, or a due retry."""
        attributes: dict[str, Value] = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": topic,
            "messaging.destination.partition.id": str(partition),
            "messaging.kafka.offset": offset,
            "messaging.consumer.group.name": group,
        }
        return self._start(f"process {topic}", SpanKind.CONSUMER, attributes, parent)

    def attempt(self, event: EventMeta, *, endpoint_id: int, target_url: str, attempt: int, parent: TraceContext | None) -> Span:
        """One request to an endpoint."""
        attributes: dict[str, Value] = {
            "http.request.method": "POST",
            "oms_webhooks.endpoint.id": endpoint_id,
            "oms_webhooks.event.id": event.id,
            "oms_webhooks.event.name": event.event_name,
            "oms_webhooks.attempt": attempt,
            **_server(target_url),
        }
        if attempt > 1:
            attributes["http.request.resend_count"] = attempt - 1
        return self._start("POST", SpanKind.CLIENT, attributes, parent)

    def batch(self, table: str, rows: int, *, attempts: Iterable[TraceContext]) -> Span:
        """An insert of the recorder. It belongs to no single trace; links point to the attempts in its rows."""
        attributes: dict[str, Value] = {
            "db.system.name": "clickhouse",
            "db.operation.name": "INSERT",
            "db.collection.name": table,
            "db.operation.batch.size": rows,
        }
        links = [Link(_read(attempt)) for _, attempt in zip(range(_MAX_LINKS), attempts, strict=False)]
        return self._start(f"INSERT {table}", SpanKind.CLIENT, attributes, None, links)

    def request(self, method: str, route: str, *, parent: TraceContext | None) -> Span:
        """A request to the HTTP API. ``route`` is a template, because paths contain ids and pasted text."""
        attributes: dict[str, Value] = {"http.request.method": method, "http.route": route}
        return self._start(f"{method} {route}", SpanKind.SERVER, attributes, parent)

    def _start(
        self,
        name: str,
        kind: SpanKind,
        attributes: dict[str, Value],
        parent: TraceContext | None,
        links: list[Link] | None = None,
    ) -> Span:
        context = Context()  # not the current context: nothing here is current
        if parent is not None:
            context = otel.set_span_in_context(NonRecordingSpan(_read(parent)), context)
        return Span(self._tracer.start_span(name, context, kind, attributes, links))


class _LibraryLog(logging.Handler):
    """While a collector is unavailable, OpenTelemetry logs that 24 times a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._counts = OnceAMinute()

    def emit(self, record: logging.LogRecord) -> None:
        if times := self._counts.times((record.name, record.levelno)):
            log.log(record.levelno, "opentelemetry", source=record.name, said=record.getMessage(), times=times)


_library = logging.getLogger("opentelemetry")
_library.propagate = False
_library.handlers[:] = [_LibraryLog()]


def to_collector(endpoint: str) -> SpanExporter:
    """Sends spans with OTLP over HTTP. Other options (a token, a CA) come from OpenTelemetry's own variables."""
    return OTLPSpanExporter(endpoint=endpoint.rstrip("/") + _PATH)


def make_tracing(exporter: SpanExporter, *, ratio: float, service: str, version: str) -> Tracing:
    """Spans go to ``exporter`` in batches, from a separate thread. Spans that do not fit into its queue are dropped.

    ``ratio``: the share of traces to record, of those that start here. Others keep the decision from where they started.
    """
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(ratio)),
        resource=Resource.create({"service.name": service, "service.version": version}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider, exporter)


def _read(trace: TraceContext) -> SpanContext:
    _, trace_id, span_id, flags = trace.traceparent.split("-")
    return SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(flags, 16)),
        trace_state=TraceState.from_header([trace.tracestate]) if trace.tracestate else None,
    )


def _written(context: SpanContext) -> TraceContext:
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 0xFF:02x}"
    return TraceContext(parent, context.trace_state.to_header())


@functools.lru_cache(maxsize=1024)
def _server(target_url: str) -> dict[str, Value]:
    """The target of a request: scheme, host and port. An attempt with an invalid URL has none of these."""
    try:
        url = urlsplit(target_url)
        port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    except ValueError:
        return {}
    if not url.hostname or port is None:
        return {}
    return {"url.scheme": url.scheme, "server.address": url.hostname, "server.port": port}
