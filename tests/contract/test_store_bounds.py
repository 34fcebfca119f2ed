"""A search for a common word reads no more rows as the history grows (facets, histogram, slowest first), and says what it counted.

The tests take seconds: each builds a history of its own and lets it grow.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from pipeline.core.search import AttemptQuery, parse_query
from pipeline.store.rows import RowPosition, attempt_row
from pipeline.store.search import aggregates, counting, find, time_windows
from pipeline.store.search.queries import AttemptPage, Search
from pipeline.store.writer import Table
from tests.contract.store_case import Store
from tests.contract.store_records import START, attempt, event_rows, meta

pytestmark = pytest.mark.slow

BATCH = 1_000
COMMON = ("q[request_body_cont]", "shipment")
SLOWEST = ("q[s]", "duration_ms desc")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set bounds that a test's history exceeds."""
    monkeypatch.setattr(counting, "MAX_COUNTED", 300)
    monkeypatch.setattr(aggregates, "MAX_COUNTED_BY_BODY", 300)
    monkeypatch.setattr(find, "SORTED", 300)
    monkeypatch.setattr(aggregates, "EXACT_ROWS", 20_000)
    monkeypatch.setattr(time_windows, "_FIRST_ROWS", 300)


async def fill(store: Store) -> None:
    """Add some minutes of attempts; the slowest are the oldest."""
    received = [START + timedelta(seconds=number, milliseconds=50) for number in range(BATCH)]
    attempts = [
        attempt_row(
            RowPosition(0, number), attempt(number, event=meta(number, received_at=at), duration_ms=float(BATCH - number))
        )
        for number, at in enumerate(received)
    ]
    await store.writer.append(Table.ATTEMPTS, 0, attempts)
    await store.writer.append(Table.EVENTS, 0, event_rows(range(BATCH), text="the shipment is on its way"))


async def grow(store: Store, first: int, last: int) -> None:
    """Add the same minutes in earlier hours, with other ids."""
    hours = f"ARRAY JOIN range({first}, {last}) AS n"
    events = (
        "concat(event_id, '_', toString(n)) AS event_id, received_at - toIntervalHour(n) AS received_at, 1 AS kafka_partition"
    )
    await store.command(
        f"INSERT INTO events SELECT * REPLACE({events}) FROM (SELECT * FROM events WHERE kafka_partition = 0) {hours}"
    )
    attempts = (
        "concat(event_id, '_', toString(n)) AS event_id, created_at - toIntervalHour(n) AS created_at, id + n * 1000000000 AS id, "
        "event_received_at - toIntervalHour(n) AS event_received_at, 1 AS kafka_partition, duration_ms + 10000 * n AS duration_ms"
    )
    await store.command(
        f"INSERT INTO attempts SELECT * REPLACE({attempts}) FROM (SELECT * FROM attempts WHERE kafka_partition = 0) {hours}"
    )


async def rows_read(store: Store, ask: Callable[[Search, AttemptQuery], Any], *pairs: tuple[str, str]) -> int:
    """Return the engine's own count of all queries."""
    read = "SELECT value FROM system.events WHERE event = 'SelectedRows'"
    [(before,)] = await store.rows(read)
    await ask(store.search, parse_query(pairs))
    [(after,)] = await store.rows(read)
    return int(after) - int(before)


BOUNDED: dict[str, tuple[Callable[[Search, AttemptQuery], Any], list[tuple[str, str]]]] = {
    "facets of a common word": (Search.facets, [COMMON]),
    "histogram of a common word": (Search.histogram, [COMMON]),
    "slowest of a common word": (Search.attempts, [COMMON, SLOWEST]),
    "slowest of a common word, a page of them": (Search.attempts, [COMMON, SLOWEST, ("page", "3")]),
    "facets of a common answer": (Search.facets, [("q[response_body_cont]", "Grüße")]),
    "facets of a common code": (Search.facets, [("q[http_status_code_eq]", "204")]),
    "histogram of a common code": (Search.histogram, [("q[http_status_code_eq]", "204")]),
}
"""Questions whose answers read a bounded number of rows."""


@pytest.mark.parametrize("store_kind", ["chdb"], indirect=True)
async def test_the_rows_read_do_not_grow_with_the_history(store: Store, small: None) -> None:
    await fill(store)
    await grow(store, 1, 40)
    before = {name: await rows_read(store, ask, *pairs) for name, (ask, pairs) in BOUNDED.items()}
    await grow(store, 40, 160)
    after = {name: await rows_read(store, ask, *pairs) for name, (ask, pairs) in BOUNDED.items()}
    assert [row[0] for row in await store.rows("SELECT count() FROM attempts")] == [160_000]
    grown = {name: f"{before[name]:,} rows of 40,000 attempts, {after[name]:,} of 160,000" for name in BOUNDED}
    assert not {name: said for name, said in grown.items() if after[name] > before[name] + 20_000}


async def test_the_counted_part_is_reported(store: Store, small: None) -> None:
    await fill(store)
    newest = START + timedelta(seconds=BATCH - 300, milliseconds=123)

    async def page(*pairs: tuple[str, str]) -> AttemptPage:
        return await store.search.attempts(parse_query([COMMON, SLOWEST, *pairs]))

    facets = await store.search.facets(parse_query([COMMON]))
    assert (facets.total, facets.since) == (300, newest)
    histogram = await store.search.histogram(parse_query([COMMON]))
    assert (sum(bar.attempts for bar in histogram.bars), histogram.since) == (300, newest)
    assert histogram.bars[0].begins_at <= newest < histogram.bars[0].begins_at + timedelta(seconds=histogram.seconds)

    first = await page()
    assert (first.total_count, first.is_exact, first.sorted_since, first.next_cursor) == (300, False, newest, None)
    assert [row.duration_ms for row in first.items[:2]] == [300, 299], "the slowest of the newest"
    assert [row.duration_ms for row in (await page(("page", "12"))).items][-1] == 1
    assert (await page(("page", "13"))).items == ()


async def test_rare_matches_are_counted_and_sorted_in_full(store: Store, small: None) -> None:
    await fill(store)
    rare = ("q[request_body_cont]", "R00000001")
    found = await store.search.attempts(parse_query([rare, SLOWEST]))
    assert (found.total_count, found.is_exact, found.sorted_since) == (10, True, None)
    assert [row.duration_ms for row in found.items] == [BATCH - number for number in range(10, 20)]
    facets = await store.search.facets(parse_query([rare]))
    assert (facets.total, facets.since) == (10, None)
    histogram = await store.search.histogram(parse_query([rare]))
    assert (sum(bar.attempts for bar in histogram.bars), histogram.since) == (10, None)
    nothing = await store.search.attempts(parse_query([("q[request_body_cont]", "nowhere-at-all"), SLOWEST]))
    assert (nothing.items, nothing.total_count, nothing.is_exact) == ((), 0, True)


async def test_searches_without_text_are_counted_in_full(store: Store, small: None) -> None:
    """Even if the newest would be far fewer: indexes leave few rows, or hourly figures give the count."""
    await fill(store)
    code = await store.search.facets(parse_query([("q[http_status_code_eq]", "204")]))
    assert (code.total, code.since) == (BATCH, None)
    await grow(store, 1, 40)
    assert ((await store.search.facets(parse_query([]))).total, code.since) == (40 * BATCH, None)
    order = await store.search.facets(parse_query([("q[event_id_eq]", "evt_7_39")]))
    assert (order.total, order.since) == (1, None)
    code = await store.search.facets(parse_query([("q[http_status_code_eq]", "204")]))
    assert (code.total, code.since is None) == (300, False)
