"""One processor for each of this process's partitions of a topic, used for held deliveries and for deliveries in order.

Processors come and go with the partitions. The first failure ends the work, and its error is in
:attr:`PartitionProcessors.failed`. An idle member of a group costs nearly 1% of a core, so a member that may never be needed
joins only when it is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Generic, Protocol, TypeVar

from pipeline.broker.api import Broker, Record
from pipeline.broker.seeking_consumer import SeekingConsumer
from pipeline.core.held_ledger import OffsetBound
from pipeline.ops.logs import logger

log = logger(__name__)

_ASKED_APART_S: Final = 1.0


def in_turn(ids: Iterable[int], last: int, most: int) -> list[int]:
    """Up to ``most`` ids: those above ``last`` first, then from the beginning. Each gets its turn, even if all of them always wait."""
    return sorted(ids, key=lambda one: (one <= last, one))[:most]


class PartitionProcessor(Protocol):
    """Processes one partition."""

    async def run(self) -> None:
        """Run until the partition is revoked (the task is cancelled), or until :meth:`stop`."""

    def stop(self) -> None:
        """Finish what has started, and end."""


ProcessorT = TypeVar("ProcessorT", bound=PartitionProcessor)


class PartitionProcessors(Generic[ProcessorT]):
    """A member of the group, with a processor for each assigned partition."""

    def __init__(
        self,
        broker: Broker,
        *,
        group: str,
        topic: str,
        make: Callable[[int], ProcessorT],
        failure: str,
        is_wanted: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """``make`` creates the processor of a partition. ``failure``: the log message if one fails.

        ``is_wanted`` is called once a second until it returns true. Then the member joins the group, and stays. None: it joins
        immediately.
        """
        self._make = make
        self._failure = failure
        self._is_wanted = is_wanted
        self._has_joined = False
        self._processors: dict[int, tuple[ProcessorT, asyncio.Task[None]]] = {}
        self.consumer = SeekingConsumer(broker, group=group, topic=topic, on_assigned=self._assigned, on_revoked=self._revoked)

    @property
    def all(self) -> list[ProcessorT]:
        """The current processors."""
        return [processor for processor, _ in self._processors.values()]

    async def start(self) -> None:
        """Join the group, or start to wait until that is wanted."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """The error that ended the work."""
        self._joining = asyncio.create_task(self._join())
        if self._is_wanted is None:
            await self._joining
        else:
            self._joining.add_done_callback(self._ended)

    async def _join(self) -> None:
        while self._is_wanted is not None and not await self._is_wanted():  # noqa: ASYNC110 - it also checks the topic
            await asyncio.sleep(_ASKED_APART_S)
        await self.consumer.start()
        self._has_joined = True
        self.consumer.stopped.add_done_callback(self._ended)

    def problem(self) -> str | None:
        """Why this process is not a working member of the group (for health checks); None before it is wanted."""
        return self.consumer.problem() if self._has_joined else None

    async def stop(self, drain_seconds: float) -> None:
        """Finish what has started, commit, leave the group."""
        self._joining.cancel()
        await asyncio.wait([self._joining])
        if not self._has_joined:
            return
        tasks = [task for _, task in self._processors.values()]
        for processor in self.all:
            processor.stop()
        self.consumer.stop_waiting()
        if tasks:
            await asyncio.wait(tasks, timeout=drain_seconds)
        try:
            await self.consumer.stop()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._processors.clear()

    def _assigned(self, partitions: frozenset[int]) -> None:
        for number in partitions - self._processors.keys():
            processor = self._make(number)
            task = asyncio.create_task(processor.run())
            task.add_done_callback(self._ended)
            self._processors[number] = processor, task

    def _revoked(self, partitions: frozenset[int]) -> None:
        for number in partitions & self._processors.keys():
            self._processors.pop(number)[1].cancel()

    def _ended(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled() and (error := done.exception()) and not self.failed.done():
            log.error(self._failure, error=repr(error), exc_info=error)
            self.failed.set_exception(error)


def offset_bound_of(record: Record) -> OffsetBound:
    """The offset and time of a record."""
    return OffsetBound(record.offset, record.timestamp_ms)
