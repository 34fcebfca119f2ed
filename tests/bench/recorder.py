"""The recorder's capacity: attempts and dispatches from a real Kafka into ClickHouse, each once, the text index included.

    python tests/bench/recorder.py                                # a backlog, then 10,000 attempts a second for a minute
    python tests/bench/recorder.py --attempts 400000 --seconds 0  # the backlog only
    python tests/bench/recorder.py --rate 15000 --seconds 120 --clickhouse http

Real Apache Kafka (Java 17 and Maven), four partitions per topic, default settings, the recorder in its own process. Records are as four fan-outs
write them, each event with a body of 1 to 6 KB and four attempts. ClickHouse runs in the recorder's process, or with
``--clickhouse http`` in another. Broker, publisher and recorder share the machine, so the true limit is higher than the printed one.
CPU time hardly depends on how busy the machine is; rates and delays do. Every row is counted; no figure is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import uvloop
from kafka import KafkaProducer
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, not as a module

from pipeline.devtools.local_broker import ApacheKafkaBroker
from pipeline.ops.settings import Settings
from pipeline.store.connection import Connections
from tests.bench.recorder_load import EVENTS_A_RECORD, FAN_OUT, Slice, slices
from tests.bench.sampling import cpu_seconds, pid_of, scraped
from tests.bench.stage import Stage, staged
from tests.faults.receivers import Behaviour

ATTEMPTS_A_SLICE = EVENTS_A_RECORD * FAN_OUT
MAX_EVENTS_AT_HAND = 20_000
"""Longer runs send these again: each is a new row, whose words are in the index of an older part, but not of its own."""
FLAT_SECONDS = 5.0
"""A recorder that keeps up never lags by more than this: it writes batches of a second."""
_RECORDED = 'oms_webhooks_recorded_rows_total{table="attempts"}'
_SEARCHABLE = "oms_webhooks_attempt_to_searchable_seconds"
_TICK_S = 0.01
MAX_SECONDS = 3600.0


class Moment(NamedTuple):
    """Attempts published and recorded so far, the recorder's CPU seconds, and its metrics."""

    at: float
    published: int
    recorded: int
    cpu: float
    metrics: dict[str, float]


@dataclass
class Publisher:
    """Writes slices to the partitions in turn, and counts their attempts."""

    settings: Settings
    made: Sequence[Slice]
    published: int = 0

    def __post_init__(self) -> None:
        self._producer = KafkaProducer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers, linger_ms=10, batch_size=256 * 1024, compression_type="lz4"
        )
        self._endless = itertools.cycle(self.made)
        self._partitions = itertools.cycle(range(self.settings.kafka_partitions))

    def publish(self, count: int) -> None:
        """Pass slices to the Kafka client, which sends them in the background."""
        topics = self.settings.topics
        for each in itertools.islice(self._endless, count):
            partition = next(self._partitions)
            self._producer.send(topics.dispatches, value=each.bodies, headers=[each.header], partition=partition)
            self._producer.send(topics.attempts, value=each.attempts, partition=partition)
            self.published += ATTEMPTS_A_SLICE

    def flush(self) -> None:
        """Wait until Kafka has acknowledged everything."""
        self._producer.flush()

    def close(self) -> None:
        self._producer.close()


async def moment(stage: Stage, publisher: Publisher) -> Moment:
    """Return the recorder's current figures."""
    recorder = stage.roles["recorder"]
    recorder.check_alive()
    pid = pid_of(recorder)
    figures = await scraped(recorder.url)
    cpu = cpu_seconds(pid) if pid is not None else 0.0
    return Moment(time.monotonic(), publisher.published, int(figures.get(_RECORDED, 0)), cpu, figures)


async def drained(stage: Stage, publisher: Publisher) -> Moment:
    """Wait until everything published is recorded."""
    async with asyncio.timeout(MAX_SECONDS):
        while (now := await moment(stage, publisher)).recorded < now.published:  # noqa: ASYNC110 - another process records
            await asyncio.sleep(0.25)
    return now


async def backlog(stage: Stage, publisher: Publisher, attempts: int) -> Iterator[str]:
    """Publish, start the recorder, and wait until it is done."""
    for _ in range(0, attempts, 100 * ATTEMPTS_A_SLICE):
        await asyncio.to_thread(publisher.publish, 100)
        await asyncio.to_thread(publisher.flush)
    await stage.start("recorder")
    first = await moment(stage, publisher)
    before = by_threads(stage)
    last = await drained(stage, publisher)
    count, seconds, cpu = last.recorded - first.recorded, last.at - first.at, last.cpu - first.cpu
    return iter(
        (
            f"{count:,} attempts in {seconds:.1f} s: {count / seconds:,.0f} attempts, {count / FAN_OUT / seconds:,.0f} events, "
            f"{count * (1 + 1 / FAN_OUT) / seconds:,.0f} rows a second",
            f"CPU: {cpu / count * 1e6:.0f} ms for 1,000 attempts with their events; {cpu / seconds:.2f} cores",
            f"of it {shares(before, by_threads(stage))}",
        )
    )


async def steady(stage: Stage, publisher: Publisher, rate: float, seconds: float) -> Iterator[str]:
    """Publish at a rate, and check every second how far the recorder lags."""
    first = await moment(stage, publisher)
    moments = [first]
    sent = 0
    while (elapsed := time.monotonic() - first.at) < seconds:
        due = int(elapsed * rate / ATTEMPTS_A_SLICE) - sent
        await asyncio.to_thread(publisher.publish, due)
        sent += due
        if time.monotonic() - moments[-1].at >= 1.0:
            moments.append(await moment(stage, publisher))
        await asyncio.sleep(_TICK_S)
    end = await moment(stage, publisher)
    last = await drained(stage, publisher)
    made, wall, cpu = end.published - first.published, end.at - first.at, end.cpu - first.cpu
    behind = [(each.at - first.at, (each.published - each.recorded) / rate) for each in (*moments[1:], end)]
    half = [lag for at, lag in behind if at > seconds / 2]
    is_flat = max(half, default=0.0) < FLAT_SECONDS
    stride = max(1, len(behind) // 12)
    delays = quantiles(first.metrics, last.metrics)
    return iter(
        (
            f"{made / wall:,.0f} attempts a second ({rate:,.0f} wanted) for {wall:.0f} s, {cpu / wall:.2f} cores",
            "behind, in seconds of load: " + ", ".join(f"{lag:.1f} at {at:.0f} s" for at, lag in behind[::stride]),
            f"{'it KEPT UP' if is_flat else 'it FELL BEHIND'}: at most {max(half, default=0.0):.1f} s behind in the second half",
            f"from the attempt's record to searchable: half within {delays[0]:g} s, 95% within {delays[1]:g} s",
            f"CPU: {cpu / max(1, end.recorded - first.recorded) * 1e6:.0f} ms for 1,000 attempts with their events",
        )
    )


def quantiles(first: dict[str, float], last: dict[str, float]) -> tuple[float, float]:
    """Return the bucket bounds of the histogram's median and 95th percentile of new observations."""
    start = f'{_SEARCHABLE}_bucket{{le="'
    found = {
        float(name.removeprefix(start).rstrip('"}')): count - first.get(name, 0.0)
        for name, count in last.items()
        if name.startswith(start)
    }
    total = max(found.values(), default=0.0)
    at_half, at_most = (
        min((bound for bound, count in found.items() if count >= share * total), default=0.0) for share in (0.5, 0.95)
    )
    return at_half, at_most


def by_threads(stage: Stage) -> dict[str, float]:
    """Return the recorder's CPU seconds by the task of its threads."""
    pid = pid_of(stage.roles["recorder"])
    found: defaultdict[str, float] = defaultdict(float)
    for task in Path(f"/proc/{pid}/task").iterdir():
        name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(") ")
        ticks = sum(map(int, rest.split()[11:13])) / os.sysconf("SC_CLK_TCK")
        if int(task.name) == pid:
            found["event loop"] += ticks
        else:
            found["Kafka and others" if name.startswith(("oms-webhooks", "python")) else "ClickHouse and its driver"] += ticks
    return found


def shares(first: dict[str, float], last: dict[str, float]) -> str:
    """Return the shares of the time, largest first."""
    used = {part: seconds - first.get(part, 0.0) for part, seconds in last.items()}
    whole = max(sum(used.values()), 0.001)
    return ", ".join(f"{part} {used[part] / whole:.0%}" for part in sorted(used, key=lambda part: -used[part]))


async def counted(stage: Stage, directory: Path | None) -> list[str]:
    """Return the number of rows in ClickHouse after the recorder has ended, of distinct ids, and of distinct events."""
    update = {"clickhouse_path": directory} if directory else {}
    connections = Connections(stage.settings.model_copy(update=update))
    queries = {
        "attempts": "SELECT count(), uniqExact(id) FROM attempts",
        "events": "SELECT count(), uniqExact(kafka_partition, kafka_offset, event_id) FROM events",
        "attempt_figures": "SELECT sum(attempts + discarded + expired) AS made, made FROM attempt_figures",
    }
    try:
        found = {
            name: await connections.read(lambda client, query=query: client.query(query).result_rows[0])  # type: ignore[misc]
            for name, query in queries.items()
        }
    finally:
        await connections.close()
    return [f"{name}: {rows:,} rows, {ids:,} different" for name, (rows, ids) in found.items()]


@asynccontextmanager
async def played(
    directory: Path, broker: ApacheKafkaBroker, made: Sequence[Slice], embedded: bool
) -> AsyncIterator[tuple[Stage, Publisher]]:
    """Provide a stage with a recorder that has not started, and a publisher."""
    settings = {"clickhouse_path": str(directory / "clickhouse")} if embedded else {}
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(
            staged(directory / "stage", broker, "recorder", roles=("recorder",), behaviour=Behaviour(), **settings)
        )
        publisher = Publisher(stage.settings, made)
        stack.callback(publisher.close)
        yield stage, publisher


async def measured(options: argparse.Namespace, broker: ApacheKafkaBroker, directory: Path) -> list[tuple[str, str]]:
    """Return the lines of the table."""
    embedded = options.clickhouse == "embedded"
    wanted = max(options.attempts, int(options.rate * options.seconds)) // FAN_OUT
    print("making the load ...", file=sys.stderr)
    made = list(slices(min(wanted, MAX_EVENTS_AT_HAND) // EVENTS_A_RECORD * EVENTS_A_RECORD))
    lines: list[tuple[str, str]] = []
    async with played(directory, broker, made, embedded) as (stage, publisher):
        lines += [("backlog", line) for line in await backlog(stage, publisher, options.attempts)]
        if options.seconds:
            lines += [("steady", line) for line in await steady(stage, publisher, options.rate, options.seconds)]
        await stage.roles["recorder"].terminate(60)
        lines.append(("rows", f"published: {publisher.published:,} attempts of {publisher.published // FAN_OUT:,} events"))
        lines += [("rows", line) for line in await counted(stage, directory / "clickhouse" if embedded else None)]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=200_000, help="of the backlog")
    parser.add_argument("--rate", type=float, default=10_000, help="attempts a second of the steady load")
    parser.add_argument("--seconds", type=float, default=60, help="of the steady load; 0: none")
    parser.add_argument("--clickhouse", choices=("embedded", "http"), default="embedded")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        broker = ApacheKafkaBroker(data_dir=Path(temporary) / "kafka")
        try:
            broker.start()
            lines = uvloop.run(measured(options, broker, Path(temporary)))
        finally:
            broker.stop()
    table = Table(
        "", f"ClickHouse {options.clickhouse}", title=f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    for line in lines:
        table.add_row(*line)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
