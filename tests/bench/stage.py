"""The stage of bounds.py's scenarios: topics that are filled quickly, thousands of endpoints, roles as processes."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from kafka import KafkaProducer

from pipeline.broker.factory import open_broker
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.producer import Producer
from pipeline.core.signing import new_secret
from pipeline.devtools.local_broker import ApacheKafkaBroker
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from schemas.codec import to_json
from schemas.endpoint import EndpointRecord, SealedSecret
from tests.bench.sampling import Sampler, sampled
from tests.contract.clickhouse_shim import ShimProcess
from tests.faults.kafka_view import KafkaView
from tests.faults.processes import RoleProcess
from tests.faults.receivers import Behaviour, ReceiverProcess

_PASSWORD = "bounds-password"
_UNACKNOWLEDGED_BYTES = 32 * 1024 * 1024


class Filled(NamedTuple):
    """A record to fill a topic with."""

    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class Stage:
    """The environment of a scenario."""

    settings: Settings
    roles: Mapping[str, RoleProcess]
    receivers: ReceiverProcess
    kafka: KafkaView
    broker: ApacheKafkaBroker
    vault: Vault
    sampler: Sampler
    clickhouse_pid: int = 0
    """The process of ClickHouse; 0 if it has none of its own."""
    delivered: set[tuple[str, str]] = field(default_factory=set)
    """Path and event id of acknowledged notifications."""

    async def register(self, count: int, endpoint: Callable[[int], Mapping[str, object]]) -> None:
        """Write ``count`` endpoints, with ids from 1; ``endpoint`` returns what is specific to each: its path, its filters."""
        producer = Producer(open_broker(self.settings), [self.settings.topics.endpoints])
        await producer.start()
        now = datetime.now(UTC)
        sealed = SealedSecret(sealed=self.vault.seal(new_secret()))
        sent = []
        for number in range(1, count + 1):
            particular = dict(endpoint(number))
            url = f"{self.receivers.url}{particular.pop('path')}"
            values: dict[str, Any] = {
                "events": ("order_completed",),
                "secrets": (sealed,),
                "created_at": now,
                "updated_at": now,
            } | particular
            record = EndpointRecord(id=number, target_url=url, **values)
            sent.append(producer.send(self.settings.topics.endpoints, key=str(number).encode(), value=to_json(record)))
        await asyncio.gather(*sent)
        await producer.close()

    async def fill(self, topic: str, records: Iterable[Filled], compression: str | None = None) -> None:
        """Write records as fast as a plain client."""
        await asyncio.to_thread(self._fill, topic, records, compression)

    def _fill(self, topic: str, records: Iterable[Filled], compression: str | None) -> None:
        producer = KafkaProducer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            linger_ms=20,
            batch_size=256 * 1024,
            max_request_size=32 * 1024 * 1024,
            compression_type=compression,
        )
        size, sent = 0, []
        for record in records:
            sent.append(producer.send(topic, key=record.key, value=record.value, headers=list(record.headers)))
            size += len(record.value) + 500
            if size > _UNACKNOWLEDGED_BYTES:  # kafka-python accepts any number of records
                for future in sent:
                    future.get(60)
                size, sent = 0, []
        for future in sent:
            future.get(60)
        producer.close()

    @contextmanager
    def plain_producer(self) -> Iterator[KafkaProducer]:
        """Return a producer like an OMS's."""
        producer = KafkaProducer(bootstrap_servers=self.settings.kafka_bootstrap_servers, acks="all", linger_ms=0)
        try:
            yield producer
        finally:
            producer.close()

    async def start(self, *roles: str) -> None:
        """Start roles, and wait until they are ready."""
        for role in roles:
            self.roles[role].start()
        await asyncio.gather(*(self.roles[role].until_ready() for role in roles))

    async def until(self, reached: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until a condition holds; fail if that takes too long or a role ends."""
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(reached):
            for life in self.sampler.lives:
                self.roles[life.role].check_alive()
            assert time.monotonic() < deadline, f"after {seconds:.0f} s still not: {what}"
            await asyncio.sleep(0.5)

    def has_no_lag(self, *roles: str) -> bool:
        """Return whether the groups of these roles have committed everything."""
        topics = self.settings.topics
        groups = {
            "fanout": (topics.fanout_group, topics.sources),
            "retry": (topics.retry_group, topics.delay_topics),
            "recorder": (topics.recorder_group, topics.recorded),
        }
        return not any(self.kafka.lag(*groups[role]) for role in roles)

    def acknowledged(self, *paths: str) -> int:
        """Return how many distinct notifications the receivers at these paths (default: all) have acknowledged."""
        for request in self.receivers.ledger.read_on():
            if request.is_acknowledged:
                self.delivered.add((request.path, request.event_id))
        self.receivers.ledger.requests.clear()  # there may be millions
        return len(self.delivered) if not paths else sum(path in paths for path, _ in self.delivered)


@asynccontextmanager
async def staged(
    directory: Path, broker: ApacheKafkaBroker, name: str, *, roles: Sequence[str], behaviour: Behaviour, **settings: str
) -> AsyncIterator[Stage]:
    """Create topics and receivers; the scenario starts the roles. ``settings`` are the roles' settings as text."""
    await asyncio.to_thread(directory.mkdir)
    key = Vault.new_key()
    values = {
        "kafka_bootstrap_servers": broker.bootstrap_servers,
        "kafka_topic_prefix": f"{name}{secrets.token_hex(3)}.",
        "kafka_partitions": "4",
        "kafka_replication_factor": "1",
        "kafka_session_timeout_ms": "10000",
        "clickhouse_password": _PASSWORD,
        "allowed_networks": "127.0.0.0/8",
        "encryption_key": key,
        "api_keys": "bounds-key",
        "log_format": "console",
    } | settings
    clickhouse_pid = 0
    async with AsyncExitStack() as stack:
        if {"recorder", "api"} & set(roles) and "clickhouse_path" not in settings:
            clickhouse = ShimProcess(directory / "clickhouse", _PASSWORD)
            await asyncio.to_thread(clickhouse.start)
            stack.callback(clickhouse.kill)
            values["clickhouse_url"], clickhouse_pid = clickhouse.url, clickhouse.pid
        variables = {f"OMS_WEBHOOKS_{name.upper()}": value for name, value in values.items()}
        receivers = ReceiverProcess(directory / "ledger.txt", behaviour)
        stack.callback(receivers.stop)
        kafka = await asyncio.to_thread(KafkaView, broker.bootstrap_servers)
        stack.callback(kafka.close)
        chosen = Settings(_env_file=None, **values)  # type: ignore[arg-type]
        await asyncio.to_thread(_make_topics, chosen)
        processes = {name: RoleProcess(name.rstrip("0123456789"), variables, directory, name=name) for name in roles}
        for process in processes.values():
            stack.callback(process.clean_up)
        sampler = await stack.enter_async_context(sampled(processes))
        yield Stage(chosen, processes, receivers, kafka, broker, Vault(key), sampler, clickhouse_pid)


def _make_topics(settings: Settings) -> None:
    with KafkaTopicAdmin(settings) as admin:
        admin.create_missing(settings.topics.specs())


def noise(size: int) -> str:
    """Return text that compresses to about half, like JSON."""
    return os.urandom(size // 2 + 1).hex()[:size]
