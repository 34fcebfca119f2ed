"""Memory, idle CPU and group membership of each role in the worst cases, compared with the bounds in docs/limits.md.

    python tests/bench/bounds.py --scale 1          # everything; an hour, and ten gigabytes of disk
    python tests/bench/bounds.py --scale 0.005      # a smoke run of 90 seconds
    python tests/bench/bounds.py --only large

Real Apache Kafka (Java 17 and Maven), each role a process. Exits with 1 if a bound is exceeded, a role lost a
partition, or a notification did not arrive.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvloop
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, not as a module

from pipeline.devtools.local_broker import ApacheKafkaBroker
from schemas.codec import to_header
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord
from schemas.event_codec import decode_event, webhook_body
from tests.bench.sampling import Life, cpu_seconds
from tests.bench.stage import Filled, Stage, noise, staged
from tests.faults.receivers import Behaviour

RSS_BOUNDS: Mapping[str, int] = {"api": 300, "fanout": 640, "retry": 896, "recorder": 768}
"""In MiB, as in docs/limits.md."""
IDLE_CPU_BOUND = 0.10
"""As a share of a core: the retry while nothing is due. It takes 3% of a fast core and 7% of a slow one; a busy loop takes all of it."""
MIB = 1024 * 1024


@dataclass
class Findings:
    """The findings of a scenario: figures besides those of the samples, and problems."""

    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def expect(self, found: int, wanted: int, what: str) -> None:
        """Compare two counts."""
        self.notes.append(f"{found:,} of {wanted:,} {what}")
        if found != wanted:
            self.problems.append(self.notes[-1])


@dataclass(frozen=True)
class Scenario:
    """A worst case: its roles, its receivers' behaviour, settings as text, and what happens."""

    roles: tuple[str, ...]
    play: Callable[[Stage, float], Awaitable[Findings]]
    behaviour: Behaviour = field(default_factory=Behaviour)
    settings: Mapping[str, str] = field(default_factory=dict)
    keeps_partitions: bool = True
    """Whether roles must keep their partitions; if the broker itself goes down, groups may form again."""


def event(number: int, size: int = 1000, shop: int = 0) -> Filled:
    """Return an event of about ``size`` bytes."""
    key = f"R{number:09}"
    data = {"number": key, "email": "ada@example.com", "store": {"id": shop}, "line_items": [{"variant": {"sku": "SPRUCE-01"}}]}
    envelope = {
        "id": f"evt_{number:026}",
        "event_name": "order_completed",
        "occurred_at": "2026-03-02T15:04:00.512Z",
        "data": data,
    }
    data["note"] = noise(max(0, size - len(json.dumps(envelope))))
    return Filled(key.encode(), json.dumps(envelope).encode())


def delivery(number: int) -> Filled:
    """Return a record of a delay topic: the second attempt of an event of about 1 KB at endpoint 1."""
    key, value, _ = event(number)
    decoded = decode_event(value, max_bytes=MIB)
    header = to_header(DELIVERY_HEADER, DeliveryRecord(event=decoded.meta, endpoint_id=1, attempt=2))
    return Filled(key, webhook_body(decoded), [header])


def at_least(count: int, scale: float, least: int) -> int:
    """Return a count at a scale."""
    return max(least, round(count * scale))


async def burst(stage: Stage, scale: float) -> Findings:
    """Start the fan-out when 1,000,000 events wait."""
    events = at_least(1_000_000, scale, 1)
    await stage.register(1, lambda _: {"path": "/fast"})
    await stage.fill(stage.settings.topics.orders, map(event, range(events)))
    started = time.monotonic()
    await stage.start("fanout", "retry", "recorder")  # the retry for deliveries parked when the machine is busy
    done = functools.partial(stage.has_no_lag, "fanout", "retry", "recorder")
    await stage.until(done, 120 + events / 100, "the burst is delivered and recorded")
    findings = Findings([f"{events / (time.monotonic() - started):,.0f} events a second, recorded"])
    findings.expect(stage.acknowledged(), events, "notifications arrived")
    return findings


async def slow(stage: Stage, scale: float) -> Findings:
    """One endpoint answers after 10 s, two others at once; all get everything."""
    events = at_least(30_000, scale, 1_000)
    await stage.register(3, lambda number: {"path": ("/slow", "/fast/1", "/fast/2")[number - 1]})
    await stage.fill(stage.settings.topics.orders, map(event, range(events)))
    await stage.start("fanout", "retry")
    fast = ("/fast/1", "/fast/2")
    await stage.until(lambda: stage.acknowledged(*fast) == 2 * events, 120 + events / 20, "the fast ones have all")
    findings = Findings([f"{stage.acknowledged('/slow'):,} at the slow endpoint so far"])
    findings.expect(stage.acknowledged(*fast), 2 * events, "notifications arrived at the fast ones")
    return findings


async def large(stage: Stage, scale: float) -> Findings:
    """Bodies of 5 MB; one of two endpoints fails half the time, so that they are also written to the delay topics."""
    events = at_least(300, scale, 16)
    await stage.register(2, lambda number: {"path": ("/flaky", "/fast")[number - 1]})
    await stage.fill(stage.settings.topics.orders, (event(number, 5_000_000) for number in range(events)))
    await stage.start("fanout", "retry", "recorder")
    await stage.until(
        lambda: stage.acknowledged("/fast") == events and stage.has_no_lag("fanout", "retry", "recorder"),
        120 + events * 4,
        "the large bodies are delivered and recorded",
    )
    findings = Findings([f"{stage.acknowledged('/flaky'):,} at the endpoint that fails half of the time"])
    findings.expect(stage.acknowledged("/fast"), events, "notifications arrived at the other")
    return findings


async def endpoints(stage: Stage, scale: float) -> Findings:
    """10,000 endpoints with a filter each; every event matches three of them."""
    count, events = at_least(10_000, scale, 999) // 3 * 3, at_least(20_000, scale, 1_000)
    shops = count // 3
    await stage.register(count, lambda number: {"path": f"/shop/{number}", "filters": {"store.id": (number % shops,)}})
    await stage.fill(stage.settings.topics.orders, (event(number, shop=number % shops) for number in range(events)))
    started = time.monotonic()
    await stage.start("fanout", "retry", "api")
    async with httpx.AsyncClient(headers={"Authorization": "Bearer bounds-key"}, trust_env=False, timeout=30) as client:
        listed = (await client.get(f"{stage.roles['api'].url}/api/webhook/endpoints")).json()["total_count"]
    await stage.until(lambda: stage.has_no_lag("fanout", "retry"), 120 + events / 20, "the events are delivered")
    findings = Findings([f"{events / (time.monotonic() - started):,.0f} events a second"])
    findings.expect(listed, count, "endpoints are listed by the API")
    findings.expect(stage.acknowledged(), 3 * events, "notifications arrived")
    return findings


async def waiting(stage: Stage, scale: float) -> Findings:
    """1,000,000 records are in the delay topics and none is due: the retry costs almost nothing, and handles new ones."""
    records = at_least(1_000_000, scale, 3)
    topics = stage.settings.topics
    await stage.register(1, lambda _: {"path": "/fast"})
    long_delays = [topics.delay(delay) for delay in topics.delays if delay.total_seconds() >= 600]
    pattern = [delivery(number) for number in range(1_000)]  # again and again: they are never accepted, only created
    for index, topic in enumerate(long_delays):
        count = len(range(index, records, len(long_delays)))
        await stage.fill(topic, itertools.islice(itertools.cycle(pattern), count), compression="lz4")
    await stage.start("retry")
    await stage.roles["retry"].until_above("oms_webhooks_consumer_lag_records", records - 1)  # it knows what is waiting
    stage.sampler.look()
    life = stage.sampler.of("retry")[-1]
    seconds = max(13.0, min(60.0, 600 * scale))  # more than two session timeouts
    cpu, started = cpu_seconds(life.pid), time.monotonic()
    await asyncio.sleep(seconds)
    used = (cpu_seconds(life.pid) - cpu) / (time.monotonic() - started)
    findings = Findings([f"{used:.1%} of a core over {seconds:.0f} s"])
    if used > IDLE_CPU_BOUND:
        findings.problems.append(f"the idle retry takes {findings.notes[0]}, more than {IDLE_CPU_BOUND:.0%}")
    shortest = topics.delay(next(delay for delay in topics.delays if delay.total_seconds() > 0))
    await stage.fill(shortest, map(delivery, range(records, records + 100)))
    await stage.until(lambda: stage.acknowledged() >= 100, 60, "what is due meanwhile is delivered")
    findings.expect(stage.acknowledged(), 100, "that were due meanwhile arrived")
    return findings


async def away(stage: Stage, scale: float) -> Findings:
    """Kafka is killed while every event causes 20 retries of 50 KB each: unacknowledged records stay within bounds."""
    events, failing = at_least(2_000, scale, 150), 20
    await stage.register(failing, lambda number: {"path": f"/flaky?{number}"})
    await stage.fill(stage.settings.topics.orders, (event(number, 50_000) for number in range(events)))
    await stage.start("fanout")
    await stage.roles["fanout"].until_busy()
    await asyncio.to_thread(stage.broker.kill)
    await asyncio.sleep(max(5.0, 30 * scale))
    await asyncio.to_thread(stage.broker.start)
    await stage.until(lambda: stage.has_no_lag("fanout"), 120 + events / 2, "the events are dealt with when Kafka is back")
    # In any delay topic: when circuits open, deliveries are parked for longer than the first retry waits.
    repeats = sum(stage.kafka.ends(stage.settings.topics.delay_topics).values())
    findings = Findings([f"{repeats:,} repeats and parked deliveries were written for {events * failing:,} notifications"])
    if repeats < events * failing:
        findings.problems.append(findings.notes[0])
    return findings


SCENARIOS: Mapping[str, Scenario] = {
    "burst": Scenario(("fanout", "retry", "recorder"), burst),
    "slow": Scenario(("fanout", "retry"), slow, Behaviour("/slow", slow_rate=1.0, slow_seconds=10.0)),
    "large": Scenario(
        ("fanout", "retry", "recorder"),
        large,
        Behaviour("/flaky", fail_rate=0.5),
        {"retry_delays": "500ms,500ms,500ms,500ms,500ms"},
    ),
    "endpoints": Scenario(("fanout", "retry", "api"), endpoints),
    "waiting": Scenario(("retry",), waiting, settings={"retry_delays": "2s,1m,10m,1h,6h", "kafka_session_timeout_ms": "6000"}),
    "away": Scenario(("fanout",), away, Behaviour("/flaky", fail_rate=1.0), keeps_partitions=False),
}


async def played(name: str, directory: Path, broker: ApacheKafkaBroker, scale: float) -> tuple[Findings, list[Life]]:
    """Run a scenario; problems with its roles' figures are added to its findings."""
    scenario = SCENARIOS[name]
    async with staged(
        directory / name, broker, name, roles=scenario.roles, behaviour=scenario.behaviour, **scenario.settings
    ) as stage:
        findings = await scenario.play(stage, scale)
    for life in stage.sampler.lives:
        if life.peak > RSS_BOUNDS[life.role]:
            findings.problems.append(f"{life.role} took {life.peak:.0f} MiB; its bound is {RSS_BOUNDS[life.role]} MiB")
        if life.lost and scenario.keeps_partitions:
            findings.problems.append(f"{life.role} lost its partitions {life.lost:.0f} times")
    return findings, stage.sampler.lives


def rows(name: str, findings: Findings, lives: list[Life]) -> Iterator[tuple[str, ...]]:
    """Return the lines of the table, one per role."""
    for index, life in enumerate(lives):
        first, last = life.samples[0], life.samples[-1]
        cpu = (last.cpu - first.cpu) / max(last.at - first.at, 0.001)
        figures = f"{life.peak:.0f}", f"{RSS_BOUNDS[life.role]}", f"{cpu:.0%}", f"{life.lost:.0f}"
        yield name, life.role, *figures, "; ".join(findings.notes) if index == 0 else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="1: in full")
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="this scenario; may be given several times")
    options = parser.parse_args()
    table = Table(title=f"scale {options.scale:g}")
    for column in ("scenario", "role", "peak RSS (MiB)", "bound (MiB)", "CPU (of a core)", "evictions", "found"):
        table.add_column(column)
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        broker = ApacheKafkaBroker(data_dir=Path(temporary) / "kafka")
        try:
            broker.start()
            for name in options.only or SCENARIOS:
                started = time.monotonic()
                findings, lives = uvloop.run(played(name, Path(temporary), broker, options.scale))
                for row in rows(name, findings, lives):
                    table.add_row(*row)
                problems += [f"{name}: {problem}" for problem in findings.problems]
                print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        finally:
            broker.stop()
    Console(width=160).print(table)
    for problem in problems:
        print(f"FAILED {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
