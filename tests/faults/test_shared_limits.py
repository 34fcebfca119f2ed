"""Processes that send to one endpoint: together they keep its limit, and all know of a circuit that one has opened."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.bench.rate_limits import PATH, SeveralFanOuts, measure, several_fan_outs, ways_to
from tests.faults.conftest import Tell
from tests.faults.receivers import Behaviour

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(600)]

LIMIT = 20
SECONDS = 25.0
MAX_TOKENS = 3 * LIMIT
"""A burst that is allowed when a busy machine resumes a process. If the limit applied to each of two processes, a bucket would fill with
0.9 times the limit each second."""
KNOWN_SECONDS = 2.0
FAILURES = 10


async def test_two_processes_together_keep_an_endpoints_limit(bootstrap_servers: str, tmp_path: Path, tell: Tell) -> None:
    found = await measure(bootstrap_servers, tmp_path, 2, LIMIT, SECONDS)
    tell(str(found))
    assert found.taking_part == 2
    assert found.bucket <= MAX_TOKENS
    assert found.requests >= LIMIT, "nothing was sent"


async def test_a_circuit_opened_by_one_process_is_known_to_the_other(bootstrap_servers: str, tmp_path: Path, tell: Tell) -> None:
    settings = {
        "circuit_failures": str(FAILURES),
        "circuit_open_seconds": "300",
        "retry_delays": "1h",
        "circuit_open_max_seconds": "600",
    }
    failing = Behaviour(PATH, fail_rate=1.0)
    async with several_fan_outs(bootstrap_servers, tmp_path, 2, behaviour=failing, settings=settings) as several:
        other = several.fan_outs[1]
        own, others = await ways_to(several)
        # The other one has sent there too, and seen one failure: too few to open its own circuit.
        await several.publish("first", others)
        await other.until_above("oms_webhooks_attempts_total", 0)

        watch = _Watch()
        ticking = asyncio.create_task(watch.run())
        seen = asyncio.gather(_open_at(several, 0), _open_at(several, 1))
        for number in range(3 * FAILURES):
            await several.publish(f"e{number}", own)
        opened, known = await seen
        ticking.cancel()
        tell(f"known to the other process after {known - opened:.2f} s; this one was held up for {watch.worst:.2f} s at most")
        assert known - opened <= KNOWN_SECONDS + 4 * watch.worst

        before = len(several.times())
        for number in range(3 * FAILURES):
            await several.publish(f"later{number}", others)
        await other.until_above("oms_webhooks_parked_total", 3 * FAILURES - 2)
        probes = len(several.times()) - before
        assert probes <= 1, "it probes once, as the fault may be the other process's; all other deliveries are parked"


class _Watch:
    """Measures how long this process was stalled: others on this machine are, too."""

    worst = 0.0

    async def run(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.02)
            now = time.monotonic()
            self.worst, last = max(self.worst, now - last - 0.02), now


async def _open_at(several: SeveralFanOuts, position: int) -> float:
    await several.fan_outs[position].until_above("oms_webhooks_circuits", 0, state="open")
    return time.monotonic()
