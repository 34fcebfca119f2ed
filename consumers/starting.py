"""A start that waits for Kafka and for ClickHouse: what is away is tried again until it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from consumers.recorder import Recorder
from consumers.upkeep import Upkeep
from pipeline.broker.api import BrokerError, NoSessionError, TopicError
from pipeline.ops.logs import logger
from pipeline.ops.outage import Outage
from pipeline.ops.probes import Probe, pause
from pipeline.store.backfill import Backfill
from pipeline.store.connection import Connections, StoreError
from pipeline.store.mend import mend_hourly_figures
from pipeline.store.migrate import migrate
from pipeline.store.rebuilds import watch_rebuilds

log = logger(__name__)

ResultT = TypeVar("ResultT")

_EXPECTED = (BrokerError, StoreError)


class Patience:
    """Takes the steps of a start that need one dependency, each until it succeeds."""

    def __init__(self, probe: Probe, *, ends_when_refused: bool) -> None:
        """``ends_when_refused``: raise what waiting cannot mend."""
        self.has_waited = asyncio.Event()
        """Set when a step has failed for the first time."""
        self.refusal: str | None = None
        """Why a step is refused by what answers."""
        self._probe = probe
        self._failures = 0
        self._ends_when_refused = ends_when_refused

    async def take(self, step: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Take a step; returns its result.

        Raises:
            BrokerError: (and StoreError) it is of no use to wait, and it ``ends_when_refused``.
        """
        refusal = Outage(f"{self._probe.outage.dependency}, for the start")  # where it answers, and refuses the step
        while True:
            try:
                result = await step()
            except _EXPECTED as error:
                if self._ends_when_refused and _needs_a_person(error):
                    raise
                self._failures += 1
                self.has_waited.set()
                if await self._probe.ask():
                    refusal.failed(_words(error), needs_a_person=_needs_a_person(error))
                    self.refusal = _words(error)
                await asyncio.sleep(pause(self._failures, refused=_needs_a_person(error)))
                await self._probe.until_up()
            else:
                refusal.answered()
                self.refusal, self._failures = None, 0
                return result

    def is_waiting(self) -> bool:
        """Whether the latest step failed, or the dependency has gone while a step is taken."""
        return self._failures > 0 or self._probe.outage.problem is not None

    def problem(self) -> str | None:
        """Why the dependency cannot be used (for health checks)."""
        return self._probe.problem() or self.refusal


def _words(error: Exception) -> str:
    is_bare = isinstance(error, BrokerError) and not isinstance(error, NoSessionError | TopicError)
    return f"Kafka: {error}" if is_bare else str(error)


def _needs_a_person(error: Exception) -> bool:
    return bool(getattr(error, "needs_a_person", False))


async def prepare_store(connections: Connections, patience: Patience) -> None:
    """Make the tables what this release needs; until they are, who reads or writes them is refused at once, and told why.

    Raises:
        StoreError: ClickHouse runs in this process, and cannot.
    """

    async def prepare() -> None:
        try:
            await migrate(connections)
            await Backfill(connections).at_the_start()
            if lacking := await mend_hourly_figures(connections):
                log.warning("the hourly figures lacked attempts, as after a crash; they were mended", attempts=lacking)
        except StoreError as error:
            connections.hold(str(error))
            raise

    connections.hold(f"{connections.where} is not ready yet: its tables are being looked at.")
    # Nothing but this process can mend what is wrong with an engine in it.
    await (prepare() if connections.is_embedded else patience.take(prepare))
    connections.release()


async def watch_store(connections: Connections, tables: asyncio.Task[None]) -> None:
    """When the tables are made: tell of what is rebuilt in them in the background, until nothing is."""
    await asyncio.wait([tables])
    if not tables.cancelled() and tables.exception() is None:
        await watch_rebuilds(connections)


class Recording:
    """The recorder, begun in the background when its tables are there: deliveries and the API do without ClickHouse.

    Until then the recorder is no member of its group: Kafka is the buffer, and who can record has the partitions.
    """

    def __init__(
        self, tables: asyncio.Task[None], recorder: Recorder | None, kafka: Patience, upkeep: Upkeep | None = None
    ) -> None:
        """``tables`` makes them. Without a ``recorder`` that is all. The ``upkeep`` of the store goes on beside the recorder."""
        self._recorder = recorder
        self._upkeep = upkeep
        self._kafka = kafka
        self._begun = asyncio.Event()
        self.task = asyncio.create_task(self._record(tables))
        """Never done, but for the error that ended it."""

    async def until_begun(self, unless: asyncio.Event | None = None) -> None:
        """Return when it has begun, or ``unless`` is set; raises what ended it."""
        events = [self._begun] if unless is None else [self._begun, unless]
        waiting = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait([self.task, *waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        if self.task.done():
            self.task.result()

    async def stop(self, drain_seconds: float) -> None:
        """Write what is queued, commit, leave the group; or wait no more."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if self._recorder is not None and self._begun.is_set():
            await self._recorder.stop(drain_seconds)

    async def _record(self, tables: asyncio.Task[None]) -> None:
        await tables
        if self._recorder is not None:
            await self._kafka.take(self._recorder.start)
        self._begun.set()
        upkeep = asyncio.create_task(self._upkeep.run()) if self._upkeep is not None else None
        try:
            await (
                asyncio.get_running_loop().create_future() if self._recorder is None else asyncio.shield(self._recorder.failed)
            )
        finally:
            if upkeep is not None:
                upkeep.cancel()
                await asyncio.gather(upkeep, return_exceptions=True)
