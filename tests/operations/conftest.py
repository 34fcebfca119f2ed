"""A deployment with each role as a process. Its tests take long: every test starts all roles, and faults are seen only at the next scrape
or report.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.deployment import Deployment, deployed
from tests.faults.receivers import Behaviour


@pytest.fixture
def behaviour() -> Behaviour:
    """Return how one of the receivers misbehaves: not at all, unless a test says otherwise."""
    return Behaviour(path="/flaky", fail_rate=0.0)


@pytest.fixture
async def deployment(
    bootstrap_servers: str, topic_prefix: str, tmp_path: Path, behaviour: Behaviour
) -> AsyncIterator[Deployment]:
    """Run each role as a process, on the session's broker, with their own ClickHouse and receivers."""
    async with deployed(
        tmp_path,
        bootstrap_servers,
        topic_prefix,
        behaviour=behaviour,
        kafka_fetch_max_wait_ms="30",
        kafka_static_members="false",
        drain_seconds="5",
    ) as running:
        yield running
