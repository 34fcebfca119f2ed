"""A long run at 70% of the measured capacity with random faults: nothing is lost, memory stays flat, no lag remains.

    python tests/faults/soak.py --minutes 30 [--seed N]

Real Apache Kafka (Java 17 and Maven), each role a process. The figures go to standard output and to var/soak/; exits with 1 if
a promise was broken. A process's resources are judged over its own life, from start to kill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, not as a module

from pipeline.devtools.local_broker import ApacheKafkaBroker
from pipeline.devtools.simulator import Shop, SimulatedEvent
from tests.bench.sampling import Sampler, judged, sampled
from tests.contract.clickhouse_faults import FaultKind
from tests.faults.collection import collect
from tests.faults.deployment import EVERY_ROLE, Deployment, deployed
from tests.faults.evidence import Evidence, Fault
from tests.faults.promises import broken
from tests.faults.receivers import Behaviour

ROOT = Path(__file__).resolve().parents[2]
SHARE_OF_CAPACITY = 0.7
MISBEHAVING = Behaviour("/flaky", fail_rate=0.05)
SLICE_SECONDS = 10.0
GRACE_SECONDS = 40.0
GROWTH_BOUND = 0.10
"""The growth allowed between a process's warm-up and its end, as a share of its mean, by a line fitted to its samples."""


@dataclass
class Soak:
    """A soak run in progress."""

    deployment: Deployment
    broker: ApacheKafkaBroker
    chance: random.Random
    shop: Shop
    faults: list[Fault] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Print a line about its progress."""
        print(f"[{time.monotonic() - self.started:5.0f} s] {text}", file=sys.stderr, flush=True)

    def events(self, count: int) -> list[SimulatedEvent]:
        """Return the next events of the simulated OMS."""
        now = datetime.now(UTC)
        return [self.shop.next_event(now) for _ in range(count)]

    async def capacity(self, events: int) -> float:
        """Measure events a second: publish all at once, and wait until every role has finished them."""
        started = time.monotonic()
        await self.deployment.publish(self.events(events), rate=1e9)
        await self.deployment.settle(events / 20 + 120)
        return events / (time.monotonic() - started)

    async def load(self, rate: float, seconds: float) -> None:
        """Publish at a rate for a time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await self.deployment.publish(self.events(max(1, int(rate * min(SLICE_SECONDS, left)))), rate)

    async def suffer(self, seconds: float, restarts: int) -> None:
        """Cause faults at random moments, one by one; the broker's restarts are spread over the run."""
        begun = time.monotonic()
        restart_at = [begun + seconds * (number + self.chance.random()) / restarts for number in range(restarts)]
        pause = min(75.0, seconds / 6)
        while time.monotonic() - begun < seconds:
            await asyncio.sleep(self.chance.uniform(0.3, 1.0) * pause)
            if restart_at and time.monotonic() > restart_at[0]:
                restart_at.pop(0)
                await self.restart_broker()
            else:
                await self.chance.choice((self.kill, self.kill, self.terminate, self.take_clickhouse_away))()

    async def kill(self) -> None:
        """``kill -9`` a role."""
        role = self.chance.choice(EVERY_ROLE)
        self._note(f"kill -9 {role}")
        process = self.deployment.roles[role]
        outstanding = await process.metric("oms_webhooks_outstanding_records") or 0.0
        process.kill()
        at = time.time()
        committed = await self.deployment.committed(role)
        await asyncio.sleep(self.chance.uniform(0.1, 3.0))
        until = time.time()
        process.start()
        self.faults.append(Fault("kill -9", role, at, committed, outstanding, until))
        await process.until_ready()

    async def terminate(self) -> None:
        """Send SIGTERM to a role; it drains and repeats nothing."""
        role = self.chance.choice(EVERY_ROLE)
        self._note(f"SIGTERM {role}")
        process = self.deployment.roles[role]
        await process.terminate(GRACE_SECONDS)
        process.start()
        await process.until_ready()

    async def take_clickhouse_away(self) -> None:
        """Make ClickHouse answer 503 for some seconds."""
        seconds = self.chance.uniform(3, 20)
        self._note(f"ClickHouse away for {seconds:.0f} s")
        await asyncio.to_thread(self.deployment.clickhouse.fail, FaultKind.UNAVAILABLE, times=1_000_000)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.deployment.clickhouse.recover)

    async def restart_broker(self) -> None:
        """Restart Kafka in order. If a group lost its partitions, deliveries in flight may be repeated."""
        self._note("Kafka restarts")
        at = time.time()
        committed = {role: await self.deployment.committed(role) for role in ("fanout", "retry")}
        await asyncio.to_thread(self.broker.restart)
        for role in (*committed, "recorder"):
            await self.deployment.committed(role)  # the broker is back
        until = time.time()
        self.faults += [Fault("Kafka restarts", role, at, offsets, 0.0, until) for role, offsets in committed.items()]

    def _note(self, what: str) -> None:
        self.happened.append(what)
        self.say(what)


async def run(directory: Path, broker: ApacheKafkaBroker, minutes: float, seed: int) -> dict[str, Any]:
    """Do the whole run; returns its figures."""
    prefix, behaviour = f"soak{secrets.token_hex(4)}.", replace(MISBEHAVING, seed=seed)
    seconds = minutes * 60
    async with deployed(directory, broker.start(), prefix, behaviour=behaviour) as deployment:
        soak = Soak(deployment, broker, random.Random(seed), Shop(seed))
        capacity = await soak.capacity(max(1_000, min(20_000, int(seconds * 20))))
        rate = SHARE_OF_CAPACITY * capacity
        soak.say(f"{capacity:,.0f} events a second are possible; going on with {rate:,.0f}")
        async with sampled(deployment.roles) as sampler:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(soak.load(rate, seconds))
                tasks.create_task(soak.suffer(seconds, restarts=2 if minutes >= 10 else 1))
            soak.say("everything is published; waiting until all is settled")
            settling = time.monotonic()
            await deployment.settle(300)
            settled = time.monotonic() - settling
        found = await asyncio.to_thread(collect, deployment)
    found.faults, found.seconds = soak.faults, time.monotonic() - soak.started
    return figures_of(soak, found, sampler) | {
        "minutes": minutes,
        "seed": seed,
        "events_a_second_possible": round(capacity),
        "events_a_second": round(rate),
        "seconds_until_settled": round(settled, 1),
    }


def figures_of(soak: Soak, found: Evidence, sampler: Sampler) -> dict[str, Any]:
    """Return the figures for var/soak/, with every broken promise in ``broken``."""
    lives = [judged(life) for life in sampler.lives if life.samples]
    problems = broken(found, most_duplicates=found.in_flight_at_the_faults)
    problems += [
        f"{life['role']} grew by {life['growth']:.0%} in {life['seconds']} s"
        for life in lives
        if life["growth"] is not None and life["growth"] > GROWTH_BOUND
    ]
    return {
        "broken": problems,
        "events": len(found.events),
        "notifications": len(found.expected),
        "requests": len(found.requests),
        "missing": len(found.missing),
        "duplicates": found.duplicates,
        "in_flight_at_the_faults": found.in_flight_at_the_faults,
        "attempts_in_clickhouse": len(found.stored_attempts or ()),
        "faults": soak.happened,
        "lives": lives,
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures as tables."""
    console = Console(width=140)
    table = Table(title="processes")
    names = ("role", "seconds", "first_mib", "last_mib", "peak_mib", "growth", "most_lag", "last_lag")
    for name in names:
        table.add_column(name.replace("_", " "))
    for life in figures["lives"]:
        table.add_row(*("-" if life[name] is None else str(life[name]) for name in names))
    console.print(table)
    for name, value in figures.items():
        if name not in {"lives", "broken"}:
            console.print(f"{name.replace('_', ' '):28} {', '.join(value) if isinstance(value, list) else value}")
    for problem in figures["broken"]:
        print(f"FAILED {problem}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None, help="chooses the events and the faults")
    options = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "roles"
        directory.mkdir()
        broker = ApacheKafkaBroker(data_dir=Path(temporary) / "kafka")
        try:
            figures = uvloop.run(run(directory, broker, options.minutes, seed))
        finally:
            broker.stop()
    results = ROOT / "var" / "soak"
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{seed}.json"
    path.write_text(json.dumps(figures, indent=1))
    show(figures)
    print(f"written to {path.relative_to(ROOT)}")
    sys.exit(1 if figures["broken"] else 0)


if __name__ == "__main__":
    main()
