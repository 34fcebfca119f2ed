"""Connections: what fails is named by what there is to do about it, nothing leaks, and everything is let go of."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.core.search import parse_query
from pipeline.ops.settings import Settings
from pipeline.store import connection
from pipeline.store.connection import (
    Client,
    Connections,
    StoreBudgetError,
    StoreError,
    StoreRejectedError,
    StoreUnavailableError,
)
from pipeline.store.migrate import migrate
from pipeline.store.writer import Table
from tests.contract.clickhouse_faults import FaultKind
from tests.contract.clickhouse_shim import ShimProcess
from tests.contract.store_case import PASSWORD, Store, http_settings, opened
from tests.contract.store_records import attempt_rows


async def failure(connections: Connections) -> StoreError:
    try:
        with pytest.raises(StoreError) as caught:
            await connections.read(lambda client: client.query("SELECT 1"))
    finally:
        await connections.close()
    return caught.value


async def test_ping(store: Store) -> None:
    await store.connections.ping()


async def test_reads_run_side_by_side_and_inserts_do_not_wait_for_them(store: Store) -> None:
    """All readers meet at a barrier, and stay there until an insert is done."""
    together = threading.Barrier(connection.READERS)
    inserted = threading.Event()

    def read(client: Client) -> bool:
        together.wait(10)
        client.command("SELECT 1")
        return inserted.wait(10)

    reads = [asyncio.create_task(store.connections.read(read)) for _ in range(connection.READERS)]
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(3)))
    assert not any(task.done() for task in reads)
    inserted.set()
    assert await asyncio.gather(*reads) == [True] * connection.READERS


async def test_a_wrong_statement_is_rejected(store: Store) -> None:
    with pytest.raises(StoreRejectedError, match="Unknown table expression identifier 'nowhere'"):
        await store.rows("SELECT 1 FROM nowhere")


async def test_a_limit_of_an_insert_is_no_reason_to_narrow_a_search(store: Store) -> None:
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


async def test_nobody_listens() -> None:
    settings = Settings(clickhouse_url="http://127.0.0.1:9", clickhouse_password=SecretStr(PASSWORD))
    error = await failure(Connections(settings))
    assert isinstance(error, StoreUnavailableError)
    assert (
        str(error)
        == "ClickHouse at 127.0.0.1:9 cannot be reached or did not answer: ConnectionRefusedError: [Errno 111] Connection refused"
    )


async def test_a_wrong_password_is_not_shown(clickhouse_shim: ShimProcess, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    settings = http_settings(clickhouse_shim)
    wrong = settings.model_copy(
        update={
            "clickhouse_password": SecretStr("wrong-password"),
            "clickhouse_url": clickhouse_shim.url.replace("//", "//me:secret@"),
        }
    )
    error = await failure(Connections(wrong))
    assert isinstance(error, StoreUnavailableError)
    assert "refuses the login: wrong user name or password. Check OMS_WEBHOOKS_CLICKHOUSE_USERNAME and OMS_WEBHOOKS_" in str(
        error
    )
    assert "(default: Authentication failed: password is incorrect, or there is no user with such name.)" in str(error)
    assert error.needs_a_person
    for secret in ("wrong-password", "secret", PASSWORD):
        assert secret not in f"{error} {error.__cause__} {caplog.text}"


@pytest.mark.parametrize("kind", [FaultKind.UNAVAILABLE, FaultKind.DROP])
async def test_clickhouse_is_down_and_comes_back(http_store: Store, clickhouse_shim: ShimProcess, kind: FaultKind) -> None:
    clickhouse_shim.fail(kind, matching="", times=1000)
    for work in (http_store.connections.ping(), http_store.search.attempts(parse_query([])), http_store.search.attempt(1)):
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:\d+ cannot be reached or did not answer"):
            await work
    clickhouse_shim.recover()
    await http_store.connections.ping()


async def test_an_answer_that_does_not_come(clickhouse_shim: ShimProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 1)
    async with opened(http_settings(clickhouse_shim)) as store:
        clickhouse_shim.fail(FaultKind.SLOW, seconds=1.5)
        rows = attempt_rows(range(10))
        with pytest.raises(StoreUnavailableError, match="timed out"):
            await store.writer.append(Table.ATTEMPTS, 0, rows)
        # The first insert is still under way in the server.
        await store.writer.append(Table.ATTEMPTS, 0, rows)
        await asyncio.sleep(1)
        await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(5, 20)))
        assert await store.rows("SELECT count(), uniqExact(id) FROM attempts") == [(20, 20)]


async def test_nothing_goes_through_the_logs(
    http_store: Store, clickhouse_shim: ShimProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver would log statements with their values and stack traces."""
    clickhouse_shim.fail(FaultKind.DROP, matching="", times=1000)
    with pytest.raises(StoreUnavailableError) as caught:
        await http_store.search.attempts(parse_query([("q[order_number_eq]", "R-private-1")]))
    clickhouse_shim.recover()
    assert "R-private-1" not in f"{caplog.text} {caught.value}"


def test_a_temporary_directory_goes_at_the_end() -> None:
    with asyncio.Runner() as runner:
        connections = Connections(Settings())
        runner.run(migrate(connections, 400))
        assert connections._temporary is not None
        directory = Path(connections._temporary.name)
        assert directory.is_dir()
        runner.run(connections.close())
        assert not directory.exists()


async def test_one_directory_a_process(tmp_path: Path) -> None:
    async with opened(Settings(clickhouse_path=tmp_path / "one")) as first:
        error = await failure(Connections(Settings(clickhouse_path=tmp_path / "two")))
        assert isinstance(error, StoreRejectedError)
        assert "open in this process with another directory" in str(error)
        await first.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(3)))
    async with opened(Settings(clickhouse_path=tmp_path / "two")) as second:
        assert await second.writer.assign(Table.ATTEMPTS, 0) == 0
    async with opened(Settings(clickhouse_path=tmp_path / "one")) as again:
        assert await again.writer.assign(Table.ATTEMPTS, 0) == 3


async def test_a_path_that_is_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    await asyncio.to_thread(file.write_text, "")
    error = await failure(Connections(Settings(clickhouse_path=file)))
    assert isinstance(error, StoreUnavailableError)
    assert str(error) == "ClickHouse in this process cannot use its files: File exists"


async def test_a_directory_that_another_process_has_open(clickhouse_shim: ShimProcess) -> None:
    error = await failure(Connections(Settings(clickhouse_path=clickhouse_shim.path)))
    assert isinstance(error, StoreUnavailableError)
    assert "stop the other one, or set another clickhouse_path" in str(error)


async def test_budgets_are_errors_of_their_own(store: Store) -> None:
    with pytest.raises(StoreBudgetError, match="more time or memory"):
        await store.rows("SELECT uniqExact(number) FROM numbers(5000000) SETTINGS max_memory_usage = 1000000")


async def test_searches_are_refused_at_once_while_a_server_is_known_not_to_answer(http_store: Store) -> None:
    away: list[str] = ["ClickHouse is away."]
    http_store.connections.refuse_reads_while(lambda: away[0])
    with pytest.raises(StoreUnavailableError, match="is away"):
        await http_store.search.attempts(parse_query([]))
    await http_store.connections.ping()
    away[0] = ""
    assert (await http_store.search.attempts(parse_query([]))).total_count == 0


async def test_nothing_is_read_or_written_before_the_tables_are_there(http_store: Store) -> None:
    http_store.connections.hold("The tables are being looked at.")
    for work in (http_store.search.attempts(parse_query([])), http_store.writer.assign(Table.ATTEMPTS, 0)):
        with pytest.raises(StoreUnavailableError, match="being looked at"):
            await work
    http_store.connections.release()
    assert await http_store.writer.assign(Table.ATTEMPTS, 0) == 0
