"""When the store's maintenance runs, and in which process."""

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


async def run_rounds(maintenance: Maintenance, number: int, ours: list[bool], held: list[bool]) -> None:
    """Run this many rounds, a second apart. ``ours`` says in which of them this process is in charge."""
    left = iter(range(number))

    async def sleep(_seconds: float) -> None:
        if next(left, None) is None:
            raise asyncio.CancelledError
        if ours:
            held[0] = ours.pop(0)
        await asyncio.sleep(0)

    with contextlib.suppress(asyncio.CancelledError):
        await maintenance.run(sleep)


async def test_jobs_run_at_once_and_then_every_ten_minutes() -> None:
    job = Job()
    await run_rounds(Maintenance([job], lambda: True, lambda: NOW), int(EVERY_SECONDS) * 2 - 1, [], [True])
    assert job.done == [NOW, NOW]


async def test_jobs_run_only_in_the_process_in_charge_and_at_once_when_it_takes_over() -> None:
    job, held = Job(), [False]
    ours = [False, True, True, False, False, True]
    await run_rounds(Maintenance([job], lambda: held[0], lambda: NOW), len(ours), ours, held)
    assert (len(job.done), job.left) == (2, 1)


async def test_a_failed_job_stops_neither_the_others_nor_the_recorder() -> None:
    failing, other = Job(KeyError("no"), StoreUnavailableError("ClickHouse is away")), Job()
    await run_rounds(Maintenance([failing, other], lambda: True, lambda: NOW), int(EVERY_SECONDS) * 2, [], [True])
    assert (len(failing.done), len(other.done)) == (3, 3)
