"""How long rows are kept: a changed limit takes effect, also on parts written with another one."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from pipeline.store.clickhouse_cluster import on_cluster, storage_table
from pipeline.store.connection import StoreError
from pipeline.store.migrate import migrate
from pipeline.store.retention import Retention, Week, last_expired_week
from pipeline.store.rows import PARTITIONED_BY, Table
from tests.contract.store_case import Store
from tests.contract.store_records import attempt_rows, event_rows

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


async def fill(store: Store, age: timedelta, first: int = 0) -> None:
    at = NOW - age
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(first, first + 100), created_at=at))
    await store.writer.append(Table.EVENTS, 0, event_rows(range(first, first + 30), received_at=at))


async def counts(store: Store) -> list[int]:
    return [(await store.rows(f"SELECT count() FROM {table}"))[0][0] for table in ("attempts", "events")]


def metric(name: str, table: str) -> float:
    return REGISTRY.get_sample_value(f"oms_webhooks_retention_{name}", {"table": table}) or 0.0


async def lifetime_of_an_older_release(store: Store, days: int) -> None:
    cluster = store.settings.clickhouse_cluster
    for table, column in PARTITIONED_BY.items():
        name = f"{storage_table(table.value, cluster)}{on_cluster(cluster)}"
        await store.command(f"ALTER TABLE {name} MODIFY TTL toDateTime({column}) + toIntervalDay({days})")


async def test_a_longer_limit_keeps_rows_of_parts_with_a_shorter_one(store: Store) -> None:
    """The parts are written with a TTL of 30 days; ClickHouse then merges them with 400 days in the settings."""
    attempts = storage_table("attempts", store.settings.clickhouse_cluster)
    await lifetime_of_an_older_release(store, 30)
    await store.command(f"SYSTEM STOP TTL MERGES {attempts}")
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(100), created_at=NOW - 31 * DAY))

    await migrate(store.connections)
    await store.command(f"SYSTEM START TTL MERGES {attempts}")
    await store.command(f"OPTIMIZE TABLE {attempts} FINAL")

    assert await Retention(store.connections, 400).drop_expired(NOW) == ()
    assert (await counts(store))[0] == 100


async def test_a_shorter_limit_drops_existing_rows_and_counts_them(store: Store) -> None:
    await fill(store, 40 * DAY)
    await fill(store, timedelta(0), first=1000)
    before = metric("dropped_rows_total", "attempts")

    gone = await Retention(store.connections, 30).drop_expired(NOW)

    monday = (NOW - 40 * DAY).date()
    monday -= timedelta(days=monday.weekday())
    assert set(gone) == {Week(Table.ATTEMPTS, monday, 100), Week(Table.EVENTS, monday, 30)}
    assert await counts(store) == [100, 30], "newer rows stay"
    assert metric("dropped_rows_total", "attempts") - before == 100
    assert metric("overdue_rows", "attempts") == 0
    assert await Retention(store.connections, 30).drop_expired(NOW) == ()


async def test_records_after_a_dropped_week_are_stored(store: Store) -> None:
    """The dropped rows' positions are gone too: later records are still stored, and only once."""
    await fill(store, 40 * DAY)
    await Retention(store.connections, 30).drop_expired(NOW)
    store.writer.forget(Table.ATTEMPTS, 0)

    for _ in range(2):
        await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(100, 150), created_at=NOW))
    assert (await counts(store))[0] == 50
    assert await store.writer.assign(Table.ATTEMPTS, 0) == 150


async def test_a_fast_clock_drops_nothing(store: Store) -> None:
    await fill(store, timedelta(0))
    assert await Retention(store.connections, 30).drop_expired(NOW + 4000 * DAY) == ()
    assert await counts(store) == [100, 30]


async def test_two_recorders_drop_a_week_once(store: Store) -> None:
    await fill(store, 40 * DAY)
    retention = Retention(store.connections, 30)
    await asyncio.gather(retention.drop_expired(NOW), Retention(store.connections, 30).drop_expired(NOW))
    assert await counts(store) == [0, 0]


async def test_a_week_dropped_by_another_recorder_is_counted_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The partition that decides which recorder drops moves in the meantime: both have found the same weeks."""
    await fill(store, 40 * DAY)
    former, now = Retention(store.connections, 30), Retention(store.connections, 30)
    weeks = await former.expired(NOW)

    async def found(_: datetime) -> tuple[Week, ...]:
        return weeks

    monkeypatch.setattr(former, "expired", found)
    before = metric("dropped_rows_total", "attempts")
    assert set(await now.drop_expired(NOW)) == set(weeks)
    assert await former.drop_expired(NOW) == ()
    assert metric("dropped_rows_total", "attempts") - before == 100
    assert metric("overdue_rows", "attempts") == 0


async def test_rows_that_cannot_be_dropped_are_reported(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(store, 40 * DAY)
    monkeypatch.setattr("pipeline.store.retention.storage_table", lambda table, _cluster: f"no_{table}")
    retention = Retention(store.connections, 30)
    with pytest.raises(StoreError):
        await retention.drop_expired(NOW)
    assert (metric("overdue_rows", "attempts"), metric("overdue_rows", "events")) == (100, 30)
    retention.leave()
    assert metric("overdue_rows", "attempts") == 0


async def test_concurrent_starts_remove_an_older_releases_ttl_once(store: Store) -> None:
    await lifetime_of_an_older_release(store, 30)
    await asyncio.gather(*(migrate(store.connections) for _ in range(3)))
    engines = await store.rows("SELECT engine_full FROM system.tables WHERE database = currentDatabase()")
    assert not any(" TTL " in engine for (engine,) in engines)


def test_a_week_is_dropped_when_its_last_moment_is_too_old() -> None:
    sunday_night = datetime(2026, 3, 8, 23, 59, 59, tzinfo=UTC)
    assert last_expired_week(sunday_night + timedelta(seconds=1) + 30 * DAY, 30) == date(2026, 3, 2)
    assert last_expired_week(sunday_night + 30 * DAY, 30) == date(2026, 2, 23)
