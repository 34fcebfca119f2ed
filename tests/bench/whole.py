"""The main benchmark: the cost of a delivery in the whole system, by process, from a backlog and at steady rates.

    python -m tests.bench.whole                                  the full table
    python -m tests.bench.whole --rates 10 200 --seconds 15      a part of it
    python -m tests.bench.whole --compare old.json               ratios to an earlier run

Real Apache Kafka (Java 17 and Maven), the roles as processes, ClickHouse behind the tests' HTTP shim, receivers in their own
process. CPU seconds are the kernel's (/proc), so a busy machine affects them less than times; latencies use one machine's clock, from
the event's creation to its arrival at the receiver. The roles, Kafka and ClickHouse are counted; the receivers and the publisher are
not. Prints progress, and writes JSON. It asserts only that every notification arrived.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from pipeline.devtools.local_broker import ApacheKafkaBroker
from pipeline.ops.logs import configure_logs
from tests.bench.floors import floors
from tests.bench.sampling import cpu_seconds, pid_of, scraped
from tests.bench.stage import Filled, Stage, staged
from tests.faults.processes import RoleProcess
from tests.faults.receivers import Behaviour
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
IDLE_SECONDS = 15.0
_TICK_SECONDS = 0.005
_SEARCHABLE = "oms_webhooks_attempt_to_searchable_seconds_bucket"
_ROLES = ("fanout", "retry", "recorder")


@dataclass(frozen=True)
class Scenario:
    """``rate`` is events a second; 0: a backlog of ``events``. ``endpoints`` get each event of ``size`` bytes."""

    rate: int
    endpoints: int = 1
    size: int = 2048
    workers: int = 1
    events: int = 0

    @property
    def name(self) -> str:
        """Return the name in the table, which identifies the scenario in another run."""
        load = f"{self.rate}/s" if self.rate else "backlog"
        return f"{load}, {self.endpoints} endpoint{'s' * (self.endpoints > 1)}, {self.size // 1024} KB" + (
            f", {self.workers} fan-outs" if self.workers > 1 else ""
        )


@dataclass
class Measured:
    """Milliseconds of CPU per delivery, by process; milliseconds of latency, by percentile; deliveries a second."""

    scenario: str
    deliveries: int
    a_second: float
    cpu_ms: dict[str, float]
    latency_ms: dict[str, float] = field(default_factory=dict)
    searchable_p95_s: float | None = None

    @property
    def total(self) -> float:
        """Return milliseconds of CPU per delivery of all processes together."""
        return sum(self.cpu_ms.values())


class System:
    """The processes whose CPU time counts."""

    def __init__(self, stage: Stage, clickhouse: int) -> None:
        self._roles = stage.roles
        self._fixed = {"clickhouse": clickhouse, "kafka": stage.broker.pid or 0}

    def cpu(self) -> dict[str, float]:
        """Return CPU seconds so far by process; workers of a role count as one."""
        found = {name: cpu_seconds(pid) for name, pid in self._fixed.items()}
        for name, process in self._roles.items():
            role = name.rstrip("0123456789")
            found[role] = found.get(role, 0.0) + cpu_seconds(pid_of(process) or 0)
        return found


def spent(before: Mapping[str, float], after: Mapping[str, float], deliveries: int) -> dict[str, float]:
    """Return milliseconds per delivery by process."""
    return {name: 1000 * (after[name] - before[name]) / deliveries for name in sorted(after)}


def percentiles(latencies: Sequence[float]) -> dict[str, float]:
    """Return percentiles of latencies in milliseconds."""
    ordered = sorted(latencies)
    return {name: ordered[min(int(len(ordered) * share), len(ordered) - 1)] for name, share in _PERCENTILES.items()}


_PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def event(number: str, size: int) -> bytes:
    """Return an event that contains its creation time."""
    data: dict[str, Any] = {"number": f"R{number}", "line_items": [{"variant": {"sku": "SPRUCE-01"}}], "note": ""}
    made = {"id": number, "event_name": "order_completed", "occurred_at": datetime.now(UTC).isoformat(), "data": data}
    data["note"] = "lorem ipsum " * (max(0, size - len(json.dumps(made))) // 12)
    return json.dumps(made).encode()


async def publish(stage: Stage, scenario: Scenario, seconds: float, run: str) -> dict[str, float]:
    """Publish at a steady rate; returns each event's creation time by id (seconds since 1970)."""
    made: dict[str, float] = {}
    with stage.plain_producer() as producer:
        started = time.monotonic()
        while (passed := time.monotonic() - started) < seconds:
            for _ in range(int(passed * scenario.rate) - len(made)):
                number = f"{run}{len(made):07}"
                made[number] = time.time()
                producer.send(stage.settings.topics.orders, key=number.encode(), value=event(number, scenario.size))
            await asyncio.sleep(_TICK_SECONDS)
    return made


def arrived(stage: Stage, count: int, seen: dict[tuple[str, str], float]) -> bool:
    """Return whether so many distinct notifications have arrived; ``seen`` gets the first arrival of each."""
    for request in stage.receivers.ledger.read_on():
        seen.setdefault((request.path, request.event_id), request.at)
    stage.receivers.ledger.requests.clear()
    return len(seen) >= count


@asynccontextmanager
async def running(
    directory: Path, broker: ApacheKafkaBroker, scenario: Scenario, **settings: str
) -> AsyncIterator[tuple[Stage, System]]:
    """Run the roles until they are ready, with the scenario's endpoints."""
    fanouts = [f"fanout{number}" for number in range(scenario.workers)] if scenario.workers > 1 else ["fanout"]
    roles = [*fanouts, "retry", "recorder"]
    async with staged(directory, broker, f"w{time.time_ns():x}", roles=roles, behaviour=Behaviour(), **settings) as stage:
        await stage.register(scenario.endpoints, lambda number: {"path": f"/{number}"})
        await stage.start(*roles)
        yield stage, System(stage, stage.clickhouse_pid)


async def steady(directory: Path, broker: ApacheKafkaBroker, scenario: Scenario, seconds: float, **settings: str) -> Measured:
    """Measure in an open loop: events are published at the rate, whatever their outcome."""
    async with running(directory, broker, scenario, **settings) as (stage, system):
        await publish(stage, scenario, 3.0, "warm")
        await stage.until(lambda: stage.has_no_lag("fanout", "recorder"), 60, "warm")
        arrived(stage, 0, {})
        seen: dict[tuple[str, str], float] = {}
        searchable = await scraped(stage.roles["recorder"].url)
        before, started = system.cpu(), time.monotonic()
        made = await publish(stage, scenario, seconds, "run")
        took = time.monotonic() - started
        wanted = len(made) * scenario.endpoints
        await stage.until(lambda: arrived(stage, wanted, seen), 60, f"{wanted} notifications arrived")
        await stage.until(lambda: stage.has_no_lag("fanout", "recorder"), 60, "all is recorded")
        latencies = [1000 * (at - made[event_id]) for (_, event_id), at in seen.items()]
        cpu = spent(before, system.cpu(), wanted)
        now = await scraped(stage.roles["recorder"].url)
        p95 = quantile(
            {name: value - searchable.get(name, 0.0) for name, value in now.items() if name.startswith(_SEARCHABLE)}, 0.95
        )
        return Measured(scenario.name, wanted, wanted / took, cpu, percentiles(latencies), p95)


async def backlog(directory: Path, broker: ApacheKafkaBroker, scenario: Scenario, **settings: str) -> Measured:
    """Measure all events at once."""
    async with running(directory, broker, scenario, **settings) as (stage, system):
        await publish(stage, Scenario(200), 3.0, "warm")
        await stage.until(lambda: stage.has_no_lag("fanout", "recorder"), 60, "warm")
        arrived(stage, 0, {})
        seen: dict[tuple[str, str], float] = {}
        wanted = scenario.events * scenario.endpoints
        before, started = system.cpu(), time.monotonic()
        numbers = (f"{number:08}" for number in range(scenario.events))
        await stage.fill(
            stage.settings.topics.orders, (Filled(number.encode(), event(number, scenario.size)) for number in numbers)
        )
        await stage.until(lambda: arrived(stage, wanted, seen), 600, f"{wanted} notifications arrived")
        took = time.monotonic() - started
        await stage.until(lambda: stage.has_no_lag("fanout", "recorder"), 300, "all is recorded")
        return Measured(scenario.name, wanted, wanted / took, spent(before, system.cpu(), wanted))


async def idle(directory: Path, broker: ApacheKafkaBroker, seconds: float = IDLE_SECONDS) -> dict[str, float]:
    """Return the percentage of a core that each process takes when idle."""
    async with running(directory, broker, Scenario(0)) as (_, system):
        await asyncio.sleep(5.0)  # work left from the start is done
        before, started = system.cpu(), time.monotonic()
        await asyncio.sleep(seconds)
        after, took = system.cpu(), time.monotonic() - started
        return {name: 100 * (after[name] - before[name]) / took for name in sorted(after)}


async def start(directory: Path, broker: ApacheKafkaBroker, endpoints: int = 1000) -> float:
    """Return the seconds from starting a fan-out to its first delivery, with waiting events and so many endpoints."""
    async with staged(directory, broker, f"s{time.time_ns():x}", roles=["fanout"], behaviour=Behaviour()) as stage:
        await stage.register(endpoints, lambda number: {"path": f"/{number}", "events": _events_of(number)})
        await stage.fill(stage.settings.topics.orders, [Filled(b"1", event("first", 2048))])
        process: RoleProcess = stage.roles["fanout"]
        seen: dict[tuple[str, str], float] = {}

        def has_arrived() -> bool:
            process.check_alive()
            return arrived(stage, 1, seen)

        started = time.time()
        process.start()
        await until(has_arrived, "no delivery", seconds=60)
        return min(seen.values()) - started


def _events_of(number: int) -> tuple[str, ...]:
    return ("order_completed",) if number == 1 else ("order_cancelled",)


def quantile(buckets: Mapping[str, float], share: float) -> float | None:
    """Return the upper bound of the bucket with a Prometheus histogram's quantile; None if nothing was counted."""
    bounds = sorted((float(name.split('le="')[1].split('"')[0]), count) for name, count in buckets.items())
    if not bounds or not bounds[-1][1]:
        return None
    return next(bound for bound, count in bounds if count >= share * bounds[-1][1])


def scenarios(options: argparse.Namespace) -> list[Scenario]:
    """Return the scenarios to measure, the most expensive last."""
    found = [Scenario(rate) for rate in options.rates]
    if options.backlog:
        found += [Scenario(0, endpoints, events=max(options.backlog // endpoints, 50)) for endpoints in options.endpoints]
        found += [Scenario(0, 1, size * 1024, events=options.backlog // 4) for size in options.sizes if size != 2]
        found += [Scenario(0, 1, workers=workers, events=options.backlog) for workers in options.workers if workers > 1]
    return found


class Report:
    """Prints progress, and keeps the results, next to those of an earlier run."""

    def __init__(self, out: Console, old: Mapping[str, Any] | None) -> None:
        self._out = out
        self._old = {one["scenario"]: one for one in (old or {}).get("scenarios", [])}
        self.measured: dict[str, list[Measured]] = {}

    def add(self, one: Measured) -> None:
        """Print a line, and keep it."""
        self.measured.setdefault(one.scenario, []).append(one)
        latency = "  ".join(f"{name} {value:.1f} ms" for name, value in one.latency_ms.items())
        self._out.print(f"{one.scenario}: {one.total:.2f} ms CPU a delivery, {one.a_second:,.0f}/s  {latency}")

    def medians(self) -> list[dict[str, Any]]:
        """Return one line per scenario: the medians of its rounds."""
        return [_median(rounds) for rounds in self.measured.values()]

    def table(self) -> Table:
        """Return the whole table."""
        table = Table(title="Milliseconds of CPU a delivery")
        for heading in ("", "all", *sorted({name for rounds in self.measured.values() for one in rounds for name in one.cpu_ms})):
            table.add_column(heading, justify="right" if heading else "left")
        for heading in ("deliveries/s", *_PERCENTILES, "searchable p95", "beside before"):
            table.add_column(heading, justify="right")
        for one in self.medians():
            cpu = [f"{one['cpu_ms'].get(str(column.header), 0.0):.2f}" for column in table.columns[2 : 2 + len(one["cpu_ms"])]]
            latency = [f"{one['latency_ms'][name]:.1f}" if one["latency_ms"] else "" for name in _PERCENTILES]
            old = self._old.get(one["scenario"])
            ratio = f"{one['total_ms'] / old['total_ms']:.2f}" if old else ""
            searchable = "" if one["searchable_p95_s"] is None else f"<= {one['searchable_p95_s']:g} s"
            table.add_row(one["scenario"], f"{one['total_ms']:.2f}", *cpu, f"{one['a_second']:,.0f}", *latency, searchable, ratio)
        return table


def _median(rounds: Sequence[Measured]) -> dict[str, Any]:
    cpu = {name: statistics.median(one.cpu_ms[name] for one in rounds) for name in rounds[0].cpu_ms}
    latency = {name: statistics.median(one.latency_ms[name] for one in rounds) for name in rounds[0].latency_ms}
    found = asdict(rounds[0]) | {
        "cpu_ms": cpu,
        "latency_ms": latency,
        "a_second": statistics.median(one.a_second for one in rounds),
        "total_ms": statistics.median(one.total for one in rounds),
        "rounds": len(rounds),
    }
    found["searchable_p95_s"] = max((one.searchable_p95_s for one in rounds if one.searchable_p95_s is not None), default=None)
    return found


@asynccontextmanager
async def started(out: Console) -> AsyncIterator[tuple[Path, ApacheKafkaBroker]]:
    """Run a Kafka with a directory that is removed at the end."""
    with tempfile.TemporaryDirectory() as name:
        broker = ApacheKafkaBroker(data_dir=Path(name) / "kafka")
        out.print("Starting Apache Kafka ...")
        try:
            await asyncio.to_thread(broker.start)
            yield Path(name), broker
        finally:
            await asyncio.to_thread(broker.stop)


async def measure(options: argparse.Namespace, out: Console, commit: str) -> dict[str, Any]:
    """Measure everything in rounds: each scenario once, then each again."""
    report = Report(out, json.loads(options.compare.read_text()) if options.compare else None)
    chosen = dict(pair.split("=", 1) for pair in options.set)
    async with started(out) as (directory, broker):
        floor = await floors(broker, directory) if options.floors else {}
        for what, value in floor.items():
            out.print(f"the floor: {what}: {value:,.1f} µs CPU")
        at_rest = await idle(directory / "idle", broker) if options.idle else {}
        for process, percent in at_rest.items():
            out.print(f"idle: {process}: {percent:.1f}% of a core")
        for number in range(options.rounds):
            for index, scenario in enumerate(scenarios(options)):
                place = directory / f"{number}-{index}"
                if scenario.rate:
                    report.add(await steady(place, broker, scenario, options.seconds, **chosen))
                else:
                    report.add(await backlog(place, broker, scenario, **chosen))
        starts = [await start(directory / f"start{number}", broker) for number in range(options.starts)]
        for seconds in starts:
            out.print(f"start to first delivery, 1,000 endpoints: {seconds:.2f} s")
    out.print(report.table())
    return {
        "commit": commit,
        "python": platform.python_version(),
        "settings": chosen,
        "floor_us": floor,
        "idle_percent": at_rest,
        "start_s": statistics.median(starts) if starts else None,
        "scenarios": report.medians(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="*", default=[10, 50, 200, 1000, 3000], help="events a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each rate lasts")
    parser.add_argument("--backlog", type=int, default=20_000, help="deliveries of the backlog; 0: none")
    parser.add_argument("--endpoints", type=int, nargs="*", default=[1, 5, 50], help="endpoints that get each event of a backlog")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 4, 64], help="KB of an event, of further backlogs")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="fan-out processes, of further backlogs")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is measured; medians count")
    parser.add_argument("--starts", type=int, default=3, help="how often a start is measured")
    parser.add_argument("--idle", action=argparse.BooleanOptionalAction, default=True, help="measure idle processes")
    parser.add_argument("--floors", action=argparse.BooleanOptionalAction, default=True, help="measure the libraries alone")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="name=value", help="settings of all roles: kafka_client=librdkafka"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "var" / "bench.json", help="where the figures go")
    parser.add_argument("--compare", type=Path, help="figures of an earlier run")
    options = parser.parse_args()
    out = Console(width=200)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT).stdout.strip()
    configure_logs("warning", "console")
    figures = uvloop.run(measure(options, out, commit))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(figures, indent=2) + "\n")
    out.print(f"Written to {options.json}")


if __name__ == "__main__":
    main()
