"""ClickHouse over HTTP: failures are named and retried, and rows are stored once.

One file, so that only one process of a run starts the shim.
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from consumers.cli.app import app
from pipeline.core.search import parse_query
from pipeline.ops.settings import Settings
from pipeline.store import connection
from pipeline.store.connection import Connections, StoreUnavailableError
from pipeline.store.writer import Table, Writer
from tests.contract.clickhouse_faults import FaultKind
from tests.contract.clickhouse_shim import ShimProcess
from tests.contract.store_case import PASSWORD, Store, failure, http_settings, offsets, reopened
from tests.contract.store_records import attempt_rows, event_rows
from tests.waiting import until


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
    assert error.needs_operator
    for secret in ("wrong-password", "secret", PASSWORD):
        assert secret not in f"{error} {error.__cause__} {caplog.text}"


@pytest.mark.parametrize("kind", [FaultKind.UNAVAILABLE, FaultKind.DROP])
async def test_clickhouse_goes_down_and_comes_back(http_store: Store, clickhouse_shim: ShimProcess, kind: FaultKind) -> None:
    clickhouse_shim.fail(kind, matching="", times=1000)
    for work in (http_store.connections.ping(), http_store.search.attempts(parse_query([])), http_store.search.attempt(1)):
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:\d+ cannot be reached or did not answer"):
            await work
    clickhouse_shim.recover()
    await http_store.connections.ping()


async def test_a_missing_answer_times_out(
    http_store: Store, clickhouse_shim: ShimProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a second or two, until the client gives up and the insert is over."""
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 1)
    async with reopened(http_store) as store:
        clickhouse_shim.fail(FaultKind.SLOW, seconds=1.5)
        rows = attempt_rows(range(10))
        with pytest.raises(StoreUnavailableError, match="timed out"):
            await store.writer.append(Table.ATTEMPTS, 0, rows)
        # The first insert is still in progress in the server.
        await store.writer.append(Table.ATTEMPTS, 0, rows)
        await asyncio.to_thread(clickhouse_shim.wait_until_idle)
        await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(5, 20)))
        assert await store.rows("SELECT count(), uniqExact(id) FROM attempts") == [(20, 20)]


async def test_values_are_not_logged(http_store: Store, clickhouse_shim: ShimProcess, caplog: pytest.LogCaptureFixture) -> None:
    """The driver would log statements with their values and stack traces."""
    clickhouse_shim.fail(FaultKind.DROP, matching="", times=1000)
    with pytest.raises(StoreUnavailableError) as caught:
        await http_store.search.attempts(parse_query([("q[order_number_eq]", "R-private-1")]))
    clickhouse_shim.recover()
    assert "R-private-1" not in f"{caplog.text} {caught.value}"


async def test_a_directory_open_in_another_process(clickhouse_shim: ShimProcess) -> None:
    error = await failure(Connections(Settings(clickhouse_path=clickhouse_shim.path)))
    assert isinstance(error, StoreUnavailableError)
    assert "stop the other, or set another clickhouse_path" in str(error)


async def test_searches_are_refused_at_once_while_a_server_is_known_to_be_down(http_store: Store) -> None:
    away: list[str] = ["ClickHouse is away."]
    http_store.connections.refuse_reads_while(lambda: away[0])
    with pytest.raises(StoreUnavailableError, match="is away"):
        await http_store.search.attempts(parse_query([]))
    await http_store.connections.ping()
    away[0] = ""
    assert (await http_store.search.attempts(parse_query([]))).total_count == 0


async def test_nothing_is_read_or_written_before_the_tables_exist(http_store: Store) -> None:
    http_store.connections.hold("The tables are being looked at.")
    for work in (http_store.search.attempts(parse_query([])), http_store.writer.assign(Table.ATTEMPTS, 0)):
        with pytest.raises(StoreUnavailableError, match="being looked at"):
            await work
    http_store.connections.release()
    assert await http_store.writer.assign(Table.ATTEMPTS, 0) == 0


@pytest.mark.parametrize("kind", [FaultKind.UNAVAILABLE, FaultKind.UNAVAILABLE_AFTER, FaultKind.DROP, FaultKind.LOST])
async def test_a_failed_insert_is_repeated(http_store: Store, clickhouse_shim: ShimProcess, kind: FaultKind) -> None:
    """The caller repeats until it succeeds, whether the failed insert took effect or not."""
    rows = attempt_rows(range(50))
    await http_store.writer.append(Table.ATTEMPTS, 0, rows[:10])
    clickhouse_shim.fail(kind, times=3)
    for _ in range(4):
        try:
            await http_store.writer.append(Table.ATTEMPTS, 0, rows[10:])
        except StoreUnavailableError:
            continue
        break
    assert await http_store.writer.assign(Table.ATTEMPTS, 0) == 50
    assert await offsets(http_store) == list(range(50))


async def test_a_failed_query_is_repeated(http_store: Store, clickhouse_shim: ShimProcess) -> None:
    """The insert succeeded, but the query for the table's last offset failed."""
    await http_store.writer.assign(Table.ATTEMPTS, 0)
    # The driver itself tries three times.
    clickhouse_shim.fail(FaultKind.UNAVAILABLE, matching="max(kafka_offset)", times=3)
    rows = attempt_rows(range(5))
    with pytest.raises(StoreUnavailableError):
        await http_store.writer.append(Table.ATTEMPTS, 0, rows)
    await http_store.writer.append(Table.ATTEMPTS, 0, rows)
    assert await offsets(http_store) == list(range(5))


@pytest.mark.parametrize("length", [5, 20])
async def test_a_zombies_insert_arrives_late(http_store: Store, clickhouse_shim: ShimProcess, length: int) -> None:
    """The server executes an insert long after its recorder gave up, when the next one has stored the same records."""
    await http_store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(10)))
    clickhouse_shim.fail(FaultKind.LATE, seconds=0.5)
    with pytest.raises(StoreUnavailableError):
        await http_store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(10, 10 + length)))
    successor = Writer(http_store.connections)
    assert await successor.assign(Table.ATTEMPTS, 0) == 10
    await successor.append(Table.ATTEMPTS, 0, attempt_rows(range(10, 22)))
    await asyncio.to_thread(clickhouse_shim.wait_until_idle)
    await successor.append(Table.ATTEMPTS, 0, attempt_rows(range(22, 40)))
    assert await offsets(http_store) == list(range(40))


@pytest.mark.slow  # the tests above cover the same failures without a restart
async def test_clickhouse_is_killed_and_restarted(http_store: Store, clickhouse_shim: ShimProcess) -> None:
    """It takes seconds: ClickHouse starts again."""
    rows = attempt_rows(range(400))
    await http_store.writer.append(Table.ATTEMPTS, 0, rows[:100])
    clickhouse_shim.fail(FaultKind.SLOW, seconds=20)
    append = asyncio.create_task(http_store.writer.append(Table.ATTEMPTS, 0, rows[100:200]))
    await until(lambda: asyncio.to_thread(clickhouse_shim.count_late))
    clickhouse_shim.kill()
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        await append
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        await http_store.writer.append(Table.ATTEMPTS, 0, rows[100:200])
    await asyncio.to_thread(clickhouse_shim.start)
    assert await http_store.writer.assign(Table.ATTEMPTS, 0) == 100
    await http_store.writer.append(Table.ATTEMPTS, 0, rows[100:])
    assert await offsets(http_store) == list(range(400))


async def test_the_retention_command_counts_rows_to_delete(http_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime.now(UTC) - timedelta(days=40)
    await http_store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(100), created_at=at))
    await http_store.writer.append(Table.EVENTS, 0, event_rows(range(30), received_at=at))
    monkeypatch.setenv("OMS_WEBHOOKS_CLICKHOUSE_URL", http_store.settings.clickhouse_url)
    monkeypatch.setenv("OMS_WEBHOOKS_CLICKHOUSE_PASSWORD", PASSWORD)
    monkeypatch.setenv("OMS_WEBHOOKS_CLICKHOUSE_DATABASE", http_store.settings.clickhouse_database)

    async def said(*options: str) -> str:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["retention", *options])
        assert done.exit_code == 0, done.output
        return done.output

    assert "Nothing is older than 400 days." in await said()
    assert "130 rows are in weeks that are older than 30 days." in await said("--days", "30")
    counted = json.loads(await said("--days", "30", "--json"))
    assert (counted["days"], counted["rows"]) == (30, 130)
    assert {(one["table"], one["rows"]) for one in counted["weeks"]} == {("attempts", 100), ("events", 30)}
    assert await http_store.rows("SELECT (SELECT count() FROM attempts), (SELECT count() FROM events)") == [(100, 30)]
