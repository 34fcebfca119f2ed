"""Runs one task for each record, and finishes the record when its task succeeds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.broker.api import Broker, Record
from pipeline.broker.consumer import ConsumerOptions, GroupConsumer
from pipeline.ops.logs import logger

log = logger(__name__)

Handle = Callable[[Record], Awaitable[None]]
"""Processes a record. Returns when all results of the record are acknowledged; raises only if the role cannot continue."""


class RecordWorker:
    """A group consumer that processes records concurrently, in any order, up to ``max_outstanding`` (and its bytes) at a time."""

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
        """The error that ended the work: of a handler, or of the consumer."""
        await self.consumer.start()
        self.consumer.stopped.add_done_callback(self._consumer_stopped)

    async def stop(self, drain_seconds: float) -> None:
        """Take no more records, let those in progress finish, commit, and leave the group. Then cancel the rest."""
        try:
            await self.consumer.stop(drain_seconds)
        finally:  # even if the consumer has failed: no task may continue while other parts are stopped
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
            del record  # the handler keeps what it still needs
            try:
                await handled
            except Exception as error:  # not finished, so not committed: the role stops, and reads it again after a restart
                log.exception("a record could not be processed", partition=receipt.partition, offset=receipt.offset)
                self._fail(error)
                return
        self.consumer.finish(receipt)

    def _consumer_stopped(self, stopped: asyncio.Future[None]) -> None:
        if not stopped.cancelled() and (error := stopped.exception()):
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)
