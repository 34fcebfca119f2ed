"""The next start adds the hourly figures that are missing after a crash between attempts and figures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest

from pipeline.ops.settings import Settings
from pipeline.store.backfill_hourly import backfill_hourly
from pipeline.store.connection import Connections
from pipeline.store.rows import Table
from schemas.attempt import AttemptState
from tests.contract.store_case import Store
from tests.contract.store_records import START, attempt_rows

SUMS = "SELECT hour, endpoint_id, event_name, sum(attempts), sum(failures) FROM attempts_hourly GROUP BY ALL ORDER BY ALL"
COUNTED = (
    "SELECT toStartOfHour(created_at) AS hour, endpoint_id, event_name, count(), countIf(state = 'failed') FROM attempts "
    "GROUP BY ALL ORDER BY ALL"
)


@pytest.fixture
async def embedded(embedded_store: Store) -> Store:
    """Provide ClickHouse in this process, with some attempts."""
    await embedded_store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(50)))
    return embedded_store


@asynccontextmanager
async def dying_in_between(store: Store) -> AsyncIterator[None]:
    """Make inserts write attempts but no figures."""
    await store.command("DETACH TABLE attempts_hourly_feed")
    yield
    await store.command("ATTACH TABLE attempts_hourly_feed")


def failed(first: datetime, numbers: range) -> list[tuple[object, ...]]:
    return [
        row
        for number in numbers
        for row in attempt_rows(range(number, number + 1), created_at=first, state=AttemptState.FAILED, duration_ms=900.0)
    ]


async def test_missing_figures_are_added_once(embedded: Store) -> None:
    assert await backfill_hourly(embedded.connections) == 0
    async with dying_in_between(embedded):
        await embedded.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(50, 80)))
        # In an hour without figures, a year earlier.
        await embedded.writer.append(Table.ATTEMPTS, 0, failed(START - timedelta(days=100), range(80, 90)))
    await embedded.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(90, 95)))
    assert await embedded.rows(SUMS) != await embedded.rows(COUNTED)

    assert await backfill_hourly(embedded.connections) == 40

    assert await embedded.rows(SUMS) == await embedded.rows(COUNTED)
    assert await backfill_hourly(embedded.connections) == 0
    [(slowest,)] = await embedded.rows("SELECT round(max(quantiles_ms[2])) FROM attempt_figures")
    assert slowest == 900


async def test_the_same_figures_may_be_missing_twice(embedded: Store) -> None:
    for first in (50, 60):
        async with dying_in_between(embedded):
            await embedded.writer.append(Table.ATTEMPTS, 0, failed(START, range(first, first + 10)))
        assert await backfill_hourly(embedded.connections) == 10
        assert await embedded.rows(SUMS) == await embedded.rows(COUNTED)


async def test_figures_outlive_their_attempts(embedded: Store) -> None:
    before = await embedded.rows(SUMS)
    await embedded.command("TRUNCATE TABLE attempts")

    assert await backfill_hourly(embedded.connections) == 0
    assert await embedded.rows(SUMS) == before


async def test_a_server_is_not_backfilled() -> None:
    connections = Connections(Settings(clickhouse_url="http://127.0.0.1:1"))
    try:
        assert await backfill_hourly(connections) == 0
    finally:
        await connections.close()
