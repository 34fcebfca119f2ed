"""How long the dashboard's pages take at the server over many attempts: ``python tests/bench/pages.py --attempts 10000000``.

The real application, and the real ClickHouse in this process, filled by itself; only Kafka is in memory. It prints figures and asserts
nothing: what a page may take is 300 ms, 95 of 100 times.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from pipeline.ops.logs import configure_logs
from pipeline.ops.settings import Settings
from pipeline.store.connection import Connections
from pipeline.store.migrate import migrate
from pipeline.store.reports import Reports
from tests.unit.web.dashboard.visitor import visiting
from tests.unit.web.service import Service, running_service

ENDPOINTS: Final = 200
PARTS: Final = 10
PAGES: Final = ("/webhooks", "/webhooks/live", "/webhooks/endpoints", "/webhooks/endpoints/1", "/webhooks/keys")
REPORTED: Final = ("endpoint_days", "endpoint_stats", "overview")

# A third of the events go to three endpoints; one attempt in 23 fails, one in 37 is a repeat.
_FILL: Final = """
INSERT INTO attempts (id, event_id, event_name, event_created_at, event_received_at, endpoint_id, target_url, attempt, trigger,
    state, outcome, created_at, duration_ms, http_status_code, error, kafka_partition, kafka_offset)
SELECT position, concat('evt_', toString(intDiv(position, 3))), ['order_completed', 'shipment_updated', 'shipment_shipped'][position % 3 + 1],
    made, made, position % {endpoints:UInt32} + 1, concat('https://hooks-', toString(position % {endpoints:UInt32}), '.example.com/'),
    if(is_repeat, 2, 1), if(is_repeat, 'repeat', 'event'), if(is_failed, 'failed', 'succeeded'), if(is_failed, 'repeated', 'delivered'),
    made, 20 + position % 500, if(is_failed, 503, 204), if(is_failed, 'The endpoint answered 503 (Service Unavailable).', ''), 0, position
FROM (SELECT number + {first:Int64} AS position, position % 23 = 0 AND position % 37 != 0 AS is_failed, position % 37 = 0 AS is_repeat,
    now64(3, 'UTC') - toIntervalMicrosecond(({attempts:Int64} - position) * {step:Int64}) AS made FROM numbers({count:Int64}))
"""


async def fill(connections: Connections, attempts: int, days: float) -> None:
    """Attempts at even distances over ``days``, the last one now."""
    await migrate(connections, 400)
    count, step = attempts // PARTS, int(days * 86_400_000_000 / attempts)
    for part in range(PARTS):
        parameters = {"endpoints": ENDPOINTS, "first": part * count, "attempts": attempts, "step": step, "count": count}
        await connections.write(lambda client, bound=parameters: client.command(_FILL, parameters=bound))  # type: ignore[misc]


async def measured(service: Service, samples: int) -> dict[str, list[float]]:
    """Seconds that each page took, one request after the other."""
    found: dict[str, list[float]] = {page: [] for page in PAGES}
    async with visiting(service) as visitor:
        # The clock of the service stands still for tests; here it goes.
        service.now[0] = datetime.now(UTC)
        await visitor.log_in()
        for page in PAGES:
            for number in range(samples + 1):
                service.now[0] = datetime.now(UTC)
                started = time.perf_counter()
                seen = await visitor.go(page)
                if number:  # the first request compiles the template
                    found[page].append(time.perf_counter() - started)
                assert (seen.status, seen.path) == (200, page)
                assert "no figures at the moment" not in seen.text
    return found


async def run(attempts: int, days: float, samples: int) -> None:
    """Fill, measure, print."""
    out = Console()
    with tempfile.TemporaryDirectory(prefix="oms-webhooks-pages-") as directory:
        connections = Connections(Settings(clickhouse_path=Path(directory)))
        started = time.perf_counter()
        await fill(connections, attempts, days)
        out.print(f"{attempts:,} attempts over {days:g} days, made in {time.perf_counter() - started:.0f} s")
        async with running_service(search_timeout_seconds=30.0) as service:
            for number in range(ENDPOINTS):
                await service.create(f"http://127.0.0.1/hooks-{number}", events=["order_completed"])
            reports = Reports(connections)
            for name in REPORTED:
                setattr(service.reports, name, getattr(reports, name))
            found = await measured(service, samples)
        await connections.close()
    table = Table("page", "median", "95 of 100", "longest")
    for page, seconds in found.items():
        at = statistics.quantiles(seconds, n=20, method="inclusive")
        table.add_row(page, *(f"{value * 1000:,.0f} ms" for value in (statistics.median(seconds), at[-1], max(seconds))))
    out.print(table)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--days", type=float, default=365.0)
    parser.add_argument("--samples", type=int, default=40)
    given = parser.parse_args()
    configure_logs("warning", "console")
    asyncio.run(run(given.attempts, given.days, given.samples))


if __name__ == "__main__":
    main()
