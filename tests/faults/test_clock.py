"""The clock of the fan-out or the retry jumps by an hour, forward and back: nothing is lost, and nothing waits for an hour.

The promise: the fan-out's clock does not influence when a retry is due, since Kafka's clock says when it was scheduled. While the
retry's clock is wrong, a retry may be early (not before it was scheduled) or late, by its delay at most.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict

import pytest

from tests.faults.clocks import JumpingClock
from tests.faults.evidence import Evidence
from tests.faults.scenario import Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]

HOUR = 3600
NOTICED_S = 2.0
PATIENCE_S = 300.0
"""Far less than an hour, far more than any delay of the schedule: with only the public APIs, and next to two other parts of the suite,
all circuits may open under the load, and the parked deliveries take more than 90 s.
"""
TOLERANCE_S = 0.05


@pytest.mark.parametrize("role", ["fanout", "retry"])
async def test_a_jumping_clock_loses_nothing(stage: Stage, role: str) -> None:
    clock = JumpingClock(stage.directory / f"{role}.clock")
    async with stage.play(f"clock of {role}", commands={role: clock.command}) as run:
        jumps = [HOUR, 0, -HOUR, 0] if run.scale.rounds > 1 else [HOUR, -HOUR]
        for offset in jumps:
            async with run.under_load(waves=len(jumps)):
                await run.deployment.until_at_work()
                await asyncio.sleep(run.chance.uniform(0.2, 1.0))
                clock.jump(offset)
                run.say(f"the clock of {role} is now {offset:+,} s off")
                await asyncio.sleep(NOTICED_S)
            # Without waiting for the hour: everything is finished while the clock is still wrong.
            await run.deployment.settle(PATIENCE_S)
        found = await run.prove(most_duplicates=0)
        if role == "fanout":
            assert not (early := too_early(found)), f"{len(early)} retries came before they were due, such as {early[:3]}"


def too_early(found: Evidence) -> list[tuple[tuple[str, str], float]]:
    """Return retries that came before they were due, and by how many seconds."""
    requests, due = defaultdict(list), defaultdict(list)
    for request in found.requests:
        requests[request.event_id, request.path].append(request.at)
    for record in found.scheduled:
        due[record.pair].append(record.due_at)
    pairs = ((pair, zip(sorted(times), sorted(requests[pair])[1:], strict=False)) for pair, times in due.items())
    gaps = itertools.chain.from_iterable(((pair, due_at - at) for due_at, at in repeats) for pair, repeats in pairs)
    return [(pair, gap) for pair, gap in gaps if gap > TOLERANCE_S]
