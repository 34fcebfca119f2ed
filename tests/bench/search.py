"""Body searches in a year of attempts: our layout, one with the body in each attempt, and PostgreSQL with ILIKE and pg_trgm.

    python tests/bench/search.py --attempts 100000
    python tests/bench/search.py --attempts 10000000 --path var/bench --without-trgm

Prints milliseconds (median and p95, warm and cold caches), sizes, build times and insert rates; asserts nothing. With ``--path`` the
store is kept and reused; missing parts are created. PostgreSQL is Debian's; it is left out if not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from pipeline.core.search import parse_query
from pipeline.ops.settings import Settings
from pipeline.store.connection import Client, Connections
from pipeline.store.errors import StoreBudgetError
from pipeline.store.migrate import migrate
from pipeline.store.rows import COLUMNS, Table
from pipeline.store.search.queries import Search
from pipeline.store.writer import Writer
from tests.bench.search_data import KINDS, Batch, Needles, batches
from tests.bench.search_postgres import POSTGRES_COLUMNS, Postgres, binaries

RANGES = (1, 30, 365)
COMMON, NOWHERE = "shipment", "no-such-needle-zq"
SHARED = tuple(COLUMNS[Table.ATTEMPTS])
out = Console(width=150)


@dataclass
class Load:
    """The cost of loading."""

    attempts: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    found: int = 0
    """Attempts that were already in the store: those are not created again."""

    def spent(self, what: str, seconds: float) -> None:
        self.seconds[what] = self.seconds.get(what, 0.0) + seconds


async def timed(load: Load, what: str, work: Awaitable[object]) -> None:
    started = time.perf_counter()
    await work
    load.spent(what, time.perf_counter() - started)


def made_beside(attempts: int, size: int, *, is_escaped: bool) -> Iterator[Batch]:
    """Generate the same batches in another process: generating takes longer than writing."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    maker = context.Process(target=_make, args=(there, attempts, size, is_escaped), daemon=True)
    maker.start()
    there.close()
    with here, suppress(EOFError):
        while True:
            yield here.recv()
    maker.join()
    if maker.exitcode:
        raise SystemExit(f"The process that makes attempts ended with {maker.exitcode}; see above.")


def _make(there: Connection, attempts: int, size: int, is_escaped: bool) -> None:
    with there:
        for batch in batches(attempts, size, is_escaped=is_escaped):
            there.send(batch)


async def fill(connections: Connections, made: Iterator[Batch], load: Load) -> None:
    writer = Writer(connections)
    for batch in made:
        if load.attempts >= load.found:
            await timed(load, "attempts", writer.append(Table.ATTEMPTS, 0, batch.attempts))
            await timed(load, "events", writer.append(Table.EVENTS, 0, batch.events))
        load.attempts += len(batch.attempts)
        if load.attempts % 500_000 < len(batch.attempts):
            out.print(f"{load.attempts:,} attempts", style="dim")


async def command(connections: Connections, statement: str) -> None:
    await connections.write(lambda client: client.command(statement))


async def select(connections: Connections, query: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
    def ask(client: Client) -> Sequence[Sequence[Any]]:
        return client.query(query, parameters=values).result_rows

    return await connections.read(ask)


async def end_of(connections: Connections) -> datetime:
    """Return the time just after the newest attempt: ranges are counted back from there."""
    newest: datetime
    [[newest]] = await select(connections, "SELECT max(created_at) FROM attempts", {})
    return newest + timedelta(milliseconds=1)


async def needles_in(connections: Connections, chance: random.Random) -> Needles:
    """Return texts of some 20,000 bodies of the store."""
    query = (
        "SELECT received_at, request_body FROM events WHERE cityHash64(event_id) % "
        "(SELECT greatest(1, intDiv(count(), 20000)) FROM events) = 0 ORDER BY received_at"
    )
    needles = Needles(chance)
    for received_at, body in await select(connections, query, {}):
        needles.look(body, received_at)
    return needles


async def make_wide(connections: Connections) -> None:
    """Create the other layout: the body and its index in each attempt. ClickHouse fills it from the store, week by week."""
    for statement in (
        "CREATE TABLE IF NOT EXISTS attempts_with_bodies AS attempts",
        "ALTER TABLE attempts_with_bodies ADD COLUMN IF NOT EXISTS request_body String CODEC(ZSTD(3))",
        "ALTER TABLE attempts_with_bodies ADD INDEX IF NOT EXISTS ngrams lowerUTF8(request_body) TYPE text(tokenizer = ngrams(3))",
    ):
        await command(connections, statement)
    names = ", ".join(SHARED)
    weeks = (
        "SELECT DISTINCT toMonday(event_received_at) AS week FROM attempts WHERE week > "
        "(SELECT max(toMonday(event_received_at)) FROM attempts_with_bodies) ORDER BY week"
    )
    for [week] in await select(connections, weeks, {}):
        within = f"toMonday({{}}) = '{week:%Y-%m-%d}'"
        await command(
            connections,
            f"INSERT INTO attempts_with_bodies ({names}, request_body) SELECT {names}, body FROM attempts ANY LEFT JOIN "
            f"(SELECT event_id, request_body AS body FROM events WHERE {within.format('received_at')}) AS bodies USING event_id "
            f"WHERE {within.format('event_received_at')}",
        )
        out.print(f"the body in each attempt: the week of {week}", style="dim")


class Ours:
    """The product's own search including the count, like the API."""

    def __init__(self, connections: Connections, end: datetime) -> None:
        self._search = Search(connections)
        self._end = end

    async def __call__(self, needle: str, days: int) -> int:
        since = (self._end - timedelta(days=days)).isoformat()
        page = await self._search.attempts(parse_query([("q[request_body_cont]", needle), ("q[created_at_gteq]", since)]))
        return len(page.items)


class Wide:
    """The layout with bodies in attempts, searched in the same windows."""

    def __init__(self, connections: Connections, attempts: int, end: datetime) -> None:
        self._connections = connections
        self._attempts = attempts
        self._end = end

    async def __call__(self, needle: str, days: int) -> int:
        pattern = "%" + needle.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        width, last, left, found = max(4000 / self._attempts * 365, 0.04), 0.0, float(days), 0
        columns = ", ".join(name for name in SHARED if name not in ("request_headers", "response_headers", "response_body"))
        while left > 0 and found < 25:
            width = width if left > 2 * width else left
            first, end = self._end - timedelta(days=last + width), self._end - timedelta(days=last)
            query = (
                f"SELECT {columns} FROM attempts_with_bodies WHERE created_at >= {{a:DateTime64(3, 'UTC')}} AND created_at < "
                "{b:DateTime64(3, 'UTC')} AND lowerUTF8(request_body) LIKE lowerUTF8({p:String}) "
                f"ORDER BY created_at DESC, id DESC LIMIT {25 - found}"
            )
            rows = await select(self._connections, query, {"a": first, "b": end, "p": pattern})
            found, last, left, width = found + len(rows), last + width, left - width, width * 8
        return found


async def drop_caches(connections: Connections) -> None:
    for cache in (
        "MARK CACHE",
        "UNCOMPRESSED CACHE",
        "INDEX MARK CACHE",
        "INDEX UNCOMPRESSED CACHE",
        "QUERY CONDITION CACHE",
        "TEXT INDEX CACHES",
    ):
        with suppress(Exception):
            await command(connections, f"SYSTEM DROP {cache}")
    with suppress(OSError):
        await asyncio.to_thread(Path("/proc/sys/vm/drop_caches").write_text, "3")


Wanted = dict[tuple[str, int], list[str]]
"""Needles by kind and range in days."""
Timings = dict[tuple[str, int], tuple[list[float], list[float]]]
"""Warm and cold milliseconds by kind and range in days."""


async def measure(search: Callable[[str, int], Awaitable[int]], connections: Connections, wanted: Wanted, cold: int) -> Timings:
    timings: Timings = {key: ([], []) for key in wanted}
    # Warm first: dropping the operating system's cache makes everything after it cold.
    for is_warm in (True, False):
        for (kind, days), needles in wanted.items():
            for needle in [*needles, *needles] if is_warm else needles[:cold]:
                if not is_warm:
                    await drop_caches(connections)
                started = time.perf_counter()
                try:
                    await search(needle, days)
                except StoreBudgetError:
                    out.print(f"over its budget: {kind}, {days} days", style="red")
                timings[kind, days][0 if is_warm else 1].append((time.perf_counter() - started) * 1000)
    return timings


def p95(values: list[float]) -> float:
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


def shown(title: str, timings: Timings) -> None:
    grid = Grid("needle", *(f"{days} d: {what}" for days in RANGES for what in ("median", "p95", "cold")), title=f"{title} (ms)")
    for kind in dict.fromkeys(kind for kind, _ in timings):
        cells = []
        for days in RANGES:
            warm, cold = timings.get((kind, days), ([], []))
            cells += (
                [f"{statistics.median(warm):.1f}", f"{p95(warm):.1f}", f"{max(cold):.1f}" if cold else "-"] if warm else ["-"] * 3
            )
        grid.add_row(kind, *cells)
    out.print(grid)


async def show_sizes(connections: Connections, load: Load) -> None:
    query = (
        "SELECT table, sum(rows), sum(bytes_on_disk), sum(secondary_indices_compressed_bytes), count() FROM system.parts "
        "WHERE active AND database = currentDatabase() GROUP BY table ORDER BY table"
    )
    grid = Grid("table", "rows", "MB on disk", "of it indexes", "parts", "rows/s inserted", title="ClickHouse")
    names = {"attempts": "attempts", "events": "events", "attempts_with_bodies": "attempts with bodies"}
    for table, rows, size, index, parts in await select(connections, query, {}):
        seconds = load.seconds.get(names.get(table, ""), 0) if not load.found else 0
        grid.add_row(
            table,
            f"{rows:,}",
            f"{size / 1e6:.1f}",
            f"{index / 1e6:.1f}",
            str(parts),
            f"{rows / seconds:,.0f}" if seconds else "-",
        )
    out.print(grid)


def beside(server: Postgres, wanted: Wanted, end: datetime, at_most: float, samples: int) -> None:
    """Search like a Rails application: the page, and the count for its paginator."""
    pages: Timings = {}
    both: Timings = {}
    for (kind, days), needles in wanted.items():
        took = [server.search(needle, end - timedelta(days=days), at_most) for needle in needles[:samples]]
        pages[kind, days] = ([page * 1000 for page, _ in took], [])
        both[kind, days] = ([(page + count) * 1000 for page, count in took], [])
    shown(f"the page alone; {at_most:g} s at most", pages)
    shown(f"the page and its count; {at_most:g} s at most for each", both)


async def copied(connections: Connections, server: Postgres, end: datetime, days: int) -> list[Sequence[Any]]:
    """Copy the newest days of the store, and print the speed; returns some of the rows for later."""
    columns = ", ".join(name for name in POSTGRES_COLUMNS if name != "request_body")
    query = (
        f"SELECT {columns}, body FROM attempts ANY LEFT JOIN (SELECT event_id, request_body AS body FROM events "
        "WHERE received_at >= {a:DateTime64(3, 'UTC')} - INTERVAL 2 DAY AND received_at < {b:DateTime64(3, 'UTC')}) AS bodies USING event_id "
        "WHERE created_at >= {a:DateTime64(3, 'UTC')} AND created_at < {b:DateTime64(3, 'UTC')}"
    )
    seconds, count, kept = 0.0, 0, list[Sequence[Any]]()
    [[stored]] = await select(connections, "SELECT count() FROM attempts", {})
    step = min(max(20_000 * 365 // stored, 1), days)
    for day in range(days, 0, -step):
        span = {"a": end - timedelta(days=day), "b": end - timedelta(days=max(day - step, 0))}
        rows = await select(connections, query, span)
        kept, rows = [*kept, *rows[:100]], rows[100:]
        seconds += await asyncio.to_thread(server.copy, rows)
        count += len(rows)
    server.sql("VACUUM ANALYZE attempts")
    out.print(f"PostgreSQL: {count:,} rows, {server.size() / 1e6:.1f} MB, {count / seconds:,.0f} rows/s by COPY")
    return kept


async def with_postgres(
    connections: Connections, programs: Path, wanted: Wanted, end: datetime, arguments: argparse.Namespace
) -> None:
    """Measure PostgreSQL with the newest days of the same attempts: ILIKE; then the pg_trgm index, and inserts with it."""
    with Postgres(programs) as server:
        kept = await copied(connections, server, end, arguments.postgres_days)
        out.rule("PostgreSQL, ILIKE")
        await asyncio.to_thread(beside, server, wanted, end, arguments.postgres_seconds, 1)
        if arguments.without_trgm:
            return
        out.rule("PostgreSQL, pg_trgm GIN")
        took = server.seconds("CREATE INDEX body_trgm ON attempts USING gin (request_body gin_trgm_ops)")
        out.print(f"pg_trgm GIN: built in {took:.1f} s, {server.size() / 1e6:.1f} MB in all")
        copied_rows, inserted_rows = kept[::2], kept[1::2]
        rates = len(copied_rows) / server.copy(copied_rows), len(inserted_rows) / server.insert(inserted_rows)
        out.print(f"into the index: {rates[0]:,.0f} rows/s by COPY, {rates[1]:,.0f} rows/s by an INSERT each")
        await asyncio.to_thread(beside, server, wanted, end, arguments.postgres_seconds, 3)


async def main(arguments: argparse.Namespace) -> None:
    chance = random.Random(5)
    load = Load()
    with tempfile.TemporaryDirectory(prefix="oms-webhooks-bench-") as temporary:
        path = arguments.path or Path(temporary)
        connections = Connections(Settings(clickhouse_path=path))
        await migrate(connections)
        [[load.found]] = await select(connections, "SELECT count() FROM attempts", {})
        if load.found < 0.99 * arguments.attempts:  # a fill that was interrupted and resumed has slightly fewer
            await fill(connections, made_beside(arguments.attempts, arguments.batch, is_escaped=arguments.escapes), load)
        if arguments.layouts:
            await timed(load, "attempts with bodies", make_wide(connections))
        [[events, body_bytes]] = await select(connections, "SELECT count(), avg(length(request_body)) FROM events", {})
        out.print(f"{max(load.found, load.attempts):,} attempts of {events:,} events, mean body {body_bytes:,.0f} bytes")
        await show_sizes(connections, load)
        if arguments.optimize:
            for table in ("attempts", "events", *(["attempts_with_bodies"] if arguments.layouts else [])):
                await timed(load, "merge", command(connections, f"OPTIMIZE TABLE {table} FINAL"))
        end = await end_of(connections)
        needles = await needles_in(connections, chance)
        wanted: Wanted = {
            (kind, days): needles.of(kind, end - timedelta(days=days), arguments.samples) for kind in KINDS for days in RANGES
        }
        wanted |= {(COMMON, days): [COMMON] * arguments.samples for days in RANGES}
        wanted |= {("no hit", days): [NOWHERE] * arguments.samples for days in RANGES}
        wanted = {key: found for key, found in wanted.items() if found}
        shown("ours: the body once an event", await measure(Ours(connections, end), connections, wanted, arguments.cold))
        if arguments.layouts:
            wide = Wide(connections, max(load.attempts, load.found), end)
            shown("the body in each attempt", await measure(wide, connections, wanted, arguments.cold))
        programs = binaries()
        if programs is not None and arguments.postgres_days:
            await with_postgres(connections, programs, wanted, end, arguments)
        else:
            out.print("PostgreSQL is not there, or not wanted.")
        await connections.close()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=100_000)
    parser.add_argument("--path", type=Path, help="where the store is kept; default: a temporary directory")
    parser.add_argument("--samples", type=int, default=7, help="needles of each kind and range; each is looked for twice, warm")
    parser.add_argument("--cold", type=int, default=2, help="how many of them with cold caches")
    parser.add_argument("--batch", type=int, default=10_000, help="attempts a batch")
    parser.add_argument("--escapes", action="store_true", help="of three bodies one as Python's encoder writes it, one as PHP's")
    parser.add_argument("--layouts", action="store_true", help="measure the body in each attempt too")
    parser.add_argument("--optimize", action="store_true", help="merge all parts first")
    parser.add_argument(
        "--postgres-days", type=int, default=365, help="how many of the newest days PostgreSQL gets; 0: without PostgreSQL"
    )
    parser.add_argument(
        "--without-trgm", action="store_true", help="ILIKE only: pg_trgm's index takes hours for 10 million bodies"
    )
    parser.add_argument("--postgres-seconds", type=float, default=60, help="the longest that a search there may take")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(parsed()))
