"""When the store's maintenance is done, and by whom."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime

from consumers.maintenance import EVERY_SECONDS, Maintenance
from pipeline.store.connection import StoreUnavailableError
from tests.unit.sample_events import NOW


class Job:
    name = "job"

    def __init__(self, *errors: Exception) -> None:
        self.done: list[datetime] = []
        self.left = 0
        self._errors = list(errors)

    async def do(self, now: datetime) -> None:
        self.done.append(now)
        if self._errors:
            raise self._errors.pop()

    def leave(self) -> None:
        self.left += 1


async def turns(maintenance: Maintenance, number: int, ours: list[bool], held: list[bool]) -> None:
    """So many looks, a second apart, of which ``ours`` says whose the store is."""
    left = iter(range(number))

    async def sleep(_seconds: float) -> None:
        if next(left, None) is None:
            raise asyncio.CancelledError
        if ours:
            held[0] = ours.pop(0)
        await asyncio.sleep(0)

    with contextlib.suppress(asyncio.CancelledError):
        await maintenance.run(sleep)


async def test_at_once_and_then_every_ten_minutes() -> None:
    job = Job()
    await turns(Maintenance([job], lambda: True, lambda: NOW), int(EVERY_SECONDS) * 2 - 1, [], [True])
    assert job.done == [NOW, NOW]


async def test_only_the_one_whose_it_is_and_at_once_when_it_becomes_so() -> None:
    job, held = Job(), [False]
    ours = [False, True, True, False, False, True]
    await turns(Maintenance([job], lambda: held[0], lambda: NOW), len(ours), ours, held)
    assert (len(job.done), job.left) == (2, 1)


async def test_what_goes_wrong_ends_neither_the_others_nor_the_recorder() -> None:
    failing, other = Job(KeyError("no"), StoreUnavailableError("ClickHouse is away")), Job()
    await turns(Maintenance([failing, other], lambda: True, lambda: NOW), int(EVERY_SECONDS) * 2, [], [True])
    assert (len(failing.done), len(other.done)) == (3, 3)
