"""Runs one task a record, and finishes the record when its task has ended well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.broker.api import Broker, Record
from pipeline.broker.consumer import ConsumerOptions, GroupConsumer
from pipeline.ops.logs import logger

log = logger(__name__)

Handle = Callable[[Record], Awaitable[None]]
"""Deals with a record. It returns when everything that came of the record is acknowledged; it raises only when going on makes no sense."""


class RecordWorker:
    """A group consumer whose records are dealt with at once, in any order, as many as ``max_outstanding`` (and its bytes) at a time."""

    def __init__(
        self,
        broker: Broker,
        handle: Handle,
        options: ConsumerOptions,
    ) -> None:
        self._handle = handle
        self.consumer = GroupConsumer(broker, options, on_records=self._start_tasks)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Join the group."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Holds the error that ended the work: the handler's, or the poll loop's."""
        await self.consumer.start()
        self.consumer.stopped.add_done_callback(self._consumer_stopped)

    async def stop(self, drain_seconds: float) -> None:
        """Take no more records, let those under way finish, commit, leave the group; then give up on the rest."""
        try:
            await self.consumer.stop(drain_seconds)
        finally:  # also when the poll loop had failed: nothing goes on behind the back of what is taken down next
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def problem(self) -> str | None:
        """Why it is not ready (for health checks)."""
        return self.consumer.problem()

    def _start_tasks(self, records: list[Record]) -> None:
        for record in records:
            task = asyncio.create_task(self._run(record))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, record: Record) -> None:
        receipt = record.receipt
        if await self.consumer.may_begin(record):
            handled = self._handle(record)
            del record  # the handler holds of it what it still needs
            try:
                await handled
            except Exception as error:  # not finished, so not committed; the role ends and a restart reads it again
                log.exception("a record could not be dealt with", partition=receipt.partition, offset=receipt.offset)
                self._fail(error)
                return
        self.consumer.finish(receipt)

    def _consumer_stopped(self, stopped: asyncio.Future[None]) -> None:
        if not stopped.cancelled() and (error := stopped.exception()):
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)
