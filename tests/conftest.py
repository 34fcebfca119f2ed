"""The Kafka broker that a test session shares: `--kafka=embedded` (the default) or `--kafka=apache`."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
import structlog
import uvloop

from pipeline.devtools.local_broker import ApacheKafkaBroker, LocalBroker, TansuBroker
from tests import reasons
from tests.property_examples import register_profiles

ROOT = Path(__file__).resolve().parents[1]

register_profiles()

_ALL_SLOW = re.compile(r"^pytestmark = (?:\[[^\]]*?)?pytest\.mark\.slow\b", re.MULTILINE)
"""The mark of a file whose tests are all slow."""

# structlog's default, but without tracebacks drawn by rich: those took a fifth of the CPU of the HTTP API's tests.
_PLAIN_LOG: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.dev.set_exc_info,
    structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
    structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kafka",
        choices=("embedded", "apache"),
        default="embedded",
        help="the broker that tests run against: embedded (in memory) or apache (a real Apache Kafka; Java 17 and Maven)",
    )
    parser.addoption("--reasons", action="store_true", help="list the tests that take more than a second and do not say why")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--reasons"):
        config.pluginmanager.register(reasons)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests on the event loop that the product uses."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_runtest_setup() -> None:
    """Plain logs, unless a test has chosen its own; ``structlog.reset_defaults()`` removes them."""
    if not structlog.is_configured():
        # To stderr: late log lines of a Kafka client's thread must not be part of a command's output.
        structlog.configure(processors=_PLAIN_LOG, logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    shared = [name for name, count in Counter(item.nodeid for item in items).items() if count > 1]
    if shared:
        raise pytest.UsageError(f"Tests share a name, and pytest-xdist would run only one of them: {', '.join(shared)}")
    if config.getoption("--kafka") == "apache":
        return
    for item in items:
        if item.get_closest_marker("apache"):
            item.add_marker(pytest.mark.skip(reason="needs a real Apache Kafka: run pytest with --kafka=apache"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without the slow tests, read no file that has no others: each process of the run would, for seven hundred tests."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
        return None
    return True if _ALL_SLOW.search(collection_path.read_text()) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep collected tests until the end: no garbage collection during the collection, and none of them afterwards."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A process of pytest-xdist sends three reports per test, with all its keywords; nobody reads those of a passed test."""
    if report.passed:
        report.keywords = {}


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """Run the broker of the session. If it cannot start, the tests that need it fail."""
    directory = tmp_path_factory.mktemp("kafka")
    chosen: LocalBroker
    if request.config.getoption("--kafka") == "apache":
        # A scenario with many kills should not wait for the shortest session that a broker allows by default (6 s).
        chosen = ApacheKafkaBroker(data_dir=directory, server_properties={"group.min.session.timeout.ms": "2000"})
    else:
        chosen = TansuBroker(log_path=directory / "broker.log")
    chosen.start()
    yield chosen
    chosen.stop()


@pytest.fixture(scope="session")
def bootstrap_servers(broker: LocalBroker) -> str:
    """The address of the session's broker."""
    return broker.bootstrap_servers


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics and groups that no other test uses."""
    return f"t{secrets.token_hex(4)}."


@pytest.fixture(scope="session")
def migrated_clickhouse(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of ClickHouse with every table and no row. Tests copy it, because creating the tables takes seconds of CPU
    each time.

    All processes of a run share one.
    """
    shared = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # a process of pytest-xdist, whose own directory is inside that of the run
        shared = shared.parent
    directory = shared / "migrated-clickhouse"
    with (shared / "migrated-clickhouse.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            made = Path(tempfile.mkdtemp(dir=shared)) / "clickhouse"
            subprocess.run([sys.executable, "-m", "tests.contract.migrated", made], cwd=ROOT, check=True)
            made.rename(directory)  # a process that dies half-way leaves none
    return directory


@pytest.fixture
def clickhouse_directory(migrated_clickhouse: Path, tmp_path: Path) -> Path:
    """A directory of ClickHouse for one test: every table, no row. The database has the default name."""
    return Path(shutil.copytree(migrated_clickhouse, tmp_path / "migrated-clickhouse", symlinks=True))
