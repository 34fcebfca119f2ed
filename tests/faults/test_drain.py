"""SIGTERM to every role under load, again and again: each finishes its records in progress in time, and nothing is sent twice."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.deployment import EVERY_ROLE
from tests.faults.scenario import Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]

DRAIN_SECONDS = 25
GRACE_SECONDS = 35.0  # the grace period of an orchestrator: the drain, the last commit, leaving the groups


async def test_drained_processes_repeat_nothing(stage: Stage) -> None:
    async with stage.play("SIGTERM", drain_seconds=str(DRAIN_SECONDS)) as run:
        victims = [*EVERY_ROLE] * run.scale.restarts
        run.chance.shuffle(victims)
        for victim in victims:
            process = run.deployment.roles[victim]
            async with run.under_load(waves=len(victims)):
                await run.deployment.until_at_work()
                await asyncio.sleep(run.chance.uniform(0.0, 1.0))
                in_hand = 0.0 if victim == "api" else await process.until_busy()
                seconds = await process.terminate(GRACE_SECONDS)
                process.start()
            run.say(f"SIGTERM {victim} with {in_hand:,.0f} records in hand: ended after {seconds:.1f} s")
        await run.prove(most_duplicates=0)
