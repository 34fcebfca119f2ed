"""Queues the queries of searches. A limited number runs at once; the others wait in the order in which their searches began.

The length of the queue and the wait are bounded.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from pipeline.ops import metrics
from pipeline.ops.settings import Settings
from pipeline.store.errors import StoreBusyError

ResultT = TypeVar("ResultT")

_AT_A_SERVER: Final = 8

MAX_WAITING: Final = 64
"""Further searches are refused immediately."""


def max_concurrent(settings: Settings) -> int:
    """How many queries of searches run at the same time.

    With the embedded ClickHouse, one core is reserved for the recorder, whose inserts also have priority. With at least two
    queries, one continues while the other waits for the interpreter.
    """
    if settings.searches_at_once:
        return settings.searches_at_once
    return _AT_A_SERVER if settings.clickhouse_url else min(max((os.cpu_count() or 1) - 1, 2), _AT_A_SERVER)


class QueryQueue:
    """Gives turns to the queries of searches. An earlier search goes first with each of its queries, because it ends sooner."""

    def __init__(self, max_concurrent: int, seconds: float) -> None:
        """``max_concurrent`` queries run at the same time; none waits longer than ``seconds``."""
        self.max_concurrent = max_concurrent
        self._seconds = seconds
        self._free = max_concurrent
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._stopping: set[asyncio.Task[None]] = set()

    def place(self) -> int:
        """The place of a search that begins now."""
        return next(self._numbers)

    async def run(
        self,
        query: Callable[[str], Awaitable[ResultT]],
        stop: Callable[[str], Coroutine[Any, Any, None]],
        place: int | None = None,
    ) -> ResultT:
        """Run a query when it is its turn. Each query has a token, by which it is stopped if nobody waits for it any more.

        Raises:
            StoreBusyError: the queue is too long, or did not move in time.
        """
        await self.wait(self.place() if place is None else place)
        token = f"oms-webhooks search {secrets.token_hex(8)}"
        running = asyncio.ensure_future(query(token))
        # The turn ends with the query, even if the caller is gone.
        running.add_done_callback(self._ended)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if not running.done():
                stopping = asyncio.create_task(stop(token))
                self._stopping.add(stopping)
                stopping.add_done_callback(self._stopping.discard)
            raise

    async def wait(self, place: int) -> None:
        """Return when it is the turn of the search at this place. The caller must call :meth:`end` afterwards.

        Raises:
            StoreBusyError: the queue is too long, or did not move in time.
        """
        if self._free and not self._waiting:
            self._free -= 1
            return
        ahead = self._ahead(place)
        if len(self._waiting) >= MAX_WAITING:
            raise StoreBusyError(ahead)
        turn = asyncio.get_running_loop().create_future()
        entry = (place, self.place(), turn)
        heapq.heappush(self._waiting, entry)
        metrics.SEARCHES_WAITING.inc()
        try:
            async with asyncio.timeout(self._seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.end()
            elif entry in self._waiting:
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)
            if isinstance(error, TimeoutError):
                raise StoreBusyError(self._ahead(place), self._seconds) from None
            raise
        finally:
            metrics.SEARCHES_WAITING.dec()

    def end(self) -> None:
        """Pass the turn on."""
        while self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():  # otherwise its search was cancelled just now, and has not run since
                turn.set_result(None)
                return
        self._free += 1

    def _ended(self, query: asyncio.Future[Any]) -> None:
        self.end()
        if not query.cancelled():
            query.exception()  # retrieved, so that asyncio logs nothing if the caller is gone

    def _ahead(self, place: int) -> int:
        """Searches that run now, or go before this one."""
        return self.max_concurrent - self._free + sum(other < place for other, _, _ in self._waiting)
