"""Exactly-once storage, on both engines: repeats, ambiguous failures, rivals, weeks, crashes (promise 3 of the design).

Tests with many inserts take a second or more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from pipeline.ops.clock import steady_seconds
from pipeline.store import writer as writer_module
from pipeline.store.batch_bisect import append_in_parts
from pipeline.store.clickhouse_cluster import storage_table
from pipeline.store.connection import Connections, StoreRejectedError, StoreRowsError, StoreUnavailableError
from pipeline.store.rows import Row, RowPosition, attempt_row
from pipeline.store.writer import Table, Writer
from tests.contract.store_case import Store, offsets
from tests.contract.store_records import MONDAY, attempt, attempt_rows, event_rows


@pytest.fixture
async def rival(store: Store) -> AsyncIterator[Writer]:
    """Provide the writer of a second recorder that believes it holds the same partitions."""
    connections = Connections(store.settings)
    yield Writer(connections)
    await connections.close()


async def test_writing_continues_after_the_stored_rows(store: Store) -> None:
    assert await store.writer.assign(Table.ATTEMPTS, 3) == 0
    await store.writer.append(Table.ATTEMPTS, 3, attempt_rows(range(100, 110), 3))
    assert await store.writer.assign(Table.ATTEMPTS, 3) == 110
    assert await store.writer.assign(Table.ATTEMPTS, 4) == 0
    assert await store.writer.assign(Table.EVENTS, 3) == 0


async def test_a_repeated_append_stores_nothing_twice(store: Store, rival: Writer) -> None:
    rows = attempt_rows(range(10))
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    await rival.append(Table.ATTEMPTS, 0, rows)
    assert await offsets(store) == list(range(10))


async def test_an_empty_append_does_nothing(store: Store) -> None:
    await store.writer.append(Table.ATTEMPTS, 0, [])
    assert await offsets(store) == []


async def test_offsets_may_have_gaps(store: Store) -> None:
    rows = [row for row in attempt_rows(range(20)) if row[-1] % 3]
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    assert await offsets(store) == [row[-1] for row in rows]


@pytest.mark.parametrize(("first", "second"), [(5, 10), (10, 5), (10, 10)])
async def test_two_inserts_after_the_same_offset(store: Store, rival: Writer, first: int, second: int) -> None:
    """One takes effect; the other writer inserts missing rows or skips existing ones."""
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(3)))
    await rival.assign(Table.ATTEMPTS, 0)
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(3, 3 + first)))
    await rival.append(Table.ATTEMPTS, 0, attempt_rows(range(3, 3 + second)))
    assert await offsets(store) == list(range(3 + max(first, second)))


async def test_a_rival_that_does_not_notice_for_a_long_time(store: Store, rival: Writer) -> None:
    """A paused recorder continues: both insert batch after batch, with different cuts, in any interleaving."""
    chance = random.Random(7)
    end = 72
    position = {store.writer: 0, rival: 0}
    for writer in position:
        await writer.assign(Table.ATTEMPTS, 0)
    while min(position.values()) < end:
        writer = chance.choice([one for one in position if position[one] < end])
        until = min(end, position[writer] + chance.randint(1, 9))
        await writer.append(Table.ATTEMPTS, 0, attempt_rows(range(position[writer], until)))
        position[writer] = until
    assert await offsets(store) == list(range(end))


@pytest.mark.parametrize("is_assigned", [False, True])
async def test_a_writer_frozen_until_its_token_was_forgotten(
    store: Store, rival: Writer, monkeypatch: pytest.MonkeyPatch, *, is_assigned: bool
) -> None:
    """ClickHouse remembers a limited number of tokens. The writer's known position is as old as the freeze."""
    table = storage_table("attempts", store.settings.clickhouse_cluster)
    await store.command(f"ALTER TABLE {table} MODIFY SETTING {_window(store)} = 2")
    if is_assigned:
        await store.writer.assign(Table.ATTEMPTS, 0)
    else:
        await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(2)))
    for first in range(0, 20, 2):
        await rival.append(Table.ATTEMPTS, 0, attempt_rows(range(first, first + 2)))

    thawed = steady_seconds() + 3600
    monkeypatch.setattr(writer_module, "steady_seconds", lambda: thawed)
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(2 * (not is_assigned), 6)))
    assert await offsets(store) == list(range(20))


async def test_a_writer_frozen_while_it_asks_for_the_last_offset(
    store: Store, rival: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, now = writer_module._stored, steady_seconds()
    monkeypatch.setattr(writer_module, "steady_seconds", lambda: now)
    answers = iter([-1])

    def frozen_behind_the_answer(*arguments: Any) -> int:
        nonlocal now
        old = next(answers, None)
        if old is None:
            return asked(*arguments)
        now += 3600
        return old

    await rival.append(Table.ATTEMPTS, 0, attempt_rows(range(3)))
    await rival.append(Table.ATTEMPTS, 0, attempt_rows(range(3, 6)))
    monkeypatch.setattr(writer_module, "_stored", frozen_behind_the_answer)
    table = storage_table("attempts", store.settings.clickhouse_cluster)
    await store.command(f"ALTER TABLE {table} MODIFY SETTING {_window(store)} = 1")
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(8)))
    assert await offsets(store) == list(range(8))


def _window(store: Store) -> str:
    """Return the number of tokens that the table remembers."""
    return "replicated_deduplication_window" if store.settings.clickhouse_cluster else "non_replicated_deduplication_window"


async def test_rivals_at_the_same_time(store: Store, rival: Writer) -> None:
    async def write(writer: Writer, size: int) -> None:
        for first in range(0, 36, size):
            await writer.append(Table.EVENTS, 1, event_rows(range(first, first + size), 1))

    await asyncio.gather(write(store.writer, 6), write(rival, 4))
    assert await offsets(store, Table.EVENTS, 1) == list(range(36))


async def test_a_row_of_another_week_gets_its_own_insert(store: Store) -> None:
    """An insert into two of ClickHouse's partitions would be two parts, and a crash could leave one."""
    days = [-1, -1, 0, 6, 7, 6, 7, 7]
    rows = [
        attempt_row(RowPosition(0, offset), attempt(offset, created_at=MONDAY + timedelta(days=day, hours=23)))
        for offset, day in enumerate(days)
    ]
    await store.command("SYSTEM STOP MERGES attempts")
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    assert await offsets(store) == list(range(len(days)))
    parts = await store.rows("SELECT min(kafka_offset), count() FROM attempts GROUP BY _part ORDER BY 1")
    assert parts == [(0, 2), (2, 2), (4, 1), (5, 1), (6, 2)]
    await store.command("SYSTEM START MERGES attempts")


async def test_a_record_spanning_two_weeks_is_refused_and_not_stored_in_part(store: Store) -> None:
    """Producers of records prevent this; the second half would be considered stored."""
    moments = [MONDAY - timedelta(hours=1), MONDAY - timedelta(milliseconds=1), MONDAY, MONDAY + timedelta(hours=1)]
    rows = [
        attempt_row(RowPosition(0, offset), attempt(number, created_at=moment), number)
        for number, (offset, moment) in enumerate(zip((0, 1, 1, 2), moments, strict=True))
    ]
    with pytest.raises(StoreRowsError, match="offset 1 has rows of two weeks"):
        await store.writer.append(Table.ATTEMPTS, 0, rows)
    assert await offsets(store) == []
    await store.writer.append(Table.ATTEMPTS, 0, rows[:1])
    assert await offsets(store) == [0]


async def test_a_batch_is_one_part_however_large(store: Store) -> None:
    """The driver sends blocks of two megabytes; an insert of several blocks could be stored in part."""
    rows = event_rows(range(1500), text="0123456789abcdef" * 500)
    await store.command("SYSTEM STOP MERGES events")
    await store.writer.append(Table.EVENTS, 0, rows)
    assert await store.rows("SELECT count(), uniqExact(_part) FROM events") == [(1500, 1)]
    await store.command("SYSTEM START MERGES events")


async def test_a_row_that_does_not_fit_is_refused_whole(store: Store) -> None:
    rows = attempt_rows(range(3))
    spoilt: list[Row] = [*rows[:2], (*rows[2][:11], 2**80, *rows[2][12:])]
    with pytest.raises(StoreRejectedError, match="attempts"):
        await store.writer.append(Table.ATTEMPTS, 0, spoilt)
    assert await offsets(store) == []
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    assert await offsets(store) == [0, 1, 2]


@pytest.mark.parametrize("store_kind", ["chdb", "http"], indirect=True)
async def test_a_token_without_its_rows_does_not_lose_them(store: Store) -> None:
    """As after a crash between the two, or after rows were deleted: the retry gets a new token."""
    rows = attempt_rows(range(5))
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    await store.command("ALTER TABLE attempts DELETE WHERE 1 SETTINGS mutations_sync = 1")
    store.writer.forget(Table.ATTEMPTS, 0)
    with pytest.raises(StoreUnavailableError, match="dropped rows of attempts that are not stored"):
        await store.writer.append(Table.ATTEMPTS, 0, rows)
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    assert await offsets(store) == list(range(5))


@pytest.mark.slow
@pytest.mark.parametrize("store_kind", ["cluster"], indirect=True)
async def test_a_lagging_replica_is_waited_for_and_nothing_is_stored_twice(
    store: Store, rival: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster: rows 5 to 9 are stored, but the replica asked does not show them yet, neither to the writer nor to its successor."""
    asked = writer_module._stored
    behind = 0

    def answered_by_a_replica(*arguments: Any) -> int:
        nonlocal behind
        behind = max(0, behind - 1)
        return min(asked(*arguments), 4) if behind else asked(*arguments)

    monkeypatch.setattr(writer_module, "_stored", answered_by_a_replica)
    rows = attempt_rows(range(20))
    await store.writer.append(Table.ATTEMPTS, 0, rows[:5])
    behind = 4
    with pytest.raises(StoreUnavailableError, match="A replica of attempts is behind"):
        await store.writer.append(Table.ATTEMPTS, 0, rows[:10])
    with pytest.raises(StoreUnavailableError, match="A replica of attempts is behind"):
        await rival.append(Table.ATTEMPTS, 0, rows[:12])
    await rival.append(Table.ATTEMPTS, 0, rows[:12])
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    assert await offsets(store) == list(range(20))


async def test_a_cancelled_caller_leaves_nothing_half_done(store: Store) -> None:
    rows = attempt_rows(range(2000))
    task = asyncio.create_task(store.writer.append(Table.ATTEMPTS, 0, rows))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.writer.forget(Table.ATTEMPTS, 0)
    # The next insert waits for the one in progress: the writer has one thread.
    assert await store.writer.assign(Table.ATTEMPTS, 0) in (0, 2000)
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    assert await offsets(store) == list(range(2000))


async def test_a_refused_row_does_not_hold_up_others(store: Store) -> None:
    """With the engine's own error (VIOLATED_CONSTRAINT); all other rows are stored, in order."""
    table = storage_table("attempts", store.settings.clickhouse_cluster)
    await store.command(f"ALTER TABLE {table} ADD CONSTRAINT wholesome CHECK kafka_offset NOT IN (3, 4, 17)")
    rows, aside = attempt_rows(range(40)), []

    async def set_aside(offset: int, error: StoreRowsError) -> None:
        assert "refused" in str(error)
        aside.append(offset)

    stored = await append_in_parts(lambda part: store.writer.append(Table.ATTEMPTS, 0, part), set_aside, rows)
    assert aside == [3, 4, 17]
    assert stored == 37
    assert await offsets(store) == [offset for offset in range(40) if offset not in {3, 4, 17}]
