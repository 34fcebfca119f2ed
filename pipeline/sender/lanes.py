"""At most so many requests under way to one endpoint: one bad endpoint hurts nobody else (promise 4)."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class Lanes:
    """One lane an endpoint. A delivery enters when there is room, waits its turn, or is turned away.

    A delivery is turned away when the endpoint is slow, not when we are busy: it has waited for ``wait_seconds``, and in that
    time fewer than ``width`` requests have left the lane; that is, the endpoint's answers take longer than ``wait_seconds``.
    As long as a full lane moves faster, a delivery goes on waiting, and it is backpressure that bounds how many wait.
    """

    def __init__(self, width: int, wait_seconds: float) -> None:
        self._width = width
        self._wait_seconds = wait_seconds
        self._lanes: dict[int, _Lane] = {}

    async def enter(self, endpoint_id: int) -> Place | None:
        """A place in the endpoint's lane, to be left again; None when the endpoint is too slow to wait for."""
        waited = False
        while True:
            lane = self._lanes.get(endpoint_id)
            if lane is None:
                lane = self._lanes[endpoint_id] = _Lane()
            if lane.inside < self._width:
                lane.inside += 1
                return Place(self, endpoint_id)
            left_before = lane.left
            if await self._wait(lane, endpoint_id, first=waited):
                return Place(self, endpoint_id)
            if lane.left - left_before < self._width:
                return None
            waited = True  # the lane moves: wait on, in front of those who came later

    async def _wait(self, lane: _Lane, endpoint_id: int, *, first: bool) -> bool:
        """Stand in line for ``wait_seconds``; whether it became our turn."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        lane.waiting.appendleft(turn) if first else lane.waiting.append(turn)
        timer = loop.call_later(self._wait_seconds, _settle, turn, False)
        try:
            admitted = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.leave(endpoint_id)  # the place came at the very moment that we gave up: pass it on
            raise
        finally:
            timer.cancel()
        if not admitted and turn in lane.waiting:
            lane.waiting.remove(turn)
        return admitted

    def leave(self, endpoint_id: int) -> None:
        """Give the place to the next one that waits."""
        lane = self._lanes[endpoint_id]
        lane.left += 1
        while lane.waiting:
            if _settle(lane.waiting.popleft(), True):
                return
        lane.inside -= 1
        if not lane.inside:
            del self._lanes[endpoint_id]


class _Lane:
    """``inside`` requests are under way, ``left`` have ended so far, ``waiting`` stand in line."""

    __slots__ = ("inside", "left", "waiting")

    def __init__(self) -> None:
        self.inside = 0
        self.left = 0
        self.waiting: deque[asyncio.Future[bool]] = deque()


class Place:
    """A place in a lane, left at the end of the ``with`` block."""

    __slots__ = ("_endpoint_id", "_lanes")

    def __init__(self, lanes: Lanes, endpoint_id: int) -> None:
        self._lanes = lanes
        self._endpoint_id = endpoint_id

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._lanes.leave(self._endpoint_id)


def _settle(turn: asyncio.Future[bool], admitted: bool) -> bool:
    """End a wait; False when it has ended already (its time is up, or its task was cancelled)."""
    if turn.done():
        return False
    turn.set_result(admitted)
    return True
