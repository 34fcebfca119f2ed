"""An endpoint that is back with a large backlog: what it receives, on a clock that jumps to the next event.

Tests with thousands of deliveries take seconds, which are CPU.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import Counter
from datetime import timedelta

import pytest

from pipeline.core.circuit import CircuitLimits
from pipeline.core.recovery_ramp import RampLimits
from pipeline.delivery.admission import PARKED_WHILE_BUSY, Admission, AdmissionLimits, Refusal
from pipeline.endpoints.endpoint import Endpoint
from pipeline.ops.settings import Settings
from pipeline.sender.concurrency_limiter import ConcurrencyLimiter
from tests.unit.delivery.delivery_case import NO_ANSWER, answer, endpoint
from tests.unit.delivery.test_admission import limited
from tests.unit.sample_events import NOW
from tests.unit.virtual_time import VirtualLoop

POLICIES = Settings().retry_policies
SHORT = tuple(delay for delay in POLICIES.delays if delay <= PARKED_WHILE_BUSY)
OUTSTANDING = 1000
ANSWERS_IN = 0.02
RAMP = RampLimits(start_per_second=10.0, double_seconds=10.0, end_per_second=1000.0)


class Outage:
    """The retry of one process, and an endpoint that was down when everything was parked."""

    def __init__(self, to: Endpoint, ramp: RampLimits | None) -> None:
        self.to = to
        self.seen: list[float] = []
        self.parked = 0
        self.is_down = True
        self.loop = asyncio.get_running_loop()
        self.waiting: list[tuple[float, int]] = []
        self.admission = Admission(
            ConcurrencyLimiter(64, 1.0),
            AdmissionLimits(CircuitLimits(failures=10, open_seconds=5.0, max_open_seconds=600.0), 1.0, 256, ramp),
            on_change=lambda *_: None,
            clock=self.loop.time,
            current=lambda _: to,
        )

    async def deliver(self, parked: int) -> None:
        admitted = await self.admission.enter(self.to)
        if isinstance(admitted, Refusal):
            self.parked += 1
            delay = POLICIES.standard.parking(parked, admitted.at_least, admitted.longest, SHORT if admitted.is_recovery else ())
            heapq.heappush(self.waiting, (self.loop.time() + delay.total_seconds(), parked + 1))
            return
        with admitted:
            admitted.start()
            self.seen.append(self.loop.time())
            await asyncio.sleep(ANSWERS_IN)
            admitted.end(NO_ANSWER if self.is_down else answer(200), NOW)

    async def open_circuit(self) -> None:
        while not isinstance(await self.admission.enter(self.to), Refusal):
            await self.deliver(0)
        self.is_down = False
        self.waiting.clear()
        self.seen.clear()
        self.parked = 0
        await asyncio.sleep(6.0)
        await self.deliver(0)  # the probe
        self.seen.clear()

    async def drain(self, count: int) -> None:
        """Deliver the backlog: all of it is due at once and was parked five times before."""
        began = self.loop.time()
        self.waiting = [(began, 5)] * count
        in_progress: set[asyncio.Task[None]] = set()
        while self.waiting or in_progress:
            while self.waiting and len(in_progress) < OUTSTANDING and self.waiting[0][0] <= self.loop.time():
                task = asyncio.ensure_future(self.deliver(heapq.heappop(self.waiting)[1]))
                in_progress.add(task)
                task.add_done_callback(in_progress.discard)
            for _ in range(3):
                await asyncio.sleep(0)  # those that are refused are parked at once
            # A process needs a second to read, park and commit 5,000 records.
            next_due = self.waiting[0][0] if self.waiting and len(in_progress) < OUTSTANDING else math.inf
            await asyncio.sleep(max(0.2, min(next_due - self.loop.time(), 1.0 if in_progress else 600.0)))
        self.seen = [at - began for at in self.seen]


def recovery(count: int, to: Endpoint, ramp: RampLimits | None) -> Outage:
    async def run() -> Outage:
        outage = Outage(to, ramp)
        await outage.open_circuit()
        await outage.drain(count)
        return outage

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


def by_second(outage: Outage) -> Counter[int]:
    return Counter(int(at) for at in outage.seen)


@pytest.mark.parametrize("count", [2_000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_a_recovered_endpoint_gets_a_ramp_and_no_flood(count: int) -> None:
    outage = recovery(count, endpoint(), RAMP)

    rates = by_second(outage)
    assert len(outage.seen) == count, "and gets everything"
    for second in range(60):
        assert rates[second] <= 1.5 * RAMP.start_per_second * 2 ** ((second + 1) / RAMP.double_seconds) + 5, f"in second {second}"
    assert sum(rates[second] for second in range(10)) > 50, "the permitted rate is used"
    assert max(outage.seen) < timedelta(minutes=30).total_seconds()
    assert outage.parked < 6 * count, "the backlog is not written again every few seconds"


def test_without_a_ramp_a_recovered_endpoint_is_flooded() -> None:
    assert max(by_second(recovery(2_000, endpoint(), None)).values()) >= 1000


def test_the_ramp_ends_at_the_endpoints_own_limit() -> None:
    outage = recovery(2_000, limited(20), RAMP)

    rates = by_second(outage)
    assert len(outage.seen) == 2_000
    assert rates[0] <= 12
    assert max(rates.values()) <= 22


async def test_an_endpoint_that_fails_again_during_its_ramp_starts_over() -> None:
    seconds = [0.0]
    to = endpoint()
    admission = Admission(
        ConcurrencyLimiter(64, 1.0),
        AdmissionLimits(CircuitLimits(failures=2, open_seconds=5.0), 0.0, 256, RAMP),
        on_change=lambda *_: None,
        clock=lambda: seconds[0],
    )

    async def exchange(is_good: bool) -> bool:
        admitted = await admission.enter(to)
        if isinstance(admitted, Refusal):
            return False
        with admitted:
            admitted.end(answer(200) if is_good else NO_ANSWER, NOW)
        return True

    admission.begin_ramp(to.id)
    for _ in range(60):
        seconds[0] += 0.5
        assert await exchange(is_good=True)
    grown = admission._ramps[to.id].per_second
    for _ in range(2):
        seconds[0] += 1.0
        await exchange(is_good=False)
    assert to.id not in admission._ramps, "its circuit is open"

    seconds[0] += 10.0
    assert await exchange(is_good=True)
    assert admission._ramps[to.id].per_second == RAMP.start_per_second < grown


async def test_a_deleted_endpoint_gets_no_ramp() -> None:
    gone = Admission(
        ConcurrencyLimiter(64, 1.0),
        AdmissionLimits(CircuitLimits(), 0.0, 256, RAMP),
        on_change=lambda *_: None,
        current=lambda _: None,
    )
    gone.begin_ramp(1)
    assert gone._ramps == {}
