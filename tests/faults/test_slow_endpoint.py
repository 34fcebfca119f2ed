"""One endpoint is slow at times: when a process dies, the others must not get again what they got long ago."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.receivers import Behaviour
from tests.faults.scenario import Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]

MAX_OUTSTANDING = 100
LATE = Behaviour("/flaky", slow_rate=0.01, slow_seconds=10.0)


async def test_a_slow_endpoint_does_not_multiply_duplicates(stage: Stage) -> None:
    """At most ``max_outstanding_records`` records are in flight, plus those finished since the last commit (every 0.25 s)."""
    async with stage.play(
        "slow endpoint",
        roles=("api", "fanout", "retry"),
        behaviour=LATE,
        max_outstanding_records=str(MAX_OUTSTANDING),
        request_timeout_seconds="15",
    ) as run:
        async with run.under_load():
            await run.deployment.until_at_work()
            await asyncio.sleep(LATE.slow_seconds / 2)  # many slow answers are waited for
            run.faults.append(await run.deployment.kill("fanout", pause=0.5))
        found = await run.prove()
        assert found.duplicates <= 2 * MAX_OUTSTANDING * found.most_wanted, (
            "deliveries finished after a slow one must not be repeated"
        )
