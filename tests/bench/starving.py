"""Whether searches starve the recorder: one process with all roles, a steady stream of events, and users who search without a pause.

    python tests/bench/starving.py --attempts 500000 --path var/starving
    python tests/bench/starving.py --rate 4000 --seconds 20 --rounds 3 --searchers 1

The store holds a year of attempts. Phases without and with searchers alternate, so that a busy machine affects both equally. For
each: attempts recorded a second, the recorder's lag at the end, and how long the searchers waited for their pages. Prints figures; asserts nothing.
With ``--path`` the store is kept and reused (the phases write to a copy).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import secrets
import shutil
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import uvloop
from rich.console import Console
from rich.table import Table as Grid

from pipeline.broker.factory import open_broker
from pipeline.devtools.local_broker import ApacheKafkaBroker, LocalBroker, TansuBroker
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from pipeline.store.connection import Connections
from pipeline.store.migrate import migrate
from pipeline.store.rows import Row, Table
from pipeline.store.writer import Writer
from tests.bench.recorder import Publisher
from tests.bench.recorder_load import slices
from tests.bench.sampling import cpu_seconds, pid_of, scraped
from tests.bench.search import made_beside, needles_in, select
from tests.faults.processes import RoleProcess

out = Console(width=150)
HISTORY: int = 60_000
"""The Kafka partition of the history: not one that the run uses."""
KEY = "starving-key"
COMMON = "shipment"
PARTITIONS = 3
_RECORDED = 'oms_webhooks_recorded_rows_total{table="attempts"}'
_TICK_S = 0.02
_MAX_SECONDS = 600.0


class Moment(NamedTuple):
    """Attempts published and recorded so far, and the process's CPU seconds."""

    at: float
    published: int
    recorded: int
    cpu: float

    @property
    def behind(self) -> int:
        return self.published - self.recorded


@dataclass
class Searches:
    """The searchers' answers and waiting times, by kind of search."""

    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)


@dataclass
class Phase:
    """A phase of the run."""

    searchers: int
    begin: Moment
    end: Moment
    drained_at: float
    searches: Searches


async def make_history(path: Path, attempts: int) -> dict[str, list[str]]:
    """Fill the store unless it exists; returns needles."""
    connections = Connections(Settings(_env_file=None, clickhouse_path=path))
    try:
        await migrate(connections)
        [(stored,)] = await select(connections, "SELECT count() FROM attempts", {})
        writer = Writer(connections)
        for batch in made_beside(attempts, 10_000, is_escaped=False) if not stored else ():
            await writer.append(Table.ATTEMPTS, HISTORY, _moved(batch.attempts))
            await writer.append(Table.EVENTS, HISTORY, _moved(batch.events))
        needles = await needles_in(connections, random.Random(3))
        [(since,)] = await select(connections, "SELECT min(created_at) FROM attempts", {})
        return {kind: needles.of(kind, since, 200) for kind in ("order number", "e-mail", "inside of a token")}
    finally:
        await connections.close()


def _moved(rows: Sequence[Row]) -> list[Row]:
    return [(*row[:-2], HISTORY, row[-1]) for row in rows]


def looks(needles: dict[str, list[str]], chance: random.Random) -> Iterator[tuple[str, Sequence[tuple[str, dict[str, str]]]]]:
    """Generate a searcher's queries without end: a kind, and its requests, which are sent at once."""
    rest = {"q[request_body_cont]": COMMON}
    while True:
        yield "order number", [("", {"q[order_number_eq]": chance.choice(needles["order number"])})]
        yield "common word", [("", rest), ("/facets", rest), ("/histogram", rest)]
        yield "slowest first", [("", {"q[s]": "duration_ms desc"})]
        yield "slowest, common word", [("", {**rest, "q[s]": "duration_ms desc"})]
        yield "rare word", [("", {"q[request_body_cont]": chance.choice(needles["inside of a token"])})]
        yield "e-mail", [("", {"q[request_body_cont]": chance.choice(needles["e-mail"])})]


async def search(url: str, needles: dict[str, list[str]], number: int, found: Searches) -> None:
    """Run one searcher until cancelled."""
    chance = random.Random(number)
    wanted = itertools.islice(looks(needles, chance), number, None)
    async with httpx.AsyncClient(trust_env=False, timeout=120, headers={"Authorization": f"Bearer {KEY}"}) as client:
        for kind, requests in wanted:
            started = time.monotonic()
            answers = await asyncio.gather(
                *(client.get(f"{url}/api/webhook/attempts{path}", params=params) for path, params in requests)
            )
            found.seconds[kind].append(time.monotonic() - started)
            for (path, _), answer in zip(requests, answers, strict=True):
                found.statuses[f"{kind}{path}", answer.status_code] += 1


@dataclass
class Run:
    """The process and the publisher."""

    process: RoleProcess
    publisher: Publisher
    needles: dict[str, list[str]]
    a_slice: int
    _last: float = 0.0

    async def moment(self) -> Moment:
        self.process.check_alive()
        recorded = self._last = (await scraped(self.process.url)).get(_RECORDED, self._last)
        pid = pid_of(self.process)
        return Moment(time.monotonic(), self.publisher.published, int(recorded), cpu_seconds(pid) if pid is not None else 0.0)

    async def phase(self, rate: float, seconds: float, searchers: int) -> Phase:
        """Publish evenly, search meanwhile, and then wait until everything is recorded."""
        searches = Searches()
        tasks = [asyncio.create_task(search(self.process.url, self.needles, one, searches)) for one in range(searchers)]
        begin = await self.moment()
        sent = 0
        while (passed := time.monotonic() - begin.at) < seconds:
            due = int(passed * rate / self.a_slice) - sent
            await asyncio.to_thread(self.publisher.publish, due)
            sent += due
            await asyncio.sleep(_TICK_S)
        end = await self.moment()
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError) and isinstance(result, BaseException):
                raise result
        return Phase(searchers, begin, end, await self.drained(), searches)

    async def drained(self) -> float:
        async with asyncio.timeout(_MAX_SECONDS):
            while (await self.moment()).behind > 0:  # noqa: ASYNC110 - another process records
                await asyncio.sleep(0.1)
        return time.monotonic()


@asynccontextmanager
async def running(
    store: Path, broker: LocalBroker, directory: Path, needles: dict[str, list[str]], more: dict[str, str]
) -> AsyncIterator[Run]:
    """Run ``oms-webhooks all`` with a store."""
    values = {
        "kafka_bootstrap_servers": broker.start(),
        "kafka_topic_prefix": f"starving{secrets.token_hex(3)}.",
        "kafka_partitions": str(PARTITIONS),
        "kafka_replication_factor": "1",
        "kafka_session_timeout_ms": "10000",
        "kafka_fetch_max_wait_ms": "30",
        "clickhouse_path": str(store),
        "encryption_key": Vault.new_key(),
        "api_keys": KEY,
        "log_format": "console",
        "retention_days": "10000",
    } | more
    settings = Settings(_env_file=None, **values)  # type: ignore[arg-type]
    with open_broker(settings).admin() as admin:
        admin.create_missing(settings.topics.specs())
    process = RoleProcess("all", {f"OMS_WEBHOOKS_{name.upper()}": value for name, value in values.items()}, directory)
    made = list(slices(6_000))
    publisher = Publisher(settings, made)
    try:
        process.start()
        await process.until_ready()
        a_slice = len(made[0].attempts.splitlines())
        yield Run(process, publisher, needles, a_slice)
        await process.terminate(60)
    finally:
        publisher.close()
        process.clean_up()
        broker.stop()


def p(values: Sequence[float], share: float) -> str:
    ordered = sorted(values)
    return f"{ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000:,.0f}" if ordered else "-"


def show(phases: Sequence[Phase], rate: float) -> None:
    grid = Grid(
        "searchers",
        "recorded/s",
        "behind at the end",
        "recorded/s until drained",
        "CPU cores",
        title=f"{rate:,.0f} attempts a second",
    )
    rates: defaultdict[int, list[float]] = defaultdict(list)
    for one in phases:
        seconds = one.end.at - one.begin.at
        recorded = (one.end.recorded - one.begin.recorded) / seconds
        rates[one.searchers].append(recorded)
        whole = (one.end.published - one.begin.published) / (one.drained_at - one.begin.at)
        grid.add_row(
            str(one.searchers),
            f"{recorded:,.0f}",
            f"{one.end.behind / rate:.1f} s",
            f"{whole:,.0f}",
            f"{(one.end.cpu - one.begin.cpu) / seconds:.2f}",
        )
    out.print(grid)
    means = {searchers: statistics.fmean(values) for searchers, values in rates.items()}
    for searchers, mean in means.items():
        if searchers:
            out.print(f"{searchers} searchers: {mean / means[0]:.0%} of the rate without any")
    grid = Grid("search", "searchers", "count", "p50 ms", "p95 ms", "most ms", title="Searches")
    for searchers in sorted({one.searchers for one in phases} - {0}):
        merged: defaultdict[str, list[float]] = defaultdict(list)
        statuses: Counter[Any] = Counter()
        for one in phases:
            if one.searchers == searchers:
                statuses += one.searches.statuses
                for kind, values in one.searches.seconds.items():
                    merged[kind] += values
                    merged["all"] += values
        for kind, values in merged.items():
            grid.add_row(kind, str(searchers), str(len(values)), p(values, 0.5), p(values, 0.95), p(values, 1.0))
        out.print({key: count for key, count in statuses.items() if key[1] != 200} or "every answer was 200")
    out.print(grid)


async def main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="oms-webhooks-starving-") as temporary:
        directory = Path(temporary)
        kept = options.path or directory / "kept"
        needles = await make_history(kept, options.attempts)
        await asyncio.to_thread(shutil.copytree, kept, directory / "store", symlinks=True)
        broker: LocalBroker = TansuBroker() if options.kafka == "embedded" else ApacheKafkaBroker(data_dir=directory / "kafka")
        phases = []
        async with running(
            directory / "store", broker, directory, needles, dict(one.split("=", 1) for one in options.set)
        ) as run:
            await run.phase(options.rate, 5.0, 1)  # warm-up
            for _ in range(options.rounds):
                phases += [await run.phase(options.rate, options.seconds, searchers) for searchers in (0, *options.searchers)]
        show(phases, options.rate)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=300_000, help="of the history")
    parser.add_argument("--path", type=Path, help="where the history is kept; default: a temporary directory")
    parser.add_argument("--rate", type=float, default=2_000, help="attempts a second that are published")
    parser.add_argument("--seconds", type=float, default=15, help="of each phase")
    parser.add_argument("--rounds", type=int, default=2, help="how often the phases take turns")
    parser.add_argument("--searchers", type=int, nargs="*", default=[8])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the process")
    parser.add_argument("--kafka", choices=("embedded", "apache"), default="embedded")
    uvloop.run(main(parser.parse_args()))
