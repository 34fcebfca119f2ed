"""Workers come and go under load: at most, the records in progress when a partition moved are repeated."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.evidence import Evidence
from tests.faults.scenario import Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]

SCALED = ("fanout", "retry", "recorder")
GRACE_SECONDS = 40.0
FENCED = "oms_webhooks_fenced_completions_total"
IN_HAND = "oms_webhooks_outstanding_records"


async def test_workers_coming_and_going_repeat_little(stage: Stage) -> None:
    async with stage.play("rebalances") as run:
        deployment, fenced = run.deployment, dict.fromkeys(SCALED, 0.0)
        names = {role: role for role in SCALED}
        for number in range(1, run.scale.rounds + 1):
            async with run.under_load(waves=run.scale.rounds):
                added = {role: deployment.launch(role, f"{role}-{number}") for role in SCALED}
                for process in added.values():
                    await process.until_ready()
                await added["fanout"].until_busy()
                run.say(f"round {number}: a second worker of {', '.join(SCALED)} has joined")
                await asyncio.sleep(run.chance.uniform(0.5, 2.0))
                for role in SCALED:
                    # Its records in progress may still be fenced before it is gone, and nobody could read that any more.
                    leaving = deployment.roles[names[role]]
                    fenced[role] += (await leaving.metric(FENCED) or 0.0) + (await leaving.metric(IN_HAND) or 0.0)
                    seconds = await deployment.dismiss(names[role], GRACE_SECONDS)
                    run.say(f"round {number}: {names[role]} has left, after {seconds:.1f} s")
                    names[role] = f"{role}-{number}"
        for role in SCALED:
            fenced[role] += await deployment.roles[names[role]].metric(FENCED) or 0.0
        run.say(f"completions that were fenced, or may have been: {fenced}")

        def in_flight(found: Evidence) -> int:
            """Count records whose partition moved while they were in progress: they end as fenced completions."""
            return int(fenced["fanout"]) * found.most_wanted + int(fenced["retry"])

        await run.prove(most_duplicates=in_flight)
