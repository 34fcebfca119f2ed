"""One endpoint answers late at times: that a process dies must not repeat, to all the others, what they had long since got."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Tell
from tests.faults.deployment import FLAKY, SUBSCRIPTIONS, deployed, examples, simulated_events
from tests.faults.receivers import Behaviour

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(300)]

EVENTS = 4_000
EVENTS_A_SECOND = 200
MAX_OUTSTANDING = 100
SLOW_RATE = 0.01
SLOW_SECONDS = 10.0
SETTLE_SECONDS = 120.0


async def test_a_slow_endpoint_does_not_multiply_duplicates(
    bootstrap_servers: str, tmp_path: Path, seed: int, tell: Tell
) -> None:
    """In flight are at most ``max_outstanding_records`` records, and what was finished since the last commit (every 0.25 s)."""
    events = simulated_events(EVENTS, seed)
    behaviour = Behaviour(FLAKY, slow_rate=SLOW_RATE, slow_seconds=SLOW_SECONDS, seed=seed)
    prefix, roles = f"slow{secrets.token_hex(4)}.", ("api", "fanout", "retry")
    async with deployed(
        tmp_path, bootstrap_servers, prefix, roles=roles, behaviour=behaviour, max_outstanding_records=str(MAX_OUTSTANDING)
    ) as deployment:
        started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(deployment.publish(events, EVENTS_A_SECOND))
            await deployment.until_at_work()
            # Long enough for many slow answers to be waited for.
            await asyncio.sleep(SLOW_SECONDS)
            kill = await deployment.kill("fanout", pause=0.5)
        await deployment.settle(SETTLE_SECONDS)
        seconds = time.monotonic() - started
        found = await asyncio.to_thread(deployment.collect)
        found.kills, found.seconds = [kill], seconds
    tell(found.summary())
    assert not found.missing, f"{len(found.missing):,} notifications never arrived, such as {examples(found.missing)}"
    duplicates, bound = found.duplicates, 2 * MAX_OUTSTANDING * len(SUBSCRIPTIONS)
    assert duplicates <= bound, (
        f"{duplicates:,} notifications were repeated; at most {bound:,} could be in hand. "
        "What is finished behind a slow delivery must not be repeated."
    )
