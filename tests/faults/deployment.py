"""A whole deployment on this machine: the roles, ClickHouse and the receivers as processes, and an OMS that publishes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from pipeline.broker.api import Position
from pipeline.broker.errors import NoSessionError
from pipeline.broker.factory import open_broker
from pipeline.broker.producer import Producer
from pipeline.devtools.simulator import Shop, SimulatedEvent
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from tests.contract.clickhouse_shim import ShimProcess
from tests.faults.endpoints import ENDPOINTS, FaultyEndpoint, wanted_by
from tests.faults.evidence import Event, Fault, expected_pairs
from tests.faults.kafka_view import Committed, KafkaView, TopicOffset
from tests.faults.processes import COMMAND, RoleProcess
from tests.faults.receivers import Behaviour, ReceiverProcess
from tests.faults.scale import chosen_client

API_KEY = "faults-key"
CLICKHOUSE_PASSWORD = "faults-password"
EVERY_ROLE = ("api", "fanout", "retry", "recorder")
REQUEST_TIMEOUT_SECONDS = 6
CONNECT_TIMEOUT_SECONDS = 5
"""A busy machine must not look like an endpoint that does not answer."""

_PUBLISH_TICK_S = 0.02
_START_PATIENCE_S = 60.0
_SLOW_SHARE = 0.4
_SLOW_RATE = 15.0
_SETTLE_TICK_S = 0.5


@dataclass
class Deployment:
    """The running processes, and the published events."""

    settings: Settings
    variables: Mapping[str, str]
    directory: Path
    receivers: ReceiverProcess
    kafka: KafkaView
    clickhouse: ShimProcess
    roles: dict[str, RoleProcess] = field(default_factory=dict)
    """The running ones by name; the first of each role has the role's name."""
    paths: dict[int, str] = field(default_factory=dict)
    """The path of each endpoint, by its id."""
    events: list[Event] = field(default_factory=list)
    endpoints: Sequence[FaultyEndpoint] = ENDPOINTS
    hostile_records: int = 0
    """The contents of the source topics besides the events."""

    def launch(self, role: str, name: str = "", command: Sequence[str] = (COMMAND,)) -> RoleProcess:
        """Start a process of a role."""
        process = RoleProcess(role, self.variables, self.directory, name=name, command=command)
        self.roles[process.name] = process
        process.start()
        return process

    async def dismiss(self, name: str, grace_seconds: float) -> float:
        """End a process for good with SIGTERM; returns the seconds that it took."""
        return await self.roles.pop(name).terminate(grace_seconds)

    async def register_endpoints(self) -> None:
        """Register the endpoints with the HTTP API, as an integrator does."""
        async with self.api() as client:
            for endpoint in self.endpoints:
                wanted = {
                    "target_url": f"{self.receivers.url}{endpoint.path}",
                    "events": sorted(endpoint.events),
                    "filters": dict(endpoint.filters),
                } | ({"ordered": True} if endpoint.is_ordered else {})
                response = await client.post("/api/webhook/endpoints", json={"endpoint": wanted})
                assert response.status_code == 201, response.text
                self.paths[response.json()["id"]] = endpoint.path

    async def registered(self) -> list[dict[str, Any]]:
        """Return the endpoints as the API lists them, without their health, which changes on its own."""
        health = {"state", "disabled_reason", "disabled_at", "failing_since", "circuit", "held_count", "held_since"}
        health |= {"will_be_disabled_at", "owner_told", "filter_failure", "in_order"}
        async with self.api() as client:
            listed = (await client.get("/api/webhook/endpoints")).raise_for_status().json()["endpoints"]
        return [{name: value for name, value in endpoint.items() if name not in health} for endpoint in listed]

    def api(self) -> httpx.AsyncClient:
        """Provide a client of the HTTP API."""
        headers = {"Authorization": f"Bearer {API_KEY}"}
        return httpx.AsyncClient(base_url=self.roles["api"].url, headers=headers, timeout=30, trust_env=False)

    async def publish(self, events: Sequence[SimulatedEvent], rate: float, until: asyncio.Event | None = None) -> None:
        """Publish ``rate`` events a second, and wait until Kafka has acknowledged them.

        With ``until``, the last part is published slowly until it is set: there is load for as long as needed, however busy the
        machine is.
        """
        topics = self.settings.topics
        producer = Producer(open_broker(self.settings), topics.sources)
        await _start(producer)
        sent: list[asyncio.Future[Position]] = []
        slow_from = int(len(events) * (1 - _SLOW_SHARE))
        due, ticked_at = 1.0, time.monotonic()
        try:
            while len(sent) < len(events):
                for event in events[len(sent) : int(due)]:
                    topic = getattr(topics, event.topic_kind)
                    sent.append(producer.send(topic, key=event.key.encode(), value=event.value))
                await asyncio.sleep(_PUBLISH_TICK_S)
                is_slow = until is not None and len(sent) >= slow_from and not until.is_set()
                elapsed, ticked_at = time.monotonic() - ticked_at, time.monotonic()
                due += elapsed * (min(rate, _SLOW_RATE) if is_slow else rate)
            positions = await asyncio.gather(*sent)
        finally:
            await producer.close()
        self.events += [
            Event(event.id, TopicOffset(*position[:3]), wanted_by(event, self.endpoints))
            for event, position in zip(events, positions, strict=True)
        ]

    async def until_at_work(self, role: str = "fanout") -> None:
        """Wait until a role has made an attempt since it was started."""
        await self.roles[role].until_above_zero("oms_webhooks_attempts_total")

    async def kill(self, role: str, pause: float) -> Fault:
        """``kill -9`` a role while it has records in progress (the API: at any time); restart it after ``pause`` seconds."""
        process = self.roles[role]
        outstanding = 0.0 if role == "api" else await process.until_busy()
        process.kill()
        at = time.time()
        committed = await self.committed(role)
        await asyncio.sleep(pause)
        until = time.time()
        process.start()
        return Fault("kill -9", role, at, committed, outstanding, until)

    async def committed(self, role: str) -> Committed:
        """Return what a role's group has committed; nothing for a role without a group."""
        group = getattr(self.settings.topics, f"{role}_group", None)
        return await asyncio.to_thread(self.kafka.committed, group) if group else {}

    async def settle(self, seconds: float) -> None:
        """Wait until every event is finished and recorded; fail with what is missing if that takes too long."""
        deadline = time.monotonic() + seconds
        while problems := await asyncio.to_thread(self._unsettled):
            for role in self.roles.values():
                role.check_alive()
            if time.monotonic() > deadline:
                logs = "\n".join(role.log_end() for role in self.roles.values())
                raise AssertionError(f"not settled after {seconds:.0f} s:\n" + "\n".join(problems) + f"\n{logs}")
            await asyncio.sleep(_SETTLE_TICK_S)

    def _unsettled(self) -> list[str]:
        topics, running = self.settings.topics, {process.role for process in self.roles.values()}
        # In the order of the flow, so that what the fan-out has written is seen by the checks of later groups.
        read_by: Mapping[str, Sequence[str]] = {
            "fanout": topics.sources,
            "retry": topics.delay_topics,
            "ordered": (topics.ordered,),
            "recorder": topics.recorded,
        }
        running |= {"ordered"} if "retry" in running else set()
        groups = [(getattr(topics, f"{role}_group"), names) for role, names in read_by.items() if role in running]
        lags = [(group, self.kafka.lag(group, names)) for group, names in groups]
        problems = [f"group {group} has not committed {lag} records" for group, lag in lags if lag]
        if not problems:
            return []
        acknowledged = self.acknowledged()
        expected = expected_pairs(self.events)
        return [*problems, f"{len(acknowledged & expected):,} of {len(expected):,} notifications are acknowledged"]

    def acknowledged(self) -> set[tuple[str, str]]:
        """Return what the receivers have acknowledged so far: event id and path."""
        self.receivers.ledger.read_on()
        return {(request.event_id, request.path) for request in self.receivers.ledger.requests if request.is_acknowledged}


async def _start(producer: Producer) -> None:
    """On a busy machine, the broker may not answer in time, which ends a command; the load is patient."""
    deadline = time.monotonic() + _START_PATIENCE_S
    while True:
        try:
            return await producer.start()
        except NoSessionError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(_PUBLISH_TICK_S)


@asynccontextmanager
async def deployed(
    directory: Path,
    bootstrap_servers: str,
    prefix: str,
    *,
    seed: int = 0,
    roles: Sequence[str] = EVERY_ROLE,
    behaviour: Behaviour | None = None,
    commands: Mapping[str, Sequence[str]] | None = None,
    endpoints: Sequence[FaultyEndpoint] = ENDPOINTS,
    **settings: str,
) -> AsyncIterator[Deployment]:
    """Start everything and register the endpoints, which misbehave in all ways, or only as ``behaviour`` says.

    ``settings`` are the roles' settings as text; ``commands`` start them, by role.
    """
    behaviours = [behaviour] if behaviour else [replace(each.behaviour, path=each.path, seed=seed) for each in endpoints]
    async with AsyncExitStack() as stack:
        clickhouse = ShimProcess(directory / "clickhouse", CLICKHOUSE_PASSWORD)
        await asyncio.to_thread(clickhouse.start)
        stack.callback(clickhouse.kill)
        values = _values(bootstrap_servers, prefix, clickhouse.url) | {"kafka_client": chosen_client()} | settings
        variables = {f"OMS_WEBHOOKS_{name.upper()}": value for name, value in values.items()}
        receivers = ReceiverProcess(directory / "ledger.txt", *behaviours)
        stack.callback(receivers.stop)
        kafka = await asyncio.to_thread(KafkaView, bootstrap_servers)
        stack.callback(kafka.close)
        chosen = Settings(_env_file=None, **values)  # type: ignore[arg-type]
        deployment = Deployment(chosen, variables, directory, receivers, kafka, clickhouse, endpoints=endpoints)
        stack.callback(_clean_up, deployment)
        for role in roles:
            deployment.launch(role, command=(commands or {}).get(role, (COMMAND,)))
        await asyncio.gather(*(process.until_ready() for process in deployment.roles.values()))
        await deployment.register_endpoints()
        yield deployment


def _clean_up(deployment: Deployment) -> None:
    for process in deployment.roles.values():
        process.clean_up()


def _values(bootstrap_servers: str, prefix: str, clickhouse_url: str) -> dict[str, str]:
    return {
        "kafka_bootstrap_servers": bootstrap_servers,
        "kafka_topic_prefix": prefix,
        "kafka_partitions": "4",
        "kafka_replication_factor": "1",
        "kafka_session_timeout_ms": "6000",
        "clickhouse_url": clickhouse_url,
        "clickhouse_password": CLICKHOUSE_PASSWORD,
        "clickhouse_database": prefix.rstrip("."),
        "retry_delays": "500ms,1s,2s,3s,5s",
        "ramp_start_per_second": "100",  # circuits open and close all the time here
        "request_timeout_seconds": str(REQUEST_TIMEOUT_SECONDS),
        "connect_timeout_seconds": str(CONNECT_TIMEOUT_SECONDS),
        "allowed_networks": "127.0.0.0/8",
        "encryption_key": Vault.new_key(),
        "api_keys": API_KEY,
        "log_format": "console",
    }


def simulated_events(count: int, seed: int) -> list[SimulatedEvent]:
    """Generate the events of a simulated OMS."""
    shop, now = Shop(seed), datetime.now(UTC)
    return [shop.next_event(now) for _ in range(count)]
