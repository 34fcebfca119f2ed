"""How long the server takes for each page of the dashboard, with a store of attempts.

    python tests/bench/pages.py --attempts 100000
    python tests/bench/pages.py --attempts 10000000 --path var/bench

Serves the real application on loopback with the real ClickHouse; Kafka is in memory. Prints milliseconds (median and p95) from the
request to the last byte, and the queries and size of each page, for the data of tests/bench/search.py; asserts nothing. With
``--path`` the store is kept and reused: one filled by tests/bench/search.py works too.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from rich.console import Console
from rich.table import Table as Grid

from pipeline.core.search import parse_query
from pipeline.ops.logs import configure_logs
from pipeline.ops.settings import Settings
from pipeline.store.connection import Connections
from pipeline.store.migrate import migrate
from pipeline.store.reports.recent import Reports
from pipeline.store.search.queries import Search
from pipeline.web.compression import gzipped
from tests.bench.search import Load, end_of, fill, needles_in, select
from tests.bench.search_data import ENDPOINTS, KINDS, START, batches
from tests.unit.web.dashboard.visitor import Visitor, visiting
from tests.unit.web.service import running_service

out = Console(width=130)
Paths = Mapping[str, Sequence[str]]


@asynccontextmanager
async def serving(connections: Connections) -> Any:
    """Serve the application with the store; yields a logged-in client."""
    async with running_service(search_timeout_seconds=30.0, search=Search(connections), reports=Reports(connections)) as service:
        for number in range(1, ENDPOINTS + 1):
            await service.create(f"http://127.0.0.1/{number}")
        # The store's attempts are of a year that ended then.
        service.now[0] = await end_of(connections)
        async with visiting(service) as visitor:
            assert (await visitor.log_in()).status == 200
            yield visitor


async def paths(connections: Connections, samples: int) -> Paths:
    """Return the pages to load: each kind for some orders, shipments, attempts and needles of the store."""
    chance = random.Random(9)
    query = (
        "SELECT id, order_number, arrayElement(shipment_numbers, 1), event_id FROM attempts "
        "WHERE order_number != '' AND notEmpty(shipment_numbers) ORDER BY cityHash64(id) LIMIT {n:UInt32}"
    )
    rows = await select(connections, query, {"n": samples})
    subscriptions = await select(
        connections,
        "SELECT subscription_id FROM attempts WHERE subscription_id IS NOT NULL AND subscription_id != '' "
        "GROUP BY subscription_id ORDER BY cityHash64(subscription_id) LIMIT {n:UInt32}",
        {"n": samples},
    )
    items = await select(
        connections,
        "SELECT DISTINCT stock_item_id, skus[1] FROM attempts WHERE stock_item_id IS NOT NULL AND notEmpty(skus) LIMIT {n:UInt32}",
        {"n": samples},
    )
    day = (await end_of(connections) - timedelta(days=1)).date().isoformat()
    needles = await needles_in(connections, chance)

    def search(**filters: object) -> str:
        return "/webhooks/attempts?" + urlencode({f"q[{name}]": str(value) for name, value in filters.items()})

    def each(make: Any) -> list[str]:
        return [make(row) for row in rows]

    def box(text: object) -> str:
        return f"/webhooks/go?{urlencode({'text': str(text)})}"

    endpoints = [chance.randrange(1, ENDPOINTS + 1) for _ in rows]
    return {
        "overview": ["/webhooks"] * samples,
        "live": ["/webhooks/live"] * samples,
        "endpoints": ["/webhooks/endpoints"] * samples,
        "an endpoint": [f"/webhooks/endpoints/{one * 2 - 1}" for one in endpoints],
        "attempts": ["/webhooks/attempts"] * samples,
        "failed": [search(state_eq="failed")] * samples,
        "of an endpoint": [search(endpoint_id_eq=one) for one in endpoints],
        "of a day": [search(created_at_gteq=day, created_at_lteq=day)] * samples,
        "with a code": [search(http_status_code_eq=503)] * samples,
        "by order": each(lambda row: search(order_number_eq=row[1])),
        "by shipment": each(lambda row: search(shipment_number_eq=row[2])),
        "by event id": each(lambda row: search(event_id_eq=row[3])),
        **{f"body: {kind}": [search(request_body_cont=text) for text in needles.of(kind, START, samples)] for kind in KINDS},
        "body: e-mail, older": [
            f"{search(request_body_cont=text)}&after={await older(connections, text)}"
            for text in needles.of("e-mail", START, samples)
        ],
        "body: a common word": [search(request_body_cont="shipment")] * samples,
        "body: nowhere": [search(request_body_cont="no-such-needle-zq")] * samples,
        "slowest first": [search(s="duration_ms desc")] * samples,
        "slowest of a day": [search(s="duration_ms desc", created_at_gteq=day)] * samples,
        "an attempt": each(lambda row: f"/webhooks/attempts/{row[0]}"),
        "an order": each(lambda row: f"/webhooks/orders/{quote(row[1])}"),
        "a shipment": each(lambda row: f"/webhooks/shipments/{quote(row[2])}"),
        "a subscription": [f"/webhooks/subscriptions/{quote(row[0])}" for row in subscriptions],
        "a stock item": [f"/webhooks/stock-items/{row[0]}" for row in items],
        "box: an order": each(lambda row: box(row[1].lower())),
        "box: digits": each(lambda row: box(row[1][1:])),
        "box: a stock item": [box(row[0]) for row in items],
        "box: a SKU": [box(row[1]) for row in items],
        "box: nowhere": [box("no-such-needle-zq")] * samples,
        "resend: preview of a day": [f"/webhooks/resends/new?{urlencode({'q[created_at_gteq]': day})}"] * samples,
        "resends": ["/webhooks/resends"] * samples,
        "dead letters": ["/webhooks/dead-letters"] * samples,
        "keys": ["/webhooks/keys"] * samples,
    }


async def older(connections: Connections, text: str) -> str:
    """Return the cursor after the newest page of a body search."""
    found = await Search(connections).attempts(parse_query([("q[request_body_cont]", text)]))
    return found.next_cursor or ""


@dataclass(frozen=True, slots=True)
class Measured:
    """A kind of page: milliseconds of each request, statuses, the largest page in bytes as sent, and ClickHouse queries per page."""

    name: str
    took: list[float]
    statuses: set[int]
    weight: int
    looks: float


class Looks:
    """Counts ClickHouse queries."""

    def __init__(self, connections: Connections) -> None:
        self.count = 0
        read = connections.read

        async def counted(work: Any, place: int | None = None) -> Any:
            self.count += 1
            return await read(work, place)

        connections.read = counted  # type: ignore[method-assign]


async def measure(visitor: Visitor, wanted: Paths, looks: Looks) -> Sequence[Measured]:
    """Load each page once to warm up, then all of them."""
    found = []
    for name, addresses in wanted.items():
        await visitor.go(addresses[0])
        took, statuses, weight, before = [], set(), 0, looks.count
        for address in addresses:
            started = time.perf_counter()
            seen = await visitor.go(address)
            took.append((time.perf_counter() - started) * 1000)
            statuses.add(seen.status)
            weight = max(weight, len(gzipped(seen.html.encode())))
        found.append(Measured(name, took, statuses, weight, (looks.count - before) / len(addresses)))
    return found


def shown(found: Sequence[Measured]) -> None:
    """Print it."""
    grid = Grid("page", "median ms", "p95 ms", "queries", "KB gzip'd", "status", title="Pages of the dashboard, at the server")
    for one in found:
        p95 = statistics.quantiles(one.took, n=20)[-1] if len(one.took) > 1 else one.took[0]
        times = f"{statistics.median(one.took):.0f}", f"{p95:.0f}"
        grid.add_row(one.name, *times, f"{one.looks:.1f}", f"{one.weight / 1000:.1f}", ", ".join(map(str, sorted(one.statuses))))
    out.print(grid)


async def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="oms-webhooks-bench-") as temporary:
        path = arguments.path or Path(temporary)
        is_new = not (path / "store").exists()
        connections = Connections(Settings(clickhouse_path=path))
        await migrate(connections)
        if is_new:
            await fill(connections, batches(arguments.attempts, arguments.batch), Load())
        [(stored,)] = await select(connections, "SELECT count() FROM attempts", {})
        out.print(f"{stored:,} attempts")
        async with serving(connections) as visitor:
            wanted = await paths(connections, arguments.samples)
            chosen = {name: found for name, found in wanted.items() if name.startswith(arguments.only)}
            shown(await measure(visitor, chosen, Looks(connections)))
        await connections.close()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=100_000)
    parser.add_argument("--path", type=Path, help="where the store is kept; default: a temporary directory")
    parser.add_argument("--samples", type=int, default=40, help="requests of each kind of page")
    parser.add_argument("--only", default="", help="the kinds of pages whose names begin so")
    parser.add_argument("--batch", type=int, default=10_000, help="attempts a batch")
    return parser.parse_args()


if __name__ == "__main__":
    configure_logs("warning", "console")
    asyncio.run(main(parsed()))
