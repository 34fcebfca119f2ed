"""How many queries a page of the dashboard takes: three, at most four. Each query costs some milliseconds, whatever it finds.

It takes seconds: it writes rows of twelve weeks, and then loads each page twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from pipeline.core.search import parse_query
from pipeline.store.connection import Client, Connections
from pipeline.store.reader import QueryBudget
from pipeline.store.reports.recent import Reports
from pipeline.store.reports.timeline import TimelineSubject
from pipeline.store.rows import RowPosition, attempt_id, attempt_row, event_row
from pipeline.store.search import time_windows
from pipeline.store.search.queries import Search
from pipeline.store.writer import Table
from tests.contract.store_case import Store
from tests.contract.store_records import START, attempt, body, dispatch, meta

MOST = 3
COUNT = 300
SEARCHES = {
    "all": [],
    "failed": [("q[state_eq]", "failed")],
    "of an endpoint": [("q[endpoint_id_eq]", "1")],
    "of a day": [("q[created_at_gteq]", "2026-03-02")],
    "by order": [("q[order_number_eq]", "R7")],
    "by event": [("q[event_id_eq]", "evt_7")],
    "with a code": [("q[http_status_code_eq]", "503")],
    "by URL": [("q[target_url_cont]", "example")],
    "nothing": [("q[order_number_eq]", "R-none")],
    "slowest first": [("q[s]", "duration_ms desc")],
}


@pytest.fixture
async def filled(embedded_store: Store) -> Store:
    """Provide events of half a year with an attempt each, in twelve of its weeks, since each week costs the same."""
    store = embedded_store
    events = [dispatch(n, event=meta(n, received_at=_at(n)), received_at=_at(n)) for n in range(COUNT)]
    rows = [attempt_row(RowPosition(0, n), attempt(n, event=one.event, created_at=_at(n))) for n, one in enumerate(events)]
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    bodies = [event_row(RowPosition(0, n), one, body(n, "needle" if n % 50 == 0 else "hay")) for n, one in enumerate(events)]
    await store.writer.append(Table.EVENTS, 0, bodies)
    return store


def _at(number: int) -> Any:
    return START + timedelta(days=15 * (number // 25), hours=number % 25)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count each query."""
    made: list[int] = []
    read = Connections.read

    async def counted(self: Connections, work: Callable[[Client], Any], place: int | None = None) -> Any:
        made.append(1)
        return await read(self, work, place)

    monkeypatch.setattr(Connections, "read", counted)
    return made


async def taken(looks: list[int], work: Awaitable[object]) -> int:
    """Return how many queries a call takes."""
    looks.clear()
    await work
    return len(looks)


async def test_a_page_takes_at_most_three_queries(filled: Store, looks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page that searches asks for its matches and their figures. The time range of the store is known from other pages."""
    for first_rows in (30, 4_000):  # many matches, and few
        monkeypatch.setattr(time_windows, "_FIRST_ROWS", first_rows)
        counts = await _looks_of_pages(filled, looks)
        rare = counts.pop("list, body")
        assert {name: count for name, count in counts.items() if count > MOST} == {}, first_rows
        assert rare == MOST + 1  # the newest quarter has too few matches


async def _looks_of_pages(filled: Store, looks: list[int]) -> dict[str, int]:
    # The machine may be busy: the limit for figures is normally a second.
    search, reports = Search(filled.connections, quick=QueryBudget(60.0)), Reports(filled.connections)
    await search.attempts(parse_query([]))
    counts = {}
    for name, pairs in SEARCHES.items():
        found = await taken(looks, search.attempts(parse_query([*pairs, ("per_page", "25")])))
        counts[f"list, {name}"] = found + await taken(looks, search.summary(parse_query(pairs), 60))
        counts[f"facets, {name}"] = await taken(looks, search.facets(parse_query(pairs)))
        counts[f"histogram, {name}"] = await taken(looks, search.histogram(parse_query(pairs)))
    needle = parse_query([("q[request_body_cont]", "needle"), ("per_page", "25")])
    page = await search.attempts(needle)
    counts["list, body"] = await taken(looks, search.attempts(needle)) + await taken(looks, search.request_bodies(page.items))
    counts["overview"] = (
        await taken(looks, reports.overview(_at(COUNT)))
        + await taken(looks, reports.endpoint_days(_at(COUNT)))
        + await taken(looks, reports.count_unrepaired_dead_letters())
    )
    counts["timeline"] = await taken(looks, search.record_of(TimelineSubject.ORDER, "R7"))
    counts["attempt"] = await taken(looks, search.attempt(attempt_id(0, 7)))
    until = _at(COUNT)
    counts["endpoint"] = await taken(looks, reports.endpoint_stats(1, until, buckets=24, width=timedelta(hours=1)))
    return counts
