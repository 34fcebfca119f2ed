"""SIGTERM of the fan-out and of the retry under load: they finish what they have in hand and end in time; nobody gets anything twice."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Tell
from tests.faults.deployment import FLAKY, deployed, examples, simulated_events
from tests.faults.receivers import Behaviour

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(300)]

EVENTS = 3_000
EVENTS_A_SECOND = 200
FAIL_RATE = 0.3
DRAIN_SECONDS = 25
GRACE_SECONDS = 35.0  # what an orchestrator grants: the drain, the last commit, the good-byes
SETTLE_SECONDS = 120.0


async def test_a_drained_process_repeats_nothing(bootstrap_servers: str, tmp_path: Path, seed: int, tell: Tell) -> None:
    events = simulated_events(EVENTS, seed)
    behaviour = Behaviour(FLAKY, fail_rate=FAIL_RATE, seed=seed)
    prefix, roles = f"drain{secrets.token_hex(4)}.", ("api", "fanout", "retry")
    async with deployed(
        tmp_path, bootstrap_servers, prefix, roles=roles, behaviour=behaviour, drain_seconds=str(DRAIN_SECONDS)
    ) as deployment:
        started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(deployment.publish(events, EVENTS_A_SECOND))
            for _ in range(2):
                for role in ("fanout", "retry"):
                    process = deployment.roles[role]
                    await deployment.until_at_work(role)
                    in_hand = await process.until_busy()
                    seconds = await process.terminate(GRACE_SECONDS)
                    tell(f"SIGTERM {role:7} with {in_hand:5,.0f} records in hand: ended after {seconds:.1f} s")
                    process.start()
        await deployment.settle(SETTLE_SECONDS)
        seconds = time.monotonic() - started
        found = await asyncio.to_thread(deployment.collect)
        found.seconds = seconds
    tell(found.summary())
    assert not found.missing, f"{len(found.missing):,} notifications never arrived, such as {examples(found.missing)}"
    assert not found.lost, f"{len(found.lost):,} notifications have fewer requests than were due, such as {examples(found.lost)}"
    twice = [pair for pair, count in found.balance.items() if count > 0]
    assert not twice, f"{len(twice):,} notifications were repeated without need, such as {examples(twice)}"
