"""A whole deployment on this machine: each role a process, ClickHouse and the receivers too; and an OMS that publishes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import clickhouse_connect
import httpx

from pipeline.broker.client import producer_config
from pipeline.broker.producer import Position, Producer
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from pipeline.playground.simulator import Shop, SimulatedEvent
from schemas.event import EventType
from tests.contract.clickhouse_shim import ShimProcess
from tests.faults.evidence import Event, Evidence, Kill, Pair, StoredRow, attempt_record, expected_pairs, scheduled
from tests.faults.kafka_view import KafkaView, TopicOffset
from tests.faults.processes import RoleProcess
from tests.faults.receivers import Behaviour, ReceiverProcess

API_KEY = "faults-key"
CLICKHOUSE_PASSWORD = "faults-password"
FLAKY = "/flaky"
EVERYTHING = frozenset(name.value for name in EventType)
ORDERS = frozenset({EventType.ORDER_COMPLETED.value, EventType.ORDER_CANCELLED.value})
SHIPPED_AND_STOCK = frozenset(
    name.value for name in (EventType.SHIPMENT_SHIPPED, EventType.STOCK_ITEM_OUT_OF_STOCK, EventType.STOCK_ITEM_BACK_IN_STOCK)
)
SUBSCRIPTIONS: Mapping[str, frozenset[str]] = {
    "/erp": EVERYTHING,
    "/warehouse": EVERYTHING,
    FLAKY: EVERYTHING,
    "/accounting": ORDERS,
    "/shop-front": SHIPPED_AND_STOCK,
}
"""Five endpoints; two of them did not subscribe to most events."""

_PUBLISH_TICK_S = 0.02


@dataclass
class Deployment:
    """What runs, and what it has been given to do."""

    settings: Settings
    roles: Mapping[str, RoleProcess]
    receivers: ReceiverProcess
    kafka: KafkaView
    clickhouse: ShimProcess
    variables: Mapping[str, str]
    """The settings of the roles, as their environment has them."""
    paths: dict[int, str] = field(default_factory=dict)
    """The path of each endpoint, by its id."""
    events: list[Event] = field(default_factory=list)

    async def register_endpoints(self) -> None:
        """By the HTTP API, as an integrator does."""
        headers = {"Authorization": f"Bearer {API_KEY}"}
        async with httpx.AsyncClient(base_url=self.roles["api"].url, headers=headers, timeout=30, trust_env=False) as client:
            for path, names in SUBSCRIPTIONS.items():
                wanted = {"target_url": f"{self.receivers.url}{path}", "events": sorted(names)}
                response = await client.post("/api/webhook/endpoints", json={"endpoint": wanted})
                assert response.status_code == 201, response.text
                self.paths[response.json()["id"]] = path

    async def publish(self, events: Sequence[SimulatedEvent], rate: float) -> None:
        """Publish ``rate`` events a second; returns when Kafka has acknowledged all of them."""
        topics = self.settings.topics
        producer = Producer(producer_config(self.settings), topics.sources)
        await producer.start()
        sent: list[asyncio.Future[Position]] = []
        started = time.monotonic()
        try:
            while len(sent) < len(events):
                due = min(len(events), int((time.monotonic() - started) * rate) + 1)
                for event in events[len(sent) : due]:
                    topic = getattr(topics, event.topic_kind)
                    sent.append(producer.send(topic, key=event.key.encode(), value=event.value))
                await asyncio.sleep(_PUBLISH_TICK_S)
            positions = await asyncio.gather(*sent)
        finally:
            await producer.close()
        self.events += [
            Event(event.id, event.event_name.value, TopicOffset(*position))
            for event, position in zip(events, positions, strict=True)
        ]

    async def until_at_work(self, role: str = "fanout") -> None:
        """Wait until a role has made an attempt since it was started."""
        await self.roles[role].until_above_zero("oms_webhooks_attempts_total")

    async def settle(self, seconds: float) -> None:
        """Wait until every event was dealt with and recorded; fail with what is missing when that takes too long."""
        deadline = time.monotonic() + seconds
        while problems := await asyncio.to_thread(self._unsettled):
            for role in self.roles.values():
                role.check_alive()
            if time.monotonic() > deadline:
                logs = "\n".join(role.log_end() for role in self.roles.values())
                raise AssertionError(f"not settled after {seconds:.0f} s:\n" + "\n".join(problems) + f"\n{logs}")
            await asyncio.sleep(0.5)

    def _unsettled(self) -> list[str]:
        topics = self.settings.topics
        groups: list[tuple[str, Sequence[str]]] = []
        # In the order of the flow: what the fan-out has left behind is seen when the groups behind it are looked at.
        if "fanout" in self.roles:
            groups.append((topics.fanout_group, topics.sources))
        if "retry" in self.roles:
            groups.append((topics.retry_group, topics.delay_topics))
        if "recorder" in self.roles:
            groups.append((topics.recorder_group, topics.recorded))
        lags = [(group, self.kafka.lag(group, names)) for group, names in groups]
        problems = [f"group {group} has not committed {lag} records" for group, lag in lags if lag]
        if not problems:
            return []
        self.receivers.ledger.read_on()
        acknowledged = {(request.event_id, request.path) for request in self.receivers.ledger.requests if request.is_acknowledged}
        expected = expected_pairs(self.events, SUBSCRIPTIONS)
        return [*problems, f"{len(acknowledged & expected):,} of {len(expected):,} notifications are acknowledged"]

    def collect(self) -> Evidence:
        """Read everything that the run left behind."""
        topics = self.settings.topics
        self.receivers.ledger.read_on()
        evidence = Evidence(
            events=self.events,
            subscriptions=SUBSCRIPTIONS,
            requests=self.receivers.ledger.requests,
            attempts=[attempt_record(record, self.paths) for record in self.kafka.records([topics.attempts])],
            dispatches=[
                TopicOffset(record.topic, record.partition, record.offset) for record in self.kafka.records([topics.dispatches])
            ],
            scheduled=[scheduled(record, self.paths, topics) for record in self.kafka.records(topics.delay_topics)],
        )
        evidence.dead_letters = sum(self.kafka.ends([topics.dead_letters]).values())
        if "recorder" in self.roles:
            evidence.stored_attempts = self._stored("attempts", "id")
            evidence.stored_dispatches = self._stored("events", "0")
        return evidence

    async def kill(self, role: str, pause: float) -> Kill:
        """``kill -9`` a role while it has records in hand; start it again after ``pause`` seconds."""
        process = self.roles[role]
        outstanding = await process.until_busy()
        process.kill()
        at = time.time()
        committed = await asyncio.to_thread(self.kafka.committed, getattr(self.settings.topics, f"{role}_group"))
        await asyncio.sleep(pause)
        restarted_at = time.time()
        process.start()
        return Kill(role, at, committed, outstanding, restarted_at)

    def _stored(self, table: str, identifier: str) -> list[StoredRow]:
        url = httpx.URL(self.settings.clickhouse_url)
        client = clickhouse_connect.get_client(
            host=url.host, port=url.port or 0, password=CLICKHOUSE_PASSWORD, database=self.settings.clickhouse_database
        )
        try:
            rows = client.query(f"SELECT kafka_partition, kafka_offset, {identifier} FROM {table}").result_rows
        finally:
            client.close()
        return [StoredRow(*row) for row in rows]


@asynccontextmanager
async def deployed(
    directory: Path,
    bootstrap_servers: str,
    prefix: str,
    *,
    roles: Sequence[str] = ("api", "fanout", "retry", "recorder"),
    behaviour: Behaviour,
    **settings: str,
) -> AsyncIterator[Deployment]:
    """Start everything and register the endpoints. ``settings`` are those of the roles, as text."""
    async with AsyncExitStack() as stack:
        clickhouse = ShimProcess(directory / "clickhouse", CLICKHOUSE_PASSWORD)
        await asyncio.to_thread(clickhouse.start)
        stack.callback(clickhouse.kill)
        values = _values(bootstrap_servers, prefix, clickhouse.url) | settings
        variables = {f"OMS_WEBHOOKS_{name.upper()}": value for name, value in values.items()}
        receivers = ReceiverProcess(directory / "ledger.txt", behaviour)
        stack.callback(receivers.stop)
        kafka = await asyncio.to_thread(KafkaView, bootstrap_servers)
        stack.callback(kafka.close)
        processes = {role: RoleProcess(role, variables, directory) for role in roles}
        chosen = Settings(_env_file=None, **values)  # type: ignore[arg-type]
        deployment = Deployment(chosen, processes, receivers, kafka, clickhouse, variables)
        for process in processes.values():
            stack.callback(process.clean_up)
            process.start()
        await asyncio.gather(*(process.until_ready() for process in processes.values()))
        await deployment.register_endpoints()
        yield deployment


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
        "retry_delays": "500ms,500ms,1s,1s,1s",
        "allowed_networks": "127.0.0.0/8",
        "encryption_key": Vault.new_key(),
        "api_keys": API_KEY,
        "log_format": "console",
    }


def simulated_events(count: int, seed: int) -> list[SimulatedEvent]:
    """What a simulated OMS lives through."""
    shop, now = Shop(seed), datetime.now(UTC)
    return [shop.next_event(now) for _ in range(count)]


def examples(pairs: Iterable[Pair], limit: int = 5) -> str:
    """A few of them, for a failure message."""
    return ", ".join(f"{event_id} at {path}" for event_id, path in sorted(pairs)[:limit])
