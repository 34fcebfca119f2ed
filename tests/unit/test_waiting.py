"""The waiting functions of the tests, which report what was awaited in vain."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.virtual_time import in_virtual_time
from tests.waiting import until, wait_until


@in_virtual_time()
async def test_a_true_value_is_returned() -> None:
    seen: list[int] = []
    asyncio.get_running_loop().call_later(5, seen.append, 7)

    async def look() -> list[int]:
        await asyncio.sleep(0)
        return seen

    assert await until(lambda: seen) == [7]
    assert await until(look) == [7]
    assert wait_until(lambda: seen) == [7]


@in_virtual_time()
async def test_a_timeout_names_what_was_awaited() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()

    with pytest.raises(AssertionError, match=r"^await until\(lambda: queue\.qsize\(\) > 0\)\nnot after 90 s: False$"):
        await until(lambda: queue.qsize() > 0)
    with pytest.raises(AssertionError, match=r"^the queue is empty\nnot after 5 s: 0$"):
        await until(queue.qsize, "the queue is empty", seconds=5)
    with pytest.raises(AssertionError, match=r"^it has 0\n"):
        wait_until(queue.qsize, lambda: f"it has {queue.qsize()}", seconds=0)
