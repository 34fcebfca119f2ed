"""An upgrade keeps the hourly figures exact: of older rows, of those inserted during it, and of deleted ones; each counted once.

Each test takes seconds: it creates a store of the previous release with the old migrations, and migrates it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from pipeline.ops.settings import Settings
from pipeline.store.backfill import Backfill
from pipeline.store.backfill_hourly import backfill_hourly
from pipeline.store.clickhouse_cluster import on_cluster, storage_table
from pipeline.store.connection import Connections
from pipeline.store.migrate import bundled_migrations, migrate
from pipeline.store.rows import Row, Table
from pipeline.store.search.queries import Search
from pipeline.store.writer import Writer
from schemas.attempt import AttemptState, Outcome
from tests.contract.store_case import Store
from tests.contract.store_records import START, attempt_rows

BEFORE = {name: sql for name, sql in bundled_migrations().items() if name < "0019"}
FIGURES = "SELECT hour, endpoint_id, event_name, attempts, failures, discarded, expired FROM attempt_figures ORDER BY ALL"
TRUTH = """
SELECT
    toStartOfHour(created_at) AS hour, endpoint_id, event_name, countIf(outcome NOT IN ('discarded', 'expired')),
    countIf(state = 'failed' AND outcome NOT IN ('discarded', 'expired')), countIf(outcome = 'discarded'), countIf(outcome = 'expired')
FROM attempts GROUP BY hour, endpoint_id, event_name ORDER BY ALL
"""
HOUR = timedelta(hours=1)


def discarded(numbers: range, partition: int = 0, **changes: Any) -> list[Row]:
    paused = {"state": AttemptState.FAILED, "outcome": Outcome.DISCARDED, "duration_ms": 0.0, "http_status_code": None}
    return attempt_rows(numbers, partition, **(paused | changes))


@pytest.fixture
async def before(store_settings: Settings) -> AsyncIterator[Store]:
    """Create the previous release's rows: a paused endpoint, over three weeks, two years and two Kafka partitions."""
    connections = Connections(store_settings)
    store = Store(store_settings, connections, Writer(connections), Search(connections))
    try:
        await migrate(connections, BEFORE)
        for partition, first in enumerate((START, START - timedelta(days=62))):
            await store.writer.append(Table.ATTEMPTS, partition, attempt_rows(range(10), partition, created_at=first))
            await store.writer.append(Table.ATTEMPTS, partition, discarded(range(10, 100), partition, created_at=first))
            later = first + timedelta(days=7)
            await store.writer.append(
                Table.ATTEMPTS, partition, discarded(range(100, 130), partition, created_at=later, endpoint_id=8)
            )
        yield store
    finally:
        await connections.close()


async def run(backfill: Backfill) -> None:
    for _ in range(3):
        await backfill.do(START)


async def test_a_paused_endpoint_did_not_fail(before: Store) -> None:
    """It used to show 100 attempts, of which 90 failed and half took 0 ms."""
    assert (await before.rows("SELECT attempts, failures, quantiles_ms[1] FROM attempt_figures WHERE endpoint_id = 7"))[0] == (
        100,
        90,
        0,
    )
    await migrate(before.connections)
    await run(Backfill(before.connections))
    figures = await before.rows(
        "SELECT attempts, failures, discarded, round(quantiles_ms[1]) FROM attempt_figures WHERE endpoint_id = 7"
    )
    assert figures == [(10, 0, 90, 12)] * 2
    assert await before.rows(FIGURES) == await before.rows(TRUTH)


@pytest.mark.slow  # all migrations, and three weeks of rows; the first test of this file covers the same path
async def test_rows_inserted_during_an_upgrade_count_once(before: Store) -> None:
    await migrate(before.connections)
    backfill = Backfill(before.connections)
    # In the hours counted in the old form, after its last offsets; and in a new partition.
    await before.writer.append(Table.ATTEMPTS, 0, discarded(range(130, 140), created_at=START))
    await backfill.do(START)
    await before.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(140, 150), created_at=START, duration_ms=40.0))
    await before.writer.append(Table.ATTEMPTS, 2, discarded(range(5), 2, created_at=START))
    await backfill.do(START)
    await before.writer.append(Table.ATTEMPTS, 1, attempt_rows(range(130, 140), 1, created_at=START))
    for again in (backfill, Backfill(before.connections), Backfill(before.connections)):
        await run(again)
    assert await before.rows(FIGURES) == await before.rows(TRUTH)


@pytest.mark.slow  # as above
async def test_two_concurrent_upgrades_add_a_week_once(before: Store) -> None:
    await migrate(before.connections)
    others = [Connections(before.settings) for _ in range(2)]
    try:
        backfills = [Backfill(connections) for connections in others]
        await asyncio.gather(*(backfill.do(START) for backfill in backfills))
        await asyncio.gather(*(backfill.do(START) for backfill in backfills))
    finally:
        for connections in others:
            await connections.close()
    assert await before.rows("SELECT sum(discarded), sum(backfilled) FROM attempts_hourly") == [(240, 260)]


@pytest.mark.slow  # as above
async def test_deleted_rows_stay_as_they_were_counted(before: Store) -> None:
    cluster = before.settings.clickhouse_cluster
    name = f"{storage_table('attempts', cluster)}{on_cluster(cluster)}"
    monday = (START - timedelta(days=62)).date()
    await before.command(f"ALTER TABLE {name} DROP PARTITION '{monday - timedelta(days=monday.weekday())}'")
    old = f"FROM attempt_figures WHERE hour < '{START - 60 * 24 * HOUR:%F %T}'"
    was = await before.rows(f"SELECT attempts, failures, quantiles_ms {old}")
    await migrate(before.connections)
    await run(Backfill(before.connections))
    assert await before.rows(f"SELECT attempts, failures, quantiles_ms {old}") == was
    assert await before.rows(f"SELECT sum(discarded) {old}") == [(0,)]


@pytest.mark.slow  # as above
@pytest.mark.parametrize("store_kind", ["chdb"], indirect=True)
async def test_in_this_process_the_backfill_runs_at_the_start_and_repairs_a_crash(before: Store) -> None:
    await before.command("DETACH TABLE attempts_hourly_feed")
    await before.writer.append(Table.ATTEMPTS, 0, discarded(range(130, 150), created_at=START))
    await before.command("ATTACH TABLE attempts_hourly_feed")
    await migrate(before.connections)
    await Backfill(before.connections).at_the_start()
    assert await backfill_hourly(before.connections) == 20
    await before.command("DETACH TABLE attempts_hourly_feed")
    await before.writer.append(Table.ATTEMPTS, 0, discarded(range(150, 170), created_at=START))
    await before.command("ATTACH TABLE attempts_hourly_feed")
    await Backfill(before.connections).at_the_start()
    assert await backfill_hourly(before.connections) == 20
    assert await before.rows(FIGURES) == await before.rows(TRUTH)


async def test_figures_add_up_over_days(store: Store) -> None:
    rows = attempt_rows(range(99), created_at=START, duration_ms=10.0) + attempt_rows(
        range(99, 100), created_at=START + HOUR, duration_ms=500.0
    )
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    await store.writer.append(Table.ATTEMPTS, 0, discarded(range(100, 200), created_at=START + HOUR))
    merged = "SELECT arrayMap(ms -> round(ms), quantilesTDigestMerge(0.5, 0.95, 0.99)(durations)) FROM attempt_figures"
    whole = "SELECT arrayMap(ms -> round(ms), quantiles_ms), attempts, failures, discarded FROM attempt_figures_daily"
    [(quantiles,)] = await store.rows(merged)
    assert quantiles[:2] == [10, 10]
    assert await store.rows(whole) == [(quantiles, 100, 0, 100)]
