"""SIGSTOP to workers until their groups have removed them, then SIGCONT: they notice, and commit nothing for others' partitions."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.commit_history import history, steps_back
from tests.faults.evidence import Evidence, Fault
from tests.faults.scenario import Scenario, Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]

FROZEN = ("fanout", "retry", "recorder")
BEYOND_THE_SESSION_S = 4.0
MAX_OUTSTANDING = 30
BURST = 2_000.0
REBALANCES = "oms_webhooks_rebalances_total"


async def test_a_zombie_commits_nothing(stage: Stage) -> None:
    # More events than can be handled at once, so that a zombie also has records in memory that it has not started.
    async with stage.play("zombies", max_outstanding_records=str(MAX_OUTSTANDING)) as run:
        deployment = run.deployment
        for role in FROZEN:
            await deployment.launch(role, f"{role}-zombie").until_ready()
        assigned: dict[str, float] = {}
        for number in range(1, run.scale.rounds + 1):
            async with run.under_load(waves=run.scale.rounds, rate=BURST):
                await deployment.roles["fanout-zombie"].until_above_zero("oms_webhooks_attempts_total")
                await deployment.roles["retry-zombie"].until_above_zero("oms_webhooks_attempts_total")
                # Without partitions a zombie has nothing to lose: it must have got some, in later rounds again.
                for role in FROZEN:
                    zombie = deployment.roles[f"{role}-zombie"]
                    assigned[role] = await zombie.until_above(REBALANCES, assigned.get(role, 0.0), kind="assigned")
                await asyncio.sleep(run.chance.uniform(0.2, 1.0))
                await freeze(run)
                run.say(f"round {number}: frozen, until their sessions have timed out")
                await asyncio.sleep(deployment.settings.kafka_session_timeout_ms / 1000 + BEYOND_THE_SESSION_S)
                for role in FROZEN:
                    deployment.roles[f"{role}-zombie"].thaw()
                run.say(f"round {number}: thawed")
        in_hand = sum(fault.outstanding for fault in run.faults if fault.role == "fanout")

        def in_flight(found: Evidence) -> int:
            """Return what they had started, and what they had in memory and started when they were thawed."""
            return found.in_flight_at_the_faults + int(in_hand) * found.most_wanted

        await run.prove(most_duplicates=in_flight)
        for role in FROZEN:
            group = getattr(deployment.settings.topics, f"{role}_group")
            commits = await asyncio.to_thread(history, deployment.kafka, group)
            assert commits
            back = steps_back(commits)
            assert not back, f"commits of {role} went back, as only a zombie's do: " + "; ".join(map(str, back[:5]))
        for role in FROZEN:
            lost = await deployment.roles[f"{role}-zombie"].metric(REBALANCES, kind="lost")
            assert lost, f"{role}-zombie never lost its partitions, so the run proves nothing"


async def freeze(run: Scenario) -> None:
    """Stop one worker of each role while it has work in progress, and record what was in flight."""
    for role in FROZEN:
        process = run.deployment.roles[f"{role}-zombie"]
        outstanding = await process.metric("oms_webhooks_outstanding_records") or 0.0
        process.freeze()
        at = time.time()
        run.faults.append(Fault("SIGSTOP", role, at, await run.deployment.committed(role), outstanding, at))
