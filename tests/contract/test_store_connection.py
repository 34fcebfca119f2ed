"""Connections: errors say what to do, nothing leaks, and everything is released."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.core.search import parse_query
from pipeline.ops.settings import Settings
from pipeline.store.connection import (
    Client,
    Connections,
    StoreBudgetError,
    StoreBusyError,
    StoreError,
    StoreRejectedError,
    StoreUnavailableError,
)
from pipeline.store.writer import Table
from tests.contract.store_case import PASSWORD, Store, failure, opened, reopened
from tests.contract.store_records import attempt_rows
from tests.waiting import until


async def test_ping(store: Store) -> None:
    await store.connections.ping()


async def test_reads_run_in_parallel_and_inserts_do_not_wait_for_them(store: Store) -> None:
    """All readers meet at a barrier, and stay there until an insert is done."""
    at_once = store.connections.turns.max_concurrent
    together = threading.Barrier(at_once)
    inserted = threading.Event()

    def read(client: Client) -> bool:
        together.wait(60)
        client.command("SELECT 1")
        return inserted.wait(60)

    reads = [asyncio.create_task(store.connections.read(read)) for _ in range(at_once)]
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(3)))
    assert not any(task.done() for task in reads)
    inserted.set()
    assert await asyncio.gather(*reads) == [True] * at_once


FAILS_LATE = "SELECT number, throwIf(number = 300000) FROM numbers(1000001)"


async def test_rows_of_a_failed_query_are_not_in_the_next_answer(store: Store) -> None:
    """chDB 4.4 adds rows left by a failed statement to the next answer on the same connection."""
    async with reopened(store, searches_at_once=1) as one_at_once:
        for ask in (one_at_once.connections.read, one_at_once.connections.write):
            with pytest.raises(StoreError):
                await ask(lambda client: client.query(FAILS_LATE).result_rows)
            assert await ask(lambda client: client.query("SELECT 1").result_rows) == [(1,)]


SLOW = "SELECT sum(sipHash64(number)) FROM numbers(100000000000) SETTINGS max_execution_time = 30"
RUNNING = "SELECT count() FROM system.processes WHERE query LIKE '%100000000000%' AND query NOT LIKE '%system.processes%'"


async def running(store: Store) -> int:
    [(count,)] = await store.connections.write(lambda client: client.query(RUNNING).result_rows)
    return int(count)


async def test_an_abandoned_search_is_stopped(store: Store) -> None:
    """Once it has ended, the next search in the queue is answered."""
    async with reopened(store, searches_at_once=2) as two_at_once, asyncio.timeout(60):

        async def are_running(count: int) -> bool:
            return await running(two_at_once) == count

        searches = [asyncio.create_task(two_at_once.rows(SLOW)) for _ in range(2)]
        await until(lambda: are_running(2))
        behind = asyncio.create_task(two_at_once.rows("SELECT 1"))
        gone = asyncio.create_task(two_at_once.rows(SLOW))
        await until(lambda: len(two_at_once.connections.turns._waiting) == 2)
        assert not behind.done()
        for search in (gone, *searches):
            search.cancel()
        assert await behind == [(1,)]
        await until(lambda: are_running(0))
        ended = await asyncio.gather(gone, *searches, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended)


async def test_a_ping_does_not_wait_in_the_queue(store: Store) -> None:
    turns = store.connections.turns
    for _ in range(turns.max_concurrent):
        await turns.wait(turns.place())
    await store.connections.ping()
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(3)))


async def test_too_many_searches_are_reported_as_such(store: Store) -> None:
    async with reopened(store, searches_at_once=1, search_wait_seconds=0.05) as one_at_once:
        turns = one_at_once.connections.turns
        await turns.wait(turns.place())
        with pytest.raises(StoreBusyError, match="one other search is ahead of this one"):
            await one_at_once.search.attempts(parse_query([]))
        turns.end()
        assert (await one_at_once.search.attempts(parse_query([]))).items == ()


async def test_searches_in_this_process_use_one_thread_and_inserts_all(store: Store) -> None:
    threads = "SELECT value, changed FROM system.settings WHERE name = 'max_threads'"
    [(value, changed)] = await store.rows(threads)
    assert (value == "1") == store.connections.is_embedded == bool(changed)
    [(value, changed)] = await store.connections.write(lambda client: client.query(threads).result_rows)
    assert not changed
    async with reopened(store, search_threads=3) as with_more:
        assert (await with_more.rows(threads))[0][0] == "3"


async def test_a_wrong_statement_is_rejected(store: Store) -> None:
    with pytest.raises(StoreRejectedError, match="Unknown table expression identifier 'nowhere'"):
        await store.rows("SELECT 1 FROM nowhere")


async def test_a_limit_of_an_insert_does_not_ask_to_narrow_a_search(store: Store) -> None:
    greedy = "INSERT INTO events (event_id) SELECT toString(number) FROM numbers(3000000) SETTINGS max_memory_usage = 1000000"
    with pytest.raises(StoreUnavailableError, match="short of memory or time"):
        await store.command(greedy)


async def test_without_the_migrations_the_message_says_so(store_settings: Settings) -> None:
    error = await failure(Connections(store_settings))
    assert isinstance(error, StoreRejectedError)
    assert "migrations have not been applied" in str(error)


async def test_a_closed_store_says_so_and_closes_once(store: Store) -> None:
    await store.connections.close()
    await store.connections.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.connections.ping()


async def test_no_server_listens() -> None:
    settings = Settings(clickhouse_url="http://127.0.0.1:9", clickhouse_password=SecretStr(PASSWORD))
    error = await failure(Connections(settings))
    assert isinstance(error, StoreUnavailableError)
    assert (
        str(error)
        == "ClickHouse at 127.0.0.1:9 cannot be reached or did not answer: ConnectionRefusedError: [Errno 111] Connection refused"
    )


def test_a_temporary_directory_is_removed_at_the_end() -> None:
    with asyncio.Runner() as runner:
        connections = Connections(Settings())
        runner.run(connections.prepare(lambda client: client.command("CREATE DATABASE webhooks")))
        assert connections._temporary is not None
        directory = Path(connections._temporary.name)
        assert directory.is_dir()
        runner.run(connections.close())
        assert not directory.exists()


@pytest.mark.slow
async def test_one_directory_per_process(tmp_path: Path) -> None:
    """It takes seconds: an engine starts three times, twice with all migrations."""
    async with opened(Settings(clickhouse_path=tmp_path / "one")) as first:
        error = await failure(Connections(Settings(clickhouse_path=tmp_path / "two")))
        assert isinstance(error, StoreRejectedError)
        assert "open in this process with a directory other than" in str(error)
        await first.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(3)))
    async with opened(Settings(clickhouse_path=tmp_path / "two")) as second:
        assert await second.writer.assign(Table.ATTEMPTS, 0) == 0
    async with opened(Settings(clickhouse_path=tmp_path / "one")) as again:
        assert await again.writer.assign(Table.ATTEMPTS, 0) == 3


async def test_a_path_that_is_not_a_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    await asyncio.to_thread(file.write_text, "")
    error = await failure(Connections(Settings(clickhouse_path=file)))
    assert isinstance(error, StoreUnavailableError)
    assert str(error) == "ClickHouse in this process cannot use its files: File exists"


async def test_exceeded_budgets_have_their_own_errors(store: Store) -> None:
    with pytest.raises(StoreBudgetError, match="needs more memory than it may"):
        await store.rows("SELECT uniqExact(number) FROM numbers(5000000) SETTINGS max_memory_usage = 1000000")
