"""Limits per endpoint: never exceeded, slots passed on in order and never lost, whatever is cancelled when."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.fair_share import START
from pipeline.sender.concurrency_limiter import ConcurrencyLimiter, ConcurrencySlot
from tests.property_examples import examples
from tests.unit.fake_kafka import settle
from tests.unit.virtual_time import in_virtual_time

LONG = 30.0
CLOCK = "pipeline.sender.concurrency_limiter.monotonic"


@in_virtual_time(CLOCK)
async def test_there_are_as_many_slots_as_the_width() -> None:
    limiter = ConcurrencyLimiter(2, 0.01)

    first, second = await limiter.enter(7), await limiter.enter(7)

    assert first is not None
    assert second is not None
    assert await limiter.enter(7) is None
    with first:
        pass
    assert await limiter.enter(7) is not None


@in_virtual_time(CLOCK)
async def test_endpoints_are_limited_independently() -> None:
    limiter = ConcurrencyLimiter(1, 0.01)

    assert await limiter.enter(7) is not None
    assert await limiter.enter(8) is not None
    assert await limiter.enter(7) is None


async def test_no_wait_means_no_wait() -> None:
    limiter = ConcurrencyLimiter(1, 0)
    await limiter.enter(7)

    async with asyncio.timeout(60):
        assert await limiter.enter(7) is None


async def test_a_slot_is_released_when_its_block_fails() -> None:
    limiter = ConcurrencyLimiter(1, 0)
    lane = await limiter.enter(7)
    assert lane is not None

    with pytest.raises(RuntimeError), lane:
        raise RuntimeError

    assert await limiter.enter(7) is not None


async def test_a_free_slot_goes_to_the_longest_waiter() -> None:
    limiter = ConcurrencyLimiter(1, LONG)
    inside = await limiter.enter(7)
    assert inside is not None
    order: list[int] = []

    async def wait(number: int) -> None:
        lane = await limiter.enter(7)
        assert lane is not None
        with lane:
            order.append(number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(wait(number))
            await settle()
        with inside:
            pass

    assert order == list(range(10))


async def test_nobody_overtakes_the_waiters() -> None:
    limiter = ConcurrencyLimiter(1, LONG)
    inside = await limiter.enter(7)
    assert inside is not None
    waiting = asyncio.create_task(limiter.enter(7))
    await settle()

    with inside:
        pass
    late = asyncio.create_task(limiter.enter(7))
    await settle()

    assert waiting.done()
    assert not late.done()
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)


async def test_a_cancelled_wait_holds_nothing() -> None:
    limiter = ConcurrencyLimiter(1, LONG)
    inside = await limiter.enter(7)
    assert inside is not None
    waiting = asyncio.create_task(limiter.enter(7))
    await settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    with inside:
        pass

    assert await limiter.enter(7) is not None


async def test_a_slot_given_to_a_cancelled_waiter_is_passed_on() -> None:
    limiter = ConcurrencyLimiter(1, LONG)
    inside = await limiter.enter(7)
    assert inside is not None
    first, second = asyncio.create_task(limiter.enter(7)), asyncio.create_task(limiter.enter(7))
    await settle()

    with inside:
        pass  # the slot belongs to the first one now, which has not run yet
    first.cancel()
    await settle()

    assert first.cancelled()
    assert second.done()
    assert await second is not None


async def test_a_slot_given_to_a_cancelled_waiter_is_free_when_nobody_waits() -> None:
    limiter = ConcurrencyLimiter(1, LONG)
    inside = await limiter.enter(7)
    assert inside is not None
    waiting = asyncio.create_task(limiter.enter(7))
    await settle()
    with inside:
        pass
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    async with asyncio.timeout(60):
        assert await limiter.enter(7) is not None


class Traffic:
    """Many deliveries to a few endpoints; they enter, stay, leave, give up and are cancelled in an order that a seed decides."""

    def __init__(self, seed: int, width: int, wait_seconds: float) -> None:
        self.random = random.Random(seed)
        self.width = width
        self.limiter = ConcurrencyLimiter(width, wait_seconds)
        self.inside: Counter[int] = Counter()
        self.outcomes: Counter[str] = Counter()

    async def deliver(self, endpoint_id: int) -> None:
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
        lane = await self.limiter.enter(endpoint_id)
        if lane is None:
            self.outcomes["turned away"] += 1
            return
        with lane:
            self.inside[endpoint_id] += 1
            assert self.inside[endpoint_id] <= self.width
            try:
                if self.random.random() < 0.2:
                    await asyncio.sleep(0.002)
                for _ in range(self.random.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                self.inside[endpoint_id] -= 1
        self.outcomes["delivered"] += 1

    async def run(self, deliveries: int, endpoints: int) -> None:
        tasks = [asyncio.create_task(self.deliver(self.random.randrange(endpoints))) for _ in range(deliveries)]
        for _ in range(deliveries):
            if self.random.random() < 0.5:
                self.random.choice(tasks).cancel()
            await asyncio.sleep(0.002 if self.random.random() < 0.05 else 0)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError), result
        assert +self.inside == Counter()
        await self.is_as_wide_as_before(endpoints)

    async def is_as_wide_as_before(self, endpoints: int) -> None:
        for endpoint_id in range(endpoints):
            for _ in range(self.width):
                async with asyncio.timeout(0):
                    assert await self.limiter.enter(endpoint_id) is not None, "a slot was lost"
            assert await self.limiter.enter(endpoint_id) is None, "there is a slot too many"


@settings(max_examples=examples(40), deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3), st.sampled_from([0.0, 0.001, 0.01]), st.integers(1, 40))
def test_no_slot_is_lost_or_invented(seed: int, width: int, wait_seconds: float, deliveries: int) -> None:
    in_virtual_time(CLOCK)(Traffic(seed, width, wait_seconds).run)(deliveries, endpoints=2)


@in_virtual_time(CLOCK)
async def test_an_endpoint_without_traffic_takes_no_memory() -> None:
    limiter = ConcurrencyLimiter(1, 0.001)
    for endpoint_id in range(50):
        lane = await limiter.enter(endpoint_id)
        assert lane is not None
        assert await limiter.enter(endpoint_id) is None
        with lane:
            pass

    assert not limiter._queues


@in_virtual_time(CLOCK)
async def test_an_endpoint_that_answers_turns_nobody_away_however_long_the_queue() -> None:
    """Being busy is not the endpoint's fault: its answers take a tenth of the wait, so everyone gets a turn."""
    limiter, answer = ConcurrencyLimiter(2, 0.05), 0.005

    async def deliver() -> bool:
        place = await limiter.enter(7)
        if place is None:
            return False
        with place:
            await asyncio.sleep(answer)
        return True

    outcomes = await asyncio.gather(*(deliver() for _ in range(100)))

    assert all(outcomes)  # the last ones waited five times as long as is allowed without an answer


@in_virtual_time(CLOCK)
async def test_a_slow_endpoint_turns_away_what_it_cannot_take() -> None:
    limiter = ConcurrencyLimiter(2, 0.05)
    places = [await limiter.enter(7) for _ in range(2)]
    waiting = [asyncio.create_task(limiter.enter(7)) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert places[0] is not None
    with places[0]:
        pass  # one request ends, fewer than the width

    outcomes = await asyncio.gather(*waiting)

    assert [outcome is not None for outcome in outcomes] == [True, False, False]


async def started(limiter: ConcurrencyLimiter, count: int, endpoint_id: int = 7) -> list[ConcurrencySlot]:
    """Start this many requests, and return their slots."""
    places = []
    for _ in range(count):
        place = await limiter.enter(endpoint_id)
        assert place is not None
        place.start()
        places.append(place)
    return places


@in_virtual_time(CLOCK)
async def test_slow_endpoints_leave_room_within_their_budget() -> None:
    limiter = ConcurrencyLimiter(64, 0.02, slow_budget=4)
    for endpoint_id in range(4):
        await started(limiter, 2, endpoint_id)
    await asyncio.sleep(0.05)
    for endpoint_id in range(4):  # an endpoint is found to be slow when a delivery arrives
        await limiter.enter(endpoint_id)

    assert [await limiter.enter(endpoint_id) for endpoint_id in range(4)] == [None] * 4
    assert await limiter.enter(99) is not None
    assert limiter.slow_endpoints == 4


@in_virtual_time(CLOCK)
async def test_a_slow_endpoint_has_at_most_as_many_waiters_as_slots() -> None:
    limiter = ConcurrencyLimiter(2, 0.05, slow_budget=2)
    await started(limiter, 2)
    await asyncio.sleep(0.1)
    waiting = [asyncio.create_task(limiter.enter(7)) for _ in range(5)]

    await settle()
    turned_away_at_once = [task.done() for task in waiting]
    await asyncio.gather(*waiting)

    assert turned_away_at_once == [False, False, True, True, True]


async def test_the_first_fast_answer_admits_the_waiters() -> None:
    limiter = ConcurrencyLimiter(64, LONG)
    places = await started(limiter, START)
    waiting = [asyncio.create_task(limiter.enter(7)) for _ in range(100)]
    await settle()
    assert not any(task.done() for task in waiting)

    with places[0]:
        pass
    await settle()

    assert sum(task.done() for task in waiting) == 64 - START + 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@in_virtual_time(CLOCK)
async def test_a_request_that_has_not_started_does_not_make_its_endpoint_slow() -> None:
    """A request that has not started (no connection is free, say) uses our time and not the endpoint's."""
    limiter = ConcurrencyLimiter(2, 0.02, slow_budget=1)
    place = await limiter.enter(7)
    assert place is not None
    await asyncio.sleep(0.05)
    place.start()

    assert await limiter.enter(7) is not None
