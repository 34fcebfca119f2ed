"""Limits the concurrent requests to one endpoint, and to all slow ones: a bad endpoint does not slow down others (promise 4)."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections import deque
from time import monotonic
from types import TracebackType

from pipeline.core.fair_share import FairShare, ShareLimits
from pipeline.sender.deadlines import Deadlines


class ConcurrencyLimiter:
    """One queue per endpoint. A delivery enters if there is room, waits its turn, or is turned away.

    A delivery is turned away because the endpoint is slow, not because we are busy: it has waited for ``wait_seconds``, and fewer
    requests have ended in that time than the endpoint may have at once. So the endpoint takes longer than ``wait_seconds`` to
    answer. While a full queue moves faster, a delivery keeps waiting, and backpressure limits how many wait. For a slow endpoint,
    at most as many deliveries may wait as requests may be in progress: each waiting delivery holds a Kafka record, and those are
    limited, too.
    """

    def __init__(self, width: int, wait_seconds: float, slow_budget: int = sys.maxsize) -> None:
        """``slow_budget``: how many requests to all slow endpoints may be in progress at once (see `pipeline.core.fair_share`)."""
        self._waits: Deadlines[asyncio.Future[int | None]] = Deadlines(wait_seconds, _give_up)
        self._shares = FairShare(ShareLimits(width, wait_seconds, slow_budget))
        self._queues: dict[int, _WaitQueue] = {}

    @property
    def slow_endpoints(self) -> int:
        """The number of slow endpoints with requests in flight."""
        return self._shares.slow_endpoints

    @functools.cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def enter(self, endpoint_id: int) -> ConcurrencySlot | None:
        """A slot of the endpoint, to be released afterwards; None if the endpoint is too slow to wait for."""
        waited = False
        while True:
            queue = self._queues.get(endpoint_id)
            # No delivery overtakes the waiting ones.
            if waited or queue is None or not queue.waiting:
                token = self._shares.enter(endpoint_id, monotonic())
                if token is not None:
                    return ConcurrencySlot(self, endpoint_id, token)
            if queue is None:
                queue = self._queues[endpoint_id] = _WaitQueue()
            if not waited and self._is_crowded(queue, endpoint_id):
                return None
            ended_before = queue.ended
            turn = await self._wait(queue, endpoint_id, first=waited)
            if turn is not None:
                return ConcurrencySlot(self, endpoint_id, turn)
            if queue.ended - ended_before < self._shares.width(endpoint_id, monotonic()):
                return None
            waited = True  # the queue moves: keep waiting, ahead of those that came later

    def _is_crowded(self, queue: _WaitQueue, endpoint_id: int) -> bool:
        """Whether the endpoint is slow, and as many deliveries wait for it as requests may be in progress."""
        now = monotonic()
        return self._shares.is_slow(endpoint_id, now) and len(queue.waiting) >= self._shares.width(endpoint_id, now)

    async def _wait(self, queue: _WaitQueue, endpoint_id: int, *, first: bool) -> int | None:
        """Wait in the queue for ``wait_seconds``; returns the token of our slot, or None."""
        turn: asyncio.Future[int | None] = self._loop.create_future()
        queue.waiting.appendleft(turn) if first else queue.waiting.append(turn)
        self._waits.add(turn)
        token: int | None = None
        try:
            token = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and (passed := turn.result()) is not None:
                self.leave(endpoint_id, passed)  # the slot was assigned at the moment of the cancellation: pass it on
            raise
        finally:
            self._waits.remove(turn)
            if token is None and turn in queue.waiting:  # if it got a slot, it was removed already
                queue.waiting.remove(turn)
            if not queue.waiting and self._queues.get(endpoint_id) is queue:
                del self._queues[endpoint_id]
        return token

    def start(self, endpoint_id: int, token: int) -> None:
        """The request starts: from now on, time counts against the endpoint."""
        self._shares.start(endpoint_id, token, monotonic())

    def forget(self, endpoint_id: int) -> None:
        """Forget an endpoint that nothing is sent to any more."""
        self._shares.forget(endpoint_id)

    def leave(self, endpoint_id: int, token: int) -> None:
        """Return a slot, and pass free slots on to waiting deliveries."""
        now = monotonic()
        self._shares.leave(endpoint_id, token, now)
        queue = self._queues.get(endpoint_id)
        if queue is None:
            return
        queue.ended += 1
        while queue.waiting:
            if queue.waiting[0].done():  # it timed out, or its task was cancelled
                queue.waiting.popleft()
                continue
            next_token = self._shares.enter(endpoint_id, now)
            if next_token is None:
                return
            queue.waiting.popleft().set_result(next_token)


class _WaitQueue:
    """The waiting deliveries, and how many requests have ended meanwhile (``ended``)."""

    __slots__ = ("ended", "waiting")

    def __init__(self) -> None:
        self.ended = 0
        self.waiting: deque[asyncio.Future[int | None]] = deque()


class ConcurrencySlot:
    """One of the concurrent requests of an endpoint; released at the end of the ``with`` block."""

    __slots__ = ("_endpoint_id", "_limiter", "_token")

    def __init__(self, limiter: ConcurrencyLimiter, endpoint_id: int, token: int) -> None:
        self._limiter = limiter
        self._endpoint_id = endpoint_id
        self._token = token

    def __enter__(self) -> None:
        pass

    def start(self) -> None:
        """The request of this slot starts."""
        self._limiter.start(self._endpoint_id, self._token)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._limiter.leave(self._endpoint_id, self._token)


def _give_up(turn: asyncio.Future[int | None]) -> None:
    if not turn.done():
        turn.set_result(None)
