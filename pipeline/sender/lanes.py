"""At most so many requests under way to one endpoint: one bad endpoint hurts nobody else (promise 4)."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from types import TracebackType


class Lanes:
    """One lane an endpoint. A delivery enters when there is room, waits for a while, or is turned away."""

    def __init__(self, width: int, wait_seconds: float) -> None:
        self._width = width
        self._wait_seconds = wait_seconds
        self._inside: Counter[int] = Counter()
        self._waiting: defaultdict[int, deque[asyncio.Future[None]]] = defaultdict(deque)

    async def enter(self, endpoint_id: int) -> Lane | None:
        """Room in the endpoint's lane, to be left again; None when there was none in time."""
        if self._inside[endpoint_id] < self._width:
            self._inside[endpoint_id] += 1
            return Lane(self, endpoint_id)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[endpoint_id]
        waiting.append(turn)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave(endpoint_id)  # the room came at the very moment that we gave up: pass it on
            elif turn in waiting:
                waiting.remove(turn)
            if isinstance(error, TimeoutError):
                return None
            raise
        return Lane(self, endpoint_id)

    def leave(self, endpoint_id: int) -> None:
        """Give the room to the next one that waits."""
        waiting = self._waiting.get(endpoint_id)
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._inside[endpoint_id] -= 1
        if not self._inside[endpoint_id]:
            del self._inside[endpoint_id]
            self._waiting.pop(endpoint_id, None)


class Lane:
    """Room in a lane, left at the end of the ``with`` block."""

    __slots__ = ("_endpoint_id", "_lanes")

    def __init__(self, lanes: Lanes, endpoint_id: int) -> None:
        self._lanes = lanes
        self._endpoint_id = endpoint_id

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._lanes.leave(self._endpoint_id)
