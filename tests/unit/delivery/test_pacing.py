"""A rate limit after a stall of the process, on a clock that jumps to the next event."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.core.circuit import CircuitLimits
from pipeline.delivery.admission import Admission, AdmissionLimits, Pass
from pipeline.sender.concurrency_limiter import ConcurrencyLimiter
from tests.unit.delivery.test_admission import limited
from tests.unit.virtual_time import VirtualLoop

LIMIT = 50


async def _begun(stall_after: float, stall: float) -> list[float]:
    """Return when 200 simultaneous requests begin in a process that stalls for a while."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    admission = Admission(
        ConcurrencyLimiter(64, 1.0),
        AdmissionLimits(CircuitLimits(), 10.0, 10_000),
        on_change=lambda *_: None,
        clock=loop.time,
    )
    to, begun = limited(LIMIT), list[float]()

    async def deliver() -> None:
        admitted = await admission.enter(to)
        assert isinstance(admitted, Pass)
        with admitted:
            begun.append(loop.time())

    def jump() -> None:
        loop._jumping.now += stall

    loop.call_later(stall_after, jump)
    await asyncio.gather(*(deliver() for _ in range(200)))
    return begun


@pytest.mark.parametrize("stall", [0.0, 0.03, 0.3, 2.0])
def test_requests_that_waited_during_a_stall_do_not_begin_at_once(stall: float) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        begun = runner.run(_begun(1.0, stall))

    assert len(begun) == 200
    assert max(sum(1 for one in begun if first <= one < first + 1.0) for first in begun) <= 1.1 * LIMIT
    assert begun[-1] <= 200 / LIMIT + stall + 0.1, "apart from that, no part of the rate is lost"
