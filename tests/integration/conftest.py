"""The whole pipeline in this process, on the session's broker and its own ClickHouse.

Each start takes seconds: it creates topics, loads code and ClickHouse, and on the embedded broker each join takes half a session timeout.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from consumers.cli.traffic import record_key, source_topic
from consumers.run import ALL_ROLES, Running, running
from pipeline.broker.api import Position
from pipeline.broker.factory import open_broker
from pipeline.broker.producer import Producer
from pipeline.devtools.receiver import Behaviour, Receiver
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from schemas.event import EventType
from schemas.event_codec import decode_event
from schemas.topics import parse_delay

API_KEY = "integration-key"


def event_bytes(event_id: str, name: EventType = EventType.ORDER_COMPLETED, **data: Any) -> bytes:
    """Return an event as a producer publishes it; ``data`` adds to the smallest payload of its type."""
    payloads: dict[str, dict[str, Any]] = {
        "order": {"number": "R100000001", "email": "günther@example.com", "line_items": []},
        "shipment": {"number": "H10000000001", "order_id": "R100000001"},
        "stock": {"id": 1530, "variant": {"sku": "SPRUCE-01"}},
    }
    payload = payloads[name.value.split("_")[0]] | data
    occurred_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"id": event_id, "event_name": name.value, "occurred_at": occurred_at, "data": payload}).encode()


@dataclass(slots=True)
class Pipeline:
    """A running pipeline, with what tests need."""

    settings: Settings
    running: Running
    api: httpx.AsyncClient
    producer: Producer
    receivers: list[Receiver] = field(default_factory=list)

    async def publish(self, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> Position:
        """Publish an event to its topic."""
        meta = decode_event(value, max_bytes=10**8).meta
        topic = source_topic(self.settings.topics, meta.event_name)
        return await self.producer.send(topic, key=record_key(meta), value=value, headers=headers)

    async def receiver(
        self, name: str, behaviour: Behaviour | None = None, events: Sequence[EventType] = tuple(EventType), **endpoint: Any
    ) -> Receiver:
        """Start a receiver and register it."""
        receiver = Receiver(name, behaviour=behaviour)
        self.receivers.append(receiver)
        url = await receiver.start()
        created = await self.register(f"{url}{name}", events, **endpoint)
        receiver.secret = created["secret"]
        return receiver

    async def register(self, target_url: str, events: Sequence[EventType] = tuple(EventType), **endpoint: Any) -> dict[str, Any]:
        """Register an endpoint."""
        wanted = {"target_url": target_url, "events": [event.value for event in events], **endpoint}
        response = await self.api.post("endpoints", json={"endpoint": wanted})
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()
        return created

    async def attempts(self, **filters: object) -> list[dict[str, Any]]:
        """Search attempts: ``order_number_eq="R1"``. An unknown filter fails the test."""
        params = {f"q[{name}]": str(value) for name, value in filters.items()} | {"strict": "1", "per_page": "200"}
        response = await self.api.get("attempts", params=params)
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["attempts"]
        return found


StartPipeline = Callable[..., Any]


@asynccontextmanager
async def run_pipeline(
    bootstrap_servers: str, topic_prefix: str, roles: Sequence[Any] = tuple(ALL_ROLES), *, apache: bool = False, **settings: Any
) -> AsyncIterator[Pipeline]:
    """Run all roles, on topics with this prefix and their own database."""
    defaults: dict[str, Any] = {
        "kafka_bootstrap_servers": bootstrap_servers,
        "kafka_topic_prefix": topic_prefix,
        "kafka_partitions": 2,
        "kafka_replication_factor": 1,
        "kafka_session_timeout_ms": 6_000 if apache else 2_000,
        # The embedded broker answers an empty fetch after this time, even if records arrive earlier: a shorter time costs more CPU
        # (half a core at 30 ms for an idle pipeline), a longer one delays every step.
        "kafka_fetch_max_wait_ms": 500 if apache else 100,
        "kafka_static_members": apache,
        "clickhouse_database": topic_prefix.rstrip("."),
        "retry_delays": tuple(map(parse_delay, ("100ms", "100ms", "200ms", "200ms", "300ms"))),
        "patient_retry_delays": (parse_delay("300ms"),),  # creating unneeded topics takes time
        "impatient_retry_delays": (parse_delay("100ms"),),
        "ramp_start_per_second": 200.0,  # most tests do not cover deliveries that wait for an endpoint to recover
        "allowed_networks": (ip_network("127.0.0.0/8"),),
        "encryption_key": SecretStr(Vault.new_key()),
        "api_keys": (SecretStr(API_KEY),),
        "http_port": 0,
        "recorder_batch_seconds": 0.2,
        "drain_seconds": 5.0,
    }
    chosen = Settings(**(defaults | settings))
    async with AsyncExitStack() as stack:
        pipeline_running = await stack.enter_async_context(running(chosen, roles))
        producer = Producer(open_broker(chosen), chosen.topics.sources)
        await producer.start()
        stack.push_async_callback(producer.close)
        api = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=f"{pipeline_running.url.rstrip('/')}/api/webhook/",
                headers={"Authorization": f"Bearer {API_KEY}"},
                timeout=90,
                trust_env=False,
            )
        )
        pipeline = Pipeline(chosen, pipeline_running, api, producer)
        try:
            yield pipeline
        finally:
            for receiver in pipeline.receivers:
                await receiver.stop()


@pytest.fixture
def start_pipeline(
    bootstrap_servers: str, topic_prefix: str, clickhouse_directory: Path, request: pytest.FixtureRequest
) -> StartPipeline:
    """``async with start_pipeline(setting=value) as pipeline``: all roles, on the test's own topics and database."""
    apache = request.config.getoption("--kafka") == "apache"
    place: dict[str, Any] = {"clickhouse_path": clickhouse_directory, "clickhouse_database": "oms_webhooks"}
    return partial(run_pipeline, bootstrap_servers, topic_prefix, apache=apache, **place)
