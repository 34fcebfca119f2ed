"""``kill -9`` of every role in turn, at random moments, under load: nothing is lost, nothing is recorded twice."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.deployment import EVERY_ROLE
from tests.faults.scenario import Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]

GRACE_SECONDS = 40.0


async def test_killed_processes_lose_nothing(stage: Stage) -> None:
    async with stage.play("kill -9") as run:
        deployment, chance, kills = run.deployment, run.chance, run.scale.kills
        endpoints = await deployment.registered()
        # Every role equally often, in an order chosen by the seed.
        victims = [EVERY_ROLE[number % len(EVERY_ROLE)] for number in range(kills)]
        chance.shuffle(victims)
        for number, victim in enumerate(victims, 1):
            async with run.under_load(waves=kills):
                # No role has work while the fan-out rejoins its group.
                await deployment.until_at_work()
                await asyncio.sleep(chance.uniform(0.0, 1.0))
                fault = await deployment.kill(victim, pause=chance.uniform(0.1, 1.0))
            run.faults.append(fault)
            run.say(f"{number} of {kills}: killed {victim} with {fault.outstanding:,.0f} records in hand")
        found = await run.prove()
        assert found.in_flight_at_the_faults > 0, (
            "nothing was in flight at any kill, so the run proves nothing; it needs more load"
        )
        await deployment.roles["api"].until_ready()
        assert await deployment.registered() == endpoints, "the API has lost or changed endpoints"
        for process in deployment.roles.values():
            await process.terminate(GRACE_SECONDS)
