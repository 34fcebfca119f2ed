"""Turns: a limited number at once, in the order in which searches began, with a limited wait; none is lost."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.store.errors import StoreBusyError
from pipeline.store.search import query_queue as module
from pipeline.store.search.query_queue import QueryQueue

SOON = 0.01


async def waiting(turns: QueryQueue, place: int, got: list[int]) -> asyncio.Task[None]:
    """Queue a search."""

    async def wait() -> None:
        await turns.wait(place)
        got.append(place)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return task


async def test_turns_are_limited_and_given_in_the_order_of_searches() -> None:
    turns = QueryQueue(2, 60)
    got: list[int] = []
    tasks = [await waiting(turns, place, got) for place in (5, 6, 9, 7, 8)]
    assert got == [5, 6]
    for place in (7, 8, 9):
        turns.end()
        await asyncio.sleep(0)
        assert got[-1] == place, "an earlier search goes first, whenever its query arrived"
    await asyncio.gather(*tasks)


async def test_a_wait_is_limited_and_reports_how_many_are_ahead() -> None:
    turns = QueryQueue(1, SOON)
    await turns.wait(turns.place())
    with pytest.raises(
        StoreBusyError, match=r"one other search is ahead of this one, and none of them finished within 0\.01 seconds"
    ) as caught:
        await turns.wait(turns.place())
    assert caught.value.retry_after > 0
    turns.end()
    await turns.wait(turns.place())


async def test_a_turn_that_ends_while_the_next_search_is_cancelled_is_not_lost() -> None:
    turns = QueryQueue(1, 60)
    got: list[int] = []
    await turns.wait(turns.place())
    cancelled, patient = await waiting(turns, 1, got), await waiting(turns, 2, got)
    cancelled.cancel()
    turns.end()  # before the cancelled one has run
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await patient
    turns.end()
    await turns.wait(turns.place())


async def test_a_full_queue_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    turns = QueryQueue(1, 60)
    got: list[int] = []
    tasks = [await waiting(turns, place, got) for place in range(4)]
    with pytest.raises(StoreBusyError, match=r"4 other searches are ahead of this one\. Try"):
        await turns.wait(99)
    for _ in tasks:
        turns.end()
    await asyncio.gather(*tasks)


async def test_a_cancelled_search_leaves_the_queue_and_takes_no_turn() -> None:
    turns = QueryQueue(1, 60)
    got: list[int] = []
    await turns.wait(0)
    one, other = [await waiting(turns, place, got) for place in (1, 2)]
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    turns.end()
    await other
    assert got == [2]
    # It is cancelled at the very moment of its turn.
    late = await waiting(turns, 3, got)
    turns.end()
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    async with asyncio.timeout(60):
        await turns.wait(4)
