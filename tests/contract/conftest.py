"""The stores of the contract tests: ClickHouse in this process, over HTTP (the shim in its own process), and over HTTP with
the tables of a cluster.

The first test with each of them waits until it has started and has applied all migrations.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from pipeline.ops.settings import Settings
from pipeline.sender import transport
from tests.contract.clickhouse_shim import ShimProcess
from tests.contract.empty_stores import EmptyStores, behind, in_this_process
from tests.contract.store_case import PASSWORD, Store, http_settings

HERE = Path(__file__).parent
ENGINE = pytest.StashKey[EmptyStores]()
"""The empty stores of the engine in this process, once a test has used one."""

ALL_FOUR = {"test_ssrf_corpus.py", "test_sender_addresses.py"}
"""Files whose tests run on each loop and each wire in ``make test`` too: they are about forbidden targets."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """``make test`` sends as the product does, and with the public API on the plain loop. The other two pairs are marked slow."""
    for item in items:
        chosen = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        is_once = (chosen.get("each_wire"), chosen.get("loop")) in {("fast", "asyncio"), ("plain", "uvloop")}
        if is_once and item.path.name not in ALL_FOUR:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def clickhouse_shim(migrated_clickhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShimProcess]:
    """Start the shim that tests share, with the default database migrated. A test that stops it starts it again."""
    directory = copied(migrated_clickhouse, tmp_path_factory.mktemp("shim"))
    shim = ShimProcess(directory, PASSWORD)
    shim.start()
    yield shim
    shim.stop()


@pytest.fixture(scope="session")
def clustered_shim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShimProcess]:
    """Start a shim that is the only node of a cluster."""
    shim = ShimProcess(tmp_path_factory.mktemp("cluster") / "clickhouse", PASSWORD, cluster="webhooks")
    shim.start()
    yield shim
    shim.stop()


@pytest.fixture(scope="session")
def embedded_stores(migrated_clickhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> EmptyStores:
    """Provide empty stores of the engine in this process."""
    return in_this_process(copied(migrated_clickhouse, tmp_path_factory.mktemp("embedded")))


def copied(migrated: Path, directory: Path) -> Path:
    """Return a copy that the engine may open."""
    return Path(shutil.copytree(migrated, directory / "clickhouse", symlinks=True))


@pytest.fixture(scope="session")
def shim_stores(clickhouse_shim: ShimProcess) -> Iterator[EmptyStores]:
    """Provide empty stores of the shared shim."""
    stores = behind(clickhouse_shim, Settings().clickhouse_database)
    yield stores
    stores.close()


@pytest.fixture(scope="session")
def clustered_stores(clustered_shim: ShimProcess) -> Iterator[EmptyStores]:
    """Provide empty stores of the cluster."""
    stores = behind(clustered_shim)
    yield stores
    stores.close()


@pytest.fixture(scope="session")
def embedded_engine(embedded_stores: EmptyStores, request: pytest.FixtureRequest) -> Iterator[EmptyStores]:
    """Keep the engine in this process open while consecutive tests use it, also across files: opening it takes 0.1 s."""
    request.config.stash[ENGINE] = embedded_stores
    yield embedded_stores
    embedded_stores.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Close the engine before a test that may open another directory: it opens only one."""
    try:
        return (yield)
    finally:
        wanted = (
            nextitem is not None
            and nextitem.path.is_relative_to(HERE)
            and {"stores", "embedded_store"} & set(_fixtures(nextitem))
        )
        if not wanted and (engine := item.config.stash.get(ENGINE, None)):
            engine.close()


def _fixtures(item: pytest.Item) -> list[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else []


@pytest.fixture(params=["chdb", *(pytest.param(name, marks=pytest.mark.slow) for name in ("http", "cluster"))])
def store_kind(request: pytest.FixtureRequest) -> str:
    """Return where the test's store is: in this process with ``make test``, also in the two others with ``make test-slow``."""
    return str(request.param)


@pytest.fixture
def store_settings(request: pytest.FixtureRequest, store_kind: str, tmp_path: Path) -> Settings:
    """Return settings for a database of the test's own, without tables."""
    if store_kind == "chdb":
        return Settings(clickhouse_path=tmp_path / "clickhouse")
    return http_settings(request.getfixturevalue("clickhouse_shim" if store_kind == "http" else "clustered_shim"))


@pytest.fixture
def stores(request: pytest.FixtureRequest, store_kind: str) -> EmptyStores:
    """Provide empty stores."""
    names = {"chdb": "embedded_engine", "http": "shim_stores", "cluster": "clustered_stores"}
    chosen: EmptyStores = request.getfixturevalue(names[store_kind])
    return chosen


@pytest.fixture
async def store(stores: EmptyStores) -> AsyncIterator[Store]:
    """Provide a store with all tables and no rows."""
    async with stores.one() as one:
        yield one


@pytest.fixture
async def embedded_store(embedded_engine: EmptyStores) -> AsyncIterator[Store]:
    """Provide the same, only in this process."""
    async with embedded_engine.one() as one:
        yield one


@pytest.fixture
async def http_store(shim_stores: EmptyStores, clickhouse_shim: ShimProcess) -> AsyncIterator[Store]:
    """Provide the store over HTTP; the shim's faults end with the test."""
    async with shim_stores.one() as one:
        yield one
        clickhouse_shim.recover()


@pytest.fixture(params=["fast", "plain"])
def each_wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Send with aiohttp's internals, and then with its public API alone, as with an unchecked release."""
    if request.param == "plain":
        monkeypatch.setattr(transport, "CHECKED_WITH", frozenset())
    return str(request.param)
