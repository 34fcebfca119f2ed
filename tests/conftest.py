"""The Kafka broker that a test session shares: `--kafka=embedded` (the default) or `--kafka=apache`."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from hypothesis import settings

from pipeline.broker.local import ApacheKafkaBroker, LocalBroker, TansuBroker

ROOT = Path(__file__).resolve().parents[1]

# Examples have no deadline: the machine may be busy. What must be quick is measured in CPU time.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kafka",
        choices=("embedded", "apache"),
        default="embedded",
        help="the broker that tests run against: embedded (in memory) or apache (a real Apache Kafka; Java 17 and Maven)",
    )


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the event loop that the product runs on."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--kafka") == "apache":
        for (
            item
        ) in items:  # kafka-python forgets sockets whose broker went away; they are found at any time after that, in any test
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))
        return
    for item in items:
        if item.get_closest_marker("apache"):
            item.add_marker(pytest.mark.skip(reason="needs a real Apache Kafka: run pytest with --kafka=apache"))


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """The broker of the session, running. A broker that cannot start fails the tests that want it."""
    directory = tmp_path_factory.mktemp("kafka")
    chosen: LocalBroker
    if request.config.getoption("--kafka") == "apache":
        # A scenario that kills often does not wait for the shortest session that a broker allows by default (6 s).
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
def migrated_clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of ClickHouse with every table and no row. Tests copy it: to make the tables takes a second of CPU each time."""
    directory = tmp_path_factory.mktemp("migrated") / "clickhouse"
    subprocess.run([sys.executable, "-m", "tests.contract.migrated", directory], cwd=ROOT, check=True)
    return directory


@pytest.fixture
def clickhouse_directory(migrated_clickhouse: Path, tmp_path: Path) -> Path:
    """A directory of ClickHouse for one test: every table, no row. The database has the name that is the default."""
    return Path(shutil.copytree(migrated_clickhouse, tmp_path / "migrated-clickhouse", symlinks=True))
