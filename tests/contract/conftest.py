"""The store that contract tests run against, three times: ClickHouse in this process, over HTTP (the shim in a process of its own),
and over HTTP with the tables of a cluster.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pipeline.ops.settings import Settings
from pipeline.sender import wire
from tests.contract.clickhouse_shim import ShimProcess
from tests.contract.store_case import PASSWORD, Store, http_settings, opened


@pytest.fixture(scope="session")
def clickhouse_shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShimProcess]:
    """The shim that tests share. A test that stops it starts it again."""
    shim = ShimProcess(tmp_path_factory.mktemp("clickhouse"), PASSWORD)
    shim.start()
    yield shim
    shim.stop()


@pytest.fixture(scope="session")
def clustered_shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShimProcess]:
    """A shim that is the only node of a cluster."""
    shim = ShimProcess(tmp_path_factory.mktemp("cluster") / "clickhouse", PASSWORD, cluster="webhooks")
    shim.start()
    yield shim
    shim.stop()


@pytest.fixture(params=["chdb", *(pytest.param(name, marks=pytest.mark.slow) for name in ("http", "cluster"))])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings for a database of the test's own."""
    if request.param == "chdb":
        return Settings(clickhouse_path=tmp_path / "clickhouse")
    shim: ShimProcess = request.getfixturevalue("clickhouse_shim" if request.param == "http" else "clustered_shim")
    return http_settings(shim)


@pytest.fixture
async def store(store_settings: Settings, migrated_clickhouse: Path) -> AsyncIterator[Store]:
    """The store, on both engines."""
    if store_settings.clickhouse_path is not None:
        shutil.copytree(migrated_clickhouse, store_settings.clickhouse_path, symlinks=True)
    async with opened(store_settings) as one:
        yield one


@pytest.fixture
async def http_store(clickhouse_shim: ShimProcess) -> AsyncIterator[Store]:
    """The store over HTTP; the shim's faults are taken away afterwards."""
    async with opened(http_settings(clickhouse_shim)) as one:
        yield one
    clickhouse_shim.recover()


@pytest.fixture(params=["fast", "plain"])
def each_wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Senders in this process use the insides of aiohttp, and then its public API alone, as with a release that nobody has checked."""
    if request.param == "plain":
        monkeypatch.setattr(wire, "CHECKED_WITH", frozenset())
    return str(request.param)
