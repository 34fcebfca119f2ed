"""Each role with the grants that ``oms-webhooks grants`` prints for it, and no others, on the real engine.

Each test takes seconds: ClickHouse starts in its own process for each role.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consumers.grants import Grantee, clickhouse_grants
from pipeline.core.search import AttemptQuery
from pipeline.ops.clock import utc_now
from pipeline.ops.settings import Settings
from pipeline.store.connection import StoreRejectedError
from pipeline.store.diagnosis import clickhouse_findings
from pipeline.store.erase import Eraser, Subject
from pipeline.store.migrate import bundled_migrations
from pipeline.store.rows import Table
from tests.contract.clickhouse_shim import ShimProcess
from tests.contract.store_case import PASSWORD, Store, http_settings, opened
from tests.contract.store_records import attempt_rows, event_rows
from tests.waiting import until

DATABASE = "granted"
CLUSTER = "webhooks"


def may(grantee: Grantee, cluster: str) -> list[str]:
    """Return the grants without the grantee: the engine has one user."""
    granted = clickhouse_grants(grantee, DATABASE, "someone", cluster)
    return [statement.removesuffix(" TO someone") for statement in granted]


class Engine:
    """A ClickHouse that can be restarted with another user's rights."""

    def __init__(self, directory: Path, cluster: str) -> None:
        self.cluster = cluster
        self._shim = ShimProcess(directory / "clickhouse", PASSWORD, cluster=cluster)

    @asynccontextmanager
    async def serving(self, grantee: Grantee) -> AsyncIterator[Settings]:
        self._shim.grants = may(grantee, self.cluster)
        await asyncio.to_thread(self._shim.start)
        try:
            yield http_settings(self._shim, DATABASE)
        finally:
            await asyncio.to_thread(self._shim.stop)

    @asynccontextmanager
    async def store_of(self, grantee: Grantee) -> AsyncIterator[Store]:
        async with self.serving(grantee) as settings, opened(settings) as store:
            yield store


@pytest.fixture(params=["", pytest.param(CLUSTER, marks=pytest.mark.slow)], ids=["single", "cluster"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    return Engine(tmp_path, request.param)


async def erase(store: Store, order_number: str) -> None:
    eraser = Eraser(store.connections)
    traces = await eraser.find(Subject(order_number=order_number))
    assert (len(traces.events), len(traces.attempts)) == (1, 1)
    await eraser.start(traces)

    async def is_done() -> bool:
        return not await eraser.left(traces)

    await until(is_done, "ClickHouse does not overwrite")


@pytest.mark.slow  # starts a shim three times; tests/unit test what is granted
async def test_each_role_works_with_its_own_grants(engine: Engine) -> None:
    async with engine.store_of(Grantee.OPERATOR) as store:
        assert [name for (name,) in await store.rows("SELECT name FROM schema_migrations ORDER BY name")] == list(
            bundled_migrations()
        )

    async with engine.store_of(Grantee.RECORDER) as store:
        await store.writer.append(Table.EVENTS, 0, event_rows(range(10)))
        await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(10)))
        await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(15)))
        assert await store.writer.assign(Table.ATTEMPTS, 0) == 15
        with pytest.raises(StoreRejectedError, match="Not enough privileges"):
            await store.connections.write(lambda client: client.command("DROP TABLE dead_letters"))

    async with engine.store_of(Grantee.API) as store:
        assert (await store.search.attempts(AttemptQuery())).total_count == 15
        assert await store.rows("SELECT sum(attempts) FROM attempts_hourly") == [(15,)], "the recorder's inserts feed the figures"
        await erase(store, "R000000003")
        assert await store.rows("SELECT count() FROM events WHERE request_body = ''") == [(1,)]
        assert await store.rows("SELECT count() FROM attempts WHERE order_number = ''") == [(1,)]
        with pytest.raises(StoreRejectedError, match="Not enough privileges"):
            await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(15, 16)))


async def test_missing_tables_without_the_grant_to_create_them_are_reported(engine: Engine) -> None:
    async with engine.serving(Grantee.RECORDER) as settings:
        with pytest.raises(StoreRejectedError, match="Not enough privileges"):
            async with opened(settings):
                pass
        findings = {finding.what: finding.problem async for finding in clickhouse_findings(settings, utc_now)}
        assert "may not create it" in str(findings[f"ClickHouse: database {DATABASE}"])
