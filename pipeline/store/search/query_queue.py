"""Who is next: so many searches at once, the others in line, in the order in which they began. The line is bounded, and so is the wait."""

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

MOST_WAITING: Final = 64
"""More are told at once that they cannot be served, rather than after a wait."""


def at_once(settings: Settings) -> int:
    """Queries of searches that run at the same time.

    In one process a core is the recorder's, whose inserts go first besides. With two queries at least, one goes on while the other
    waits for the interpreter.
    """
    if settings.searches_at_once:
        return settings.searches_at_once
    return _AT_A_SERVER if settings.clickhouse_url else min(max((os.cpu_count() or 1) - 1, 2), _AT_A_SERVER)


class QueryQueue:
    """Gives turns to the queries of searches. A search that began earlier goes first with each of its queries: it will end sooner."""

    def __init__(self, at_once: int, seconds: float) -> None:
        """``at_once`` have a turn at the same time; nobody waits for longer than ``seconds``."""
        self.at_once = at_once
        self._seconds = seconds
        self._free = at_once
        self._line: list[tuple[int, int, asyncio.Future[None]]] = []
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
        """Carry out a query when it is its turn. Each has a token, by which it can be stopped: when nobody waits for it any more, it is.

        Raises:
            StoreBusyError: the line is too long, or did not move in time.
        """
        await self.wait(self.place() if place is None else place)
        token = f"oms-webhooks search {secrets.token_hex(8)}"
        running = asyncio.ensure_future(query(token))
        # The turn ends with the query, not with whoever waits for it.
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
        """Return when it is the turn of the search at this place. Whoever got a turn must :meth:`end` it.

        Raises:
            StoreBusyError: the line is too long, or did not move in time.
        """
        if self._free and not self._line:
            self._free -= 1
            return
        ahead = self._ahead(place)
        if len(self._line) >= MOST_WAITING:
            raise StoreBusyError(ahead)
        turn = asyncio.get_running_loop().create_future()
        entry = (place, self.place(), turn)
        heapq.heappush(self._line, entry)
        metrics.SEARCHES_WAITING.inc()
        try:
            async with asyncio.timeout(self._seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.end()
            else:
                self._line.remove(entry)
                heapq.heapify(self._line)
            if isinstance(error, TimeoutError):
                raise StoreBusyError(self._ahead(place), self._seconds) from None
            raise
        finally:
            metrics.SEARCHES_WAITING.dec()

    def end(self) -> None:
        """Pass the turn on."""
        if self._line:
            heapq.heappop(self._line)[2].set_result(None)
        else:
            self._free += 1

    def _ended(self, query: asyncio.Future[Any]) -> None:
        self.end()
        if not query.cancelled():
            query.exception()  # whoever still waits for it is told; otherwise there is nobody to tell

    def _ahead(self, place: int) -> int:
        """Searches that have a turn, or get one before this."""
        return self.at_once - self._free + sum(other < place for other, _, _ in self._line)
