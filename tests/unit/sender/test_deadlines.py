"""One timer for many deadlines: each is kept, none is early, and a time limit cancels its own block and nothing else."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pipeline.sender.deadlines import Deadlines, TimeLimit
from tests.unit.virtual_time import VirtualLoop, in_virtual_time

CLOCK = "pipeline.sender.deadlines.monotonic"


@in_virtual_time(CLOCK)
async def test_deadlines_expire_in_order_and_in_time() -> None:
    loop = asyncio.get_running_loop()
    expired: list[tuple[int, float]] = []
    added: dict[int, float] = {}
    everything = asyncio.Event()

    def expire(number: int) -> None:
        expired.append((number, loop.time() - added[number]))
        if len(expired) == 5:
            everything.set()

    deadlines: Deadlines[int] = Deadlines(0.03, expire)
    for number in range(5):
        added[number] = loop.time()
        deadlines.add(number)
        await asyncio.sleep(0.01)

    async with asyncio.timeout(60):
        await everything.wait()
    assert [number for number, _ in expired] == [0, 1, 2, 3, 4]
    assert [seconds for _, seconds in expired] == pytest.approx([0.03] * 5, abs=0.002)


async def test_a_removed_deadline_does_not_expire() -> None:
    expired: list[str] = []
    last = asyncio.Event()

    def expire(name: str) -> None:
        expired.append(name)
        if name == "last":
            last.set()

    deadlines: Deadlines[str] = Deadlines(0.01, expire)
    for name in ("removed", "kept", "last"):
        deadlines.add(name)
    deadlines.remove("removed")
    deadlines.remove("never added")

    async with asyncio.timeout(60):
        await last.wait()
    assert expired == ["kept", "last"]


@in_virtual_time(CLOCK)
async def test_it_continues_after_a_pause() -> None:
    expired = asyncio.Queue[int]()
    deadlines: Deadlines[int] = Deadlines(0.005, expired.put_nowait)

    for number in range(3):
        deadlines.add(number)
        async with asyncio.timeout(60):
            assert await expired.get() == number
        await asyncio.sleep(0.01)


@in_virtual_time(CLOCK)
async def test_after_a_freeze_all_wait_a_little_longer_once() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    expired: list[tuple[str, float]] = []
    deadlines: Deadlines[str] = Deadlines(5.0, lambda name: expired.append((name, loop.time())), grace=1.0)
    for name in ("answered", "silent"):
        deadlines.add(name)

    loop.freeze(60)
    await asyncio.sleep(0.5)
    deadlines.remove("answered")
    assert expired == []
    loop.freeze(60)  # no further grace
    await asyncio.sleep(0.1)
    assert [name for name, _ in expired] == ["silent"]

    deadlines.add("in time")
    await asyncio.sleep(10)
    assert expired[-1][0] == "in time"
    assert expired[-1][1] == pytest.approx(120.6 + 5)


async def test_many_simultaneous_deadlines_leave_time_for_others() -> None:
    turns, expired, everything = 0, list[int](), asyncio.Event()

    def expire(number: int) -> None:
        expired.append(turns)
        if number == 39:
            everything.set()

    async def others() -> None:
        nonlocal turns
        while not everything.is_set():
            turns += 1
            await asyncio.sleep(0)

    deadlines: Deadlines[int] = Deadlines(0.01, expire)
    for number in range(40):
        deadlines.add(number)
    async with asyncio.timeout(60):
        await others()
    assert len(expired) == 40
    assert max(Counter(expired).values()) <= 4


@in_virtual_time(CLOCK)
async def test_a_block_that_takes_too_long_is_a_timeout_and_the_task_continues() -> None:
    limit = TimeLimit(0.01)

    with pytest.raises(TimeoutError), limit.begin():
        await asyncio.sleep(60)

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # it can wait for something else


@in_virtual_time(CLOCK)
async def test_a_block_that_finishes_in_time_is_left_alone() -> None:
    limit = TimeLimit(0.01)

    with limit.begin():
        await asyncio.sleep(0)
    await asyncio.sleep(0.03)  # nothing follows


async def test_an_error_of_the_block_is_raised_unchanged() -> None:
    with pytest.raises(KeyError), TimeLimit(60).begin():
        raise KeyError


@pytest.mark.parametrize("has_expired", [False, True], ids=["in time", "at the very moment"])
async def test_a_task_that_is_cancelled_from_outside_stays_cancelled(*, has_expired: bool) -> None:
    begun = asyncio.Event()
    limit = TimeLimit(60)

    async def work() -> None:
        limited = limit.begin()
        with limited:
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                if has_expired:
                    limited.expire()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


@in_virtual_time(CLOCK)
async def test_each_task_has_its_own_limit() -> None:
    limit = TimeLimit(0.03)

    async def work(seconds: float) -> str:
        try:
            with limit.begin():
                await asyncio.sleep(seconds)
        except TimeoutError:
            return "too long"
        return "in time"

    assert list(await asyncio.gather(work(60), work(0), work(60))) == ["too long", "in time", "too long"]
