"""Rate limits across processes: what one endpoint gets from 1, 2 and 4 fan-outs with more than enough events.

    python -m tests.bench.rate_limits                          Apache Kafka (Java 17 and Maven)
    python -m tests.bench.rate_limits --processes 2 --seconds 20

Each fan-out is a process, and so is the retry, which sends parked deliveries. It prints the most requests in any second, and in any ten,
relative to the limit, by the receiver's clock, from the first request on; and the maximum level of a bucket that leaks 1.1 times the
limit. The bucket distinguishes an exceeded limit from a busy machine: a second in which the receiver catches up is not one with too
many requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

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
from tests.faults.processes import RoleProcess
from tests.faults.receivers import Behaviour, ReceiverProcess
from tests.waiting import until

PATH = "/limited"
PARTITIONS = 8
ALLOWED = 1.1
"""An endpoint may get this multiple of its limit."""


EVENTS = {
    "orders": ("order_completed", "order_cancelled"),
    "shipments": ("shipment_shipped", "shipment_updated"),
    "stock_items": ("stock_item_back_in_stock", "stock_item_out_of_stock"),
}
"""By topic: an event type that the endpoint subscribes to, and another one."""


class Way(NamedTuple):
    """How to publish an event that one of the processes reads."""

    topic_kind: str
    event_name: str
    key: str


@dataclass(frozen=True)
class SeveralFanOuts:
    """One endpoint, its receiver, and several processes that send to it."""

    settings: Settings
    producer: Producer
    receiver: ReceiverProcess
    roles: Sequence[RoleProcess]

    @property
    def fan_outs(self) -> list[RoleProcess]:
        return [role for role in self.roles if role.role == "fanout"]

    async def publish(self, event_id: str, way: Way) -> int:
        """Publish an event; returns its partition."""
        value = {
            "id": event_id,
            "event_name": way.event_name,
            "occurred_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "data": {"id": 7, "number": "R100000001"},
        }
        topic = getattr(self.settings.topics, way.topic_kind)
        return (await self.producer.send(topic, key=way.key.encode(), value=json.dumps(value).encode())).partition

    def times(self) -> list[float]:
        """Return the time of each request so far, by the receiver's clock."""
        self.receiver.ledger.read_on()
        return sorted(request.at for request in self.receiver.ledger.requests)


@asynccontextmanager
async def several_fan_outs(
    bootstrap_servers: str,
    directory: Path,
    processes: int,
    *,
    max_per_second: int | None = None,
    behaviour: Behaviour | None = None,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[SeveralFanOuts]:
    """Run a number of fan-outs and one retry, with one endpoint."""
    values = {
        "kafka_bootstrap_servers": bootstrap_servers,
        "kafka_topic_prefix": f"limits{secrets.token_hex(4)}.",
        "kafka_partitions": str(PARTITIONS),
        "kafka_replication_factor": "1",
        "allowed_networks": "127.0.0.0/8",
        "encryption_key": Vault.new_key(),
        "log_level": "warning",
        **(settings or {}),
    }
    chosen = Settings(_env_file=None, **values)  # type: ignore[arg-type]
    with KafkaTopicAdmin(chosen) as admin:
        await asyncio.to_thread(admin.create_missing, chosen.topics.specs())
    receiver = ReceiverProcess(directory / f"{values['kafka_topic_prefix']}txt", *([behaviour] if behaviour else []))
    producer = Producer(open_broker(chosen), [*chosen.topics.sources, chosen.topics.endpoints])
    environment = {f"OMS_WEBHOOKS_{name.upper()}": value for name, value in values.items()}
    names = [("fanout", f"fanout{number}") for number in range(1, processes + 1)] + [("retry", "retry")]
    roles = [RoleProcess(role, environment, directory, name=name) for role, name in names]
    try:
        await producer.start()
        endpoint = _endpoint(receiver.url + PATH, Vault(values["encryption_key"]), max_per_second)
        await producer.send(chosen.topics.endpoints, key=b"1", value=to_json(endpoint))
        for role in roles:
            role.start()
        await asyncio.gather(*(role.until_ready() for role in roles))
        several = SeveralFanOuts(chosen, producer, receiver, roles)
        await _until_spread(several)
        yield several
    finally:
        await producer.close()
        receiver.stop()
        for role in roles:
            role.clean_up()


def _endpoint(target_url: str, vault: Vault, max_per_second: int | None) -> EndpointRecord:
    now = datetime.now(UTC)
    return EndpointRecord(
        id=1,
        target_url=target_url,
        events=tuple(wanted for wanted, _ in EVENTS.values()),
        max_per_second=max_per_second,
        secrets=(SealedSecret(sealed=vault.seal(new_secret())),),
        created_at=now,
        updated_at=now,
    )


async def _until_spread(several: SeveralFanOuts) -> None:
    """Wait until the fan-outs hold all partitions of the source topics, each of them some."""
    count = PARTITIONS * len(several.settings.topics.sources)

    async def is_spread() -> bool:
        for role in several.roles:
            role.check_alive()
        held = [await _sources(several, role) for role in several.fan_outs]
        return all(held) and sum(map(len, held)) == count

    await until(is_spread, "the fan-outs do not share the partitions")


async def _sources(several: SeveralFanOuts, fan_out: RoleProcess) -> set[tuple[str, int]]:
    topics = several.settings.topics
    return {(topic, partition) for topic, partition in await fan_out.holds(topics.fanout_group) if topic in topics.sources}


async def ways_to(several: SeveralFanOuts) -> list[Way]:
    """Return how to publish events that each fan-out reads: one may hold all partitions of the orders, and another none of them."""
    held = [await _sources(several, role) for role in several.fan_outs]
    found: dict[int, Way] = {}
    for number in range(20 * PARTITIONS):
        for kind, (wanted, other) in EVENTS.items():
            # An event that the endpoint does not subscribe to shows where events with its key go.
            partition = await several.publish(f"probe{number}", Way(kind, other, f"k{number}"))
            place = getattr(several.settings.topics, kind), partition
            for position in [position for position, places in enumerate(held) if place in places]:
                found.setdefault(position, Way(kind, wanted, f"k{number}"))
        if len(found) == len(held):
            break
    return [found[position] for position in range(len(held))]


@dataclass(frozen=True)
class RateFigures:
    """What an endpoint with a ``limit`` got from several processes. ``taking_part`` of the fan-outs sent something."""

    processes: int
    limit: int
    requests: int
    seconds: float
    any_second: float
    any_ten_seconds: float
    bucket: float
    taking_part: int


def most_in(times: Sequence[float], seconds: float) -> int:
    """Return the most requests within so many seconds. ``times`` are sorted."""
    most = first = 0
    for last, time_ in enumerate(times):
        while times[first] <= time_ - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def deepest(times: Sequence[float], per_second: float) -> float:
    """Return the maximum level of a bucket that leaks ``per_second``, and into which each request puts one. ``times`` are sorted."""
    level = most = 0.0
    for before, now in zip([*times[:1], *times], times, strict=False):
        level = max(0.0, level - (now - before) * per_second) + 1
        most = max(most, level)
    return most


async def measure(bootstrap_servers: str, directory: Path, processes: int, limit: int, seconds: float) -> RateFigures:
    """Publish twice as many events as the limit allows, for so many seconds, and observe what the endpoint gets."""
    async with several_fan_outs(bootstrap_servers, directory, processes, max_per_second=limit) as several:
        ways = await ways_to(several)
        published, started = 0, time.monotonic()
        sending: list[asyncio.Task[int]] = []
        while (passed := time.monotonic() - started) < seconds:
            while published < passed * 2 * limit + limit:
                sending.append(asyncio.create_task(several.publish(f"e{published}", ways[published % len(ways)])))
                published += 1
            await asyncio.sleep(0.05)
        await asyncio.gather(*sending)
        times = several.times()
        sent = [await role.metric("oms_webhooks_attempts_total") or 0.0 for role in several.fan_outs]
    return RateFigures(
        processes,
        limit,
        len(times),
        times[-1] - times[0],
        most_in(times, 1.0) / limit,
        most_in(times, 10.0) / (10 * limit),
        deepest(times, ALLOWED * limit),
        sum(made > 0 for made in sent),
    )


def table(found: Sequence[RateFigures]) -> Table:
    """Return the figures as a table."""
    shown = Table("fan-outs", "limit", "a second", "most in 1 s / limit", "most in 10 s / limit", "bucket at 1.1 limits")
    for one in found:
        average = f"{one.requests / one.seconds:.1f}"
        shown.add_row(
            str(one.processes),
            str(one.limit),
            average,
            f"{one.any_second:.2f}",
            f"{one.any_ten_seconds:.2f}",
            f"{one.bucket:.0f}",
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], help="numbers of fan-outs")
    parser.add_argument("--limit", type=int, default=50, help="requests a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each number")
    chosen = parser.parse_args()
    found: list[RateFigures] = []
    with tempfile.TemporaryDirectory() as directory:
        broker = ApacheKafkaBroker(data_dir=Path(directory) / "kafka")
        try:
            servers = broker.start()
            for processes in chosen.processes:
                place = Path(directory) / str(processes)
                place.mkdir()
                found.append(uvloop.run(measure(servers, place, processes, chosen.limit, chosen.seconds)))
                Console().print(table(found[-1:]))
        finally:
            broker.stop()
    Console().print(table(found))


if __name__ == "__main__":
    main()
