"""Isolation: the effect on 50 healthy endpoints when 50 others of the same pipeline turn hostile.

    python -m tests.bench.isolation                   the full form: 60 s healthy, 60 s hostile
    python -m tests.bench.isolation --seconds 15      a smoke run

Real Apache Kafka (Java 17 and Maven); the fan-out and the retry are processes with the default settings. Each event goes to 10 of
100 endpoints, at a steady rate: a share of the capacity measured with a burst to all of them, healthy. Then 20 endpoints accept and
never answer, 10 answer after 9 s, 10 reset, 10 answer 500. The comparison is of what the healthy 50 get in both phases: requests a
second, and the time since the event was written. Latencies use one machine's clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from rich.console import Console
from rich.table import Table

from pipeline.broker.factory import open_broker
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.producer import Producer
from pipeline.core.signing import new_secret
from pipeline.devtools.local_broker import ApacheKafkaBroker
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from schemas.codec import to_json
from schemas.endpoint import EndpointRecord, SealedSecret
from tests.bench.hostile import ENDPOINTS, GROUPS, HOSTILE, KINDS, Received, ReceiverProcess
from tests.faults.processes import RoleProcess

TICK_SECONDS = 0.01


# --- the load ---


def event(event_id: str, group: int) -> bytes:
    """Return an event of about 1 KB for the endpoints of a group."""
    data = {
        "number": f"R{event_id}",
        "channel": f"c{group}",
        "line_items": [{"variant": {"sku": "SPRUCE-01"}}],
        "note": "x" * 800,
    }
    occurred_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"id": event_id, "event_name": "order_completed", "occurred_at": occurred_at, "data": data}).encode()


class Load:
    """Publishes events, and knows when each was written."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self.written: dict[str, float] = {}
        self._acknowledged: dict[str, float] = {}
        self.longest_stop = 0.0
        """The longest delay (s) of a wake-up of this mostly sleeping process during the last `steady`: the machine was busy or stopped."""

    async def burst(self, events: int) -> None:
        await asyncio.gather(*(self._publish() for _ in range(events)))

    async def steady(self, events_a_second: float, seconds: float) -> list[str]:
        """Publish evenly; returns the ids of the events."""
        started, first = time.monotonic(), len(self.written)
        self.longest_stop = 0.0
        sent: list[asyncio.Future[Any]] = []
        while (passed := time.monotonic() - started) < seconds:
            sent += [self._publish() for _ in range(int(passed * events_a_second) - len(sent))]
            due = time.monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self.longest_stop = max(self.longest_stop, time.monotonic() - due)
        await asyncio.gather(*sent)
        return list(self.written)[first:]

    def _publish(self) -> asyncio.Future[Any]:
        number = len(self.written)
        event_id = f"e{number:07}"
        self.written[event_id] = time.time()
        sent = self._producer.send(self._topic, key=event_id.encode(), value=event(event_id, number % GROUPS), spread=True)
        sent.add_done_callback(lambda _: self._acknowledged.setdefault(event_id, time.time()))
        return sent

    def slowest_write(self, events: Iterable[str]) -> float:
        """Return how many seconds Kafka took to acknowledge the slowest of these events."""
        return max(self._acknowledged[event_id] - self.written[event_id] for event_id in events)


# --- the figures ---


class Cores(NamedTuple):
    """The use of the machine's CPU time, as shares. Without idle time, latencies are those of a machine that is too small."""

    idle: float
    stolen: float
    """Given to other virtual machines by the host."""


def watch_cores() -> Callable[[], Cores]:
    """Watch the machine's cores (Linux). The returned function reports the use since then."""

    def read() -> list[int]:
        return [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]

    before = read()

    def since() -> Cores:
        spent = [after - earlier for earlier, after in zip(before, read(), strict=True)]
        return Cores((spent[3] + spent[4]) / sum(spent), spent[7] / sum(spent))

    return since


@dataclass(frozen=True)
class Phase:
    """What the healthy endpoints got of a phase's events. Latencies are in seconds; ``missing`` ones never arrived.

    ``slowest_write`` and ``longest_stop`` show whether Kafka or the whole machine stalled.
    """

    per_second: float
    p50: float
    p99: float
    worst: float
    expected: int
    missing: int
    cores: Cores
    slowest_write: float
    longest_stop: float


@dataclass(frozen=True)
class Figures:
    """Both phases of one run."""

    capacity: float
    rate: float
    healthy: Phase
    hostile: Phase
    counters: dict[str, float]

    @property
    def throughput_kept(self) -> float:
        return self.hostile.per_second / self.healthy.per_second

    @property
    def p99_ratio(self) -> float:
        return self.hostile.p99 / self.healthy.p99

    def table(self) -> Table:
        title = f"{self.rate:.0f} deliveries a second to {ENDPOINTS} endpoints (capacity {self.capacity:.0f}); the healthy 50 got"
        table = Table("", "all healthy", "50 hostile", "kept", title=title)
        for name, one, other, kept in (
            ("requests a second", self.healthy.per_second, self.hostile.per_second, f"{self.throughput_kept:.1%}"),
            ("p50, ms", self.healthy.p50 * 1e3, self.hostile.p50 * 1e3, f"x {self.hostile.p50 / self.healthy.p50:.2f}"),
            ("p99, ms", self.healthy.p99 * 1e3, self.hostile.p99 * 1e3, f"x {self.p99_ratio:.2f}"),
            ("worst, ms", self.healthy.worst * 1e3, self.hostile.worst * 1e3, ""),
            ("slowest write to Kafka, ms", self.healthy.slowest_write * 1e3, self.hostile.slowest_write * 1e3, ""),
            ("longest stop of the machine, ms", self.healthy.longest_stop * 1e3, self.hostile.longest_stop * 1e3, ""),
            ("missing", self.healthy.missing, self.hostile.missing, ""),
            ("cores idle, %", self.healthy.cores.idle * 100, self.hostile.cores.idle * 100, ""),
            ("cores taken by the host, %", self.healthy.cores.stolen * 100, self.hostile.cores.stolen * 100, ""),
        ):
            table.add_row(name, f"{one:.1f}", f"{other:.1f}", kept)
        table.caption = ", ".join(f"{name} {value:,.0f}" for name, value in self.counters.items())
        return table


@dataclass(frozen=True)
class Written:
    """The events written in a phase, and the machine's load meanwhile."""

    events: Sequence[str]
    seconds: float
    cores: Cores
    longest_stop: float


async def written(load: Load, events_a_second: float, seconds: float) -> Written:
    """Write events for a phase."""
    since = watch_cores()
    events = await load.steady(events_a_second, seconds)
    return Written(events, seconds, since(), load.longest_stop)


def figures_of(load: Load, phase: Written, received: Sequence[Received]) -> Phase:
    """Judge a phase by the events written in it; repeated requests do not count."""
    wanted = set(phase.events)
    first: dict[tuple[str, int], float] = {}
    for one in received:
        if one.event_id in wanted:
            first.setdefault((one.event_id, one.endpoint_id), one.at)
    latencies = sorted(at - load.written[event_id] for (event_id, _), at in first.items())
    end = max(load.written[event_id] for event_id in wanted)
    in_time = sum(at <= end for at in first.values())
    expected = len(wanted) * KINDS.count("healthy")
    return Phase(
        per_second=in_time / phase.seconds,
        p50=latencies[len(latencies) // 2],
        p99=latencies[len(latencies) * 99 // 100],
        worst=latencies[-1],
        expected=expected,
        missing=expected - len(first),
        cores=phase.cores,
        slowest_write=load.slowest_write(phase.events),
        longest_stop=phase.longest_stop,
    )


# --- a run ---


@contextmanager
def receivers(directory: Path) -> Iterator[ReceiverProcess]:
    process = ReceiverProcess(directory / "received.txt")
    try:
        yield process
    finally:
        process.stop()


def variables(bootstrap_servers: str, prefix: str) -> dict[str, str]:
    """Return the default settings with the addresses of all parts."""
    return {
        "kafka_bootstrap_servers": bootstrap_servers,
        "kafka_topic_prefix": prefix,
        "kafka_replication_factor": "1",
        "allowed_networks": "127.0.0.0/8",
        "encryption_key": Vault.new_key(),
        "log_level": "warning",
    }


@asynccontextmanager
async def deployed(directory: Path, bootstrap_servers: str, url: str) -> AsyncIterator[tuple[Load, list[RoleProcess]]]:
    """Run the fan-out and the retry with 100 endpoints."""
    values = variables(bootstrap_servers, f"isolation{secrets.token_hex(4)}.")
    settings = Settings(_env_file=None, **values)  # type: ignore[arg-type]
    with KafkaTopicAdmin(settings) as admin:
        await asyncio.to_thread(admin.create_missing, settings.topics.specs())
    # An event's latency counts from here: the OMS must not wait for long, which would make both phases look alike.
    quick = settings.model_copy(update={"kafka_linger_ms": 5})
    producer = Producer(open_broker(quick), [settings.topics.orders, settings.topics.endpoints])
    await producer.start()
    vault, now = Vault(values["encryption_key"]), datetime.now(UTC)
    for endpoint_id in range(1, ENDPOINTS + 1):
        endpoint = EndpointRecord(
            id=endpoint_id,
            target_url=f"{url}/{endpoint_id}",
            events=("order_completed",),
            filters={"channel": (f"c{(endpoint_id - 1) % GROUPS}",)},
            secrets=(SealedSecret(sealed=vault.seal(new_secret())),),
            created_at=now,
            updated_at=now,
        )
        value = to_json(endpoint)
        await producer.send(settings.topics.endpoints, key=str(endpoint_id).encode(), value=value)
    environment = {f"OMS_WEBHOOKS_{name.upper()}": value for name, value in values.items()}
    roles = [RoleProcess(role, environment, directory) for role in ("fanout", "retry")]
    try:
        for role in roles:
            role.start()
        await asyncio.gather(*(role.until_ready() for role in roles))
        yield Load(producer, settings.topics.orders), roles
    finally:
        await producer.close()
        for role in roles:
            role.clean_up()


async def until_received(load: Load, process: ReceiverProcess, seconds: float = 60.0) -> None:
    """Wait until the healthy endpoints have got all published events, or until a timeout (then some are missing)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        received = await asyncio.to_thread(process.received)
        if len({(one.event_id, one.endpoint_id) for one in received}) >= len(load.written) * KINDS.count("healthy"):
            return
        await asyncio.sleep(0.1)


async def capacity_of(load: Load, process: ReceiverProcess, events: int) -> float:
    """Measure the deliveries a second of a burst; the first of two warms everything up."""
    for _ in range(2):
        started, before = time.monotonic(), len(load.written)
        await load.burst(events)
        await until_received(load, process)
        # Half of the endpoints that get an event are healthy.
        capacity = (len(load.written) - before) * ENDPOINTS / GROUPS / (time.monotonic() - started)
    return capacity


async def measure(
    bootstrap_servers: str, directory: Path, *, seconds: float, share: float, burst: int, rate: float | None = None
) -> Figures:
    """Do one run: calibrate, all healthy for ``seconds``, half hostile for ``seconds``.

    ``rate``: deliveries a second; by default a ``share`` of the capacity.
    """
    with receivers(directory) as process:
        async with deployed(directory, bootstrap_servers, process.url) as (load, roles):
            capacity = await capacity_of(load, process, burst)
            events_a_second = (rate or share * capacity) * GROUPS / ENDPOINTS
            await load.steady(events_a_second, 3.0)
            good = await written(load, events_a_second, seconds)
            await until_received(load, process)
            process.become(HOSTILE)
            bad = await written(load, events_a_second, seconds)
            await until_received(load, process)
            names = {"parked": "oms_webhooks_parked_total", "circuits opened or closed": "oms_webhooks_circuit_transitions_total"}
            counters = {label: sum([await role.metric(name) or 0.0 for role in roles]) for label, name in names.items()}
            received = process.received()
    return Figures(
        capacity=capacity,
        rate=events_a_second * ENDPOINTS / GROUPS,
        healthy=figures_of(load, good, received),
        hostile=figures_of(load, bad, received),
        counters=counters,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase")
    parser.add_argument("--share", type=float, default=0.4, help="of the capacity of a burst that is used")
    parser.add_argument("--rate", type=float, help="deliveries a second, whatever the capacity is (to compare two versions)")
    parser.add_argument("--burst", type=int, default=500, help="events that measure the capacity")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        broker = ApacheKafkaBroker(data_dir=Path(directory) / "kafka")
        try:
            servers = broker.start()
            found = uvloop.run(measure(servers, Path(directory), **vars(arguments)))
        finally:
            broker.stop()
    Console().print(found.table())


if __name__ == "__main__":
    main()
