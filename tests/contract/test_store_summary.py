"""The counts of a search page, on both engines: of all matches if hourly figures suffice, else of the newest."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from pipeline.core.search import parse_query
from pipeline.ops.settings import Settings
from pipeline.store.bound_values import BoundValues
from pipeline.store.clickhouse_cluster import storage_table
from pipeline.store.connection import Connections
from pipeline.store.migrate import bundled_migrations, migrate
from pipeline.store.pending_mutations import watch_pending_mutations
from pipeline.store.rows import RowPosition, attempt_row
from pipeline.store.search.counting import _EVER, _by_days
from pipeline.store.search.queries import QueryBudget, Search
from pipeline.store.search.summary import SearchSummary
from pipeline.store.search.time_windows import TimeWindow
from pipeline.store.writer import Table, Writer
from schemas.attempt import Attempt, AttemptState, Outcome
from tests.contract.store_case import Store
from tests.contract.store_records import START, attempt, meta

HOUR = timedelta(hours=1)
FAILED: dict[str, Any] = {"state": AttemptState.FAILED, "outcome": Outcome.RETRIED, "http_status_code": 503, "error": "no"}


async def fill(store: Store, made: list[Attempt]) -> None:
    # A batch of one week at a time, in the order of offsets.
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, at), one) for at, one in enumerate(made)])


async def summary(store: Store, *pairs: tuple[str, str]) -> SearchSummary:
    # A busy machine must not fail the test: use the whole budget of a search.
    return await Search(store.connections, quick=QueryBudget()).summary(
        parse_query([(f"q[{name}]", value) for name, value in pairs]), 60
    )


def spread(count: int, step: timedelta) -> list[Attempt]:
    """Add attempts for two endpoints and two event types; every third fails."""
    return [
        attempt(
            event=meta(number, event_name="order_completed" if number % 2 else "shipment_shipped"),
            created_at=START + number * step,
            endpoint_id=7 + number % 2,
            **(FAILED if number % 3 == 0 else {}),
        )
        for number in range(count)
    ]


async def test_hourly_figures_count_all_of_a_wide_search(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # More than are counted one by one, so hourly figures are used.
    monkeypatch.setattr("pipeline.store.search.counting.MAX_COUNTED", 10)
    await fill(store, spread(100, timedelta(minutes=50)))
    found = await summary(store)

    assert (found.facets.total, found.is_all) == (100, True)
    assert found.facets.states == {"succeeded": 66, "failed": 34}
    assert found.facets.events == {"order_completed": 50, "shipment_shipped": 50}
    assert found.facets.endpoints == {7: 50, 8: 50}
    assert sum(bar.attempts for bar in found.histogram.bars) == 100
    assert sum(bar.failures for bar in found.histogram.bars) == 34
    assert found.histogram.seconds == 3 * 3600

    failed = await summary(store, ("endpoint_id_eq", "7"), ("state_eq", "failed"))
    assert (failed.facets.states, failed.facets.endpoints, failed.is_all) == ({"failed": 17}, {7: 17}, True)
    begin = (START + 10 * HOUR).isoformat()
    part = await summary(
        store, ("created_at_gteq", begin), ("created_at_lteq", "2026-03-03T23:59:59.999Z"), ("state_not_eq", "failed")
    )
    wanted = [
        number
        for number in range(100)
        if START + 10 * HOUR <= START + number * timedelta(minutes=50) < datetime.fromisoformat("2026-03-04T00:00:00Z")
        and number % 3
    ]
    assert (part.facets.total, part.is_all) == (len(wanted), True)
    assert (await summary(store, ("created_at_gteq", "2030-01-01"))).facets.total == 0


async def test_matches_unknown_to_hourly_figures_are_counted_from_the_newest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.search.counting.MAX_COUNTED", 10)
    made = spread(100, timedelta(minutes=50))
    await fill(store, made)
    found = await summary(store, ("http_status_code_eq", "503"))
    newest = [one for one in made if one.http_status_code == 503][-10:]

    assert (found.facets.total, found.is_all) == (10, False)
    assert found.facets.endpoints == Counter(one.endpoint_id for one in newest)
    few = await summary(store, ("order_number_eq", "R000000003"))
    assert (few.facets.total, few.facets.states, few.is_all) == (1, {"failed": 1}, True)
    # Hourly figures cannot answer for a partial hour either.
    some = await summary(store, ("created_at_gteq", (START + timedelta(minutes=50 * 95 + 1)).isoformat()))
    assert (some.facets.total, some.is_all) == (4, True)


async def test_a_short_history_is_shown_by_minutes(store: Store) -> None:
    await fill(store, spread(30, timedelta(seconds=10)))
    found = await summary(store)
    assert (found.histogram.seconds, found.facets.total, found.is_all) == (60, 30, True)
    assert len(found.histogram.bars) == 20, "one or two bars would say nothing"
    assert found.histogram.bars[-1].begins_at <= START + timedelta(seconds=290)


async def test_a_long_history_is_counted_by_days_and_by_hours_at_its_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a second or two: rows of eighteen weeks are inserted."""
    monkeypatch.setattr("pipeline.store.search.counting.MAX_COUNTED", 10)
    made = spread(1_000, timedelta(hours=3))  # 125 days
    await fill(store, made)
    since, until = START + timedelta(days=20, hours=5), START + timedelta(days=101, hours=22)
    begin, end = since.isoformat(), (until - timedelta(milliseconds=1)).isoformat()
    days = START.replace(hour=0, minute=0) + timedelta(days=9)
    for pairs, wanted in (
        ([], made),
        ([("endpoint_id_eq", "7"), ("event_name_in", "order_completed")], []),
        (
            [("endpoint_id_eq", "8"), ("state_eq", "failed")],
            [one for one in made if one.endpoint_id == 8 and "failed" in one.state],
        ),
        ([("created_at_gteq", begin), ("created_at_lteq", end)], [one for one in made if since <= one.created_at < until]),
        ([("created_at_gteq", days.isoformat())], [one for one in made if one.created_at >= days]),
    ):
        found = await summary(store, *pairs)
        assert found.facets.endpoints == Counter(one.endpoint_id for one in wanted), pairs
        assert found.facets.states == Counter(str(one.state) for one in wanted)
        assert found.facets.events == Counter(one.event.event_name for one in wanted)
        bars = {bar.begins_at: (bar.attempts, bar.failures) for bar in found.histogram.bars if bar.attempts}
        assert sum(attempts for attempts, _ in bars.values()) == len(wanted)
        assert sum(failures for _, failures in bars.values()) == sum("failed" in one.state for one in wanted)
        for begins_at, (attempts, _) in bars.items():
            width = timedelta(seconds=found.histogram.seconds)
            assert attempts == sum(begins_at <= one.created_at < begins_at + width for one in wanted)


@pytest.mark.parametrize("condition", ["1", "endpoint_id = 7", "event_name IN ['order_completed']"])
async def test_whole_days_are_read_from_their_sums(store: Store, condition: str) -> None:
    await fill(store, spread(100, timedelta(minutes=50)))
    table = storage_table("attempts_hourly", store.settings.clickhouse_cluster)
    statement = _by_days(TimeWindow(-_EVER, _EVER), condition, BoundValues()).replace("FROM attempts_hourly", f"FROM {table}")
    for select in statement.split(" UNION ALL "):
        plan = await store.rows(f"EXPLAIN {select} SETTINGS optimize_time_filter_with_preimage = 0")
        assert "(days)" in "\n".join(line for (line,) in plan)


@pytest.mark.slow
async def test_the_days_of_an_upgraded_store_are_summed(store_settings: Settings) -> None:
    """It takes seconds: all migrations are carried out."""
    connections = Connections(store_settings)
    try:
        await migrate(connections, {name: sql for name, sql in bundled_migrations().items() if name < "0042"})
        store = Store(store_settings, connections, Writer(connections), Search(connections))
        await fill(store, spread(100, timedelta(minutes=50)))
        await migrate(connections)
        async with asyncio.timeout(60):
            await watch_pending_mutations(connections, lambda: asyncio.sleep(0.05))
        table = storage_table("attempts_hourly", store_settings.clickhouse_cluster)
        summed = "SELECT sum(rows) FROM system.projection_parts WHERE database = currentDatabase() AND table = '{}' AND active"
        [(before,)] = await store.rows(summed.format(table))
        assert before > 0
        await store.command(f"OPTIMIZE TABLE {table} FINAL")
        [(after,)] = await store.rows(summed.format(table))
        assert 0 < after <= before
    finally:
        await connections.close()


async def test_nothing_is_stored(store: Store) -> None:
    found = await summary(store)
    assert (found.facets.total, found.histogram.bars, found.is_all) == (0, (), True)
