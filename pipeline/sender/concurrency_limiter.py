"""At most so many requests under way to one endpoint, and to all slow ones: a bad endpoint hurts nobody else (promise 4)."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections import deque
from time import monotonic
from types import TracebackType

from pipeline.core.fair_share import FairShare, ShareLimits
from pipeline.ops import metrics
from pipeline.sender.deadlines import Deadlines


class ConcurrencyLimiter:
    """One queue for each endpoint. A delivery enters when there is room, waits its turn, or is turned away.

    A delivery is turned away when the endpoint is slow, not when we are busy: it has waited for ``wait_seconds``, and in that
    time fewer requests have ended than its limit allows at once; that is, the endpoint's answers take longer than ``wait_seconds``.
    As long as a full queue moves faster, a delivery goes on waiting, and it is backpressure that bounds how many wait. At a slow
    endpoint no more may wait than may be under way: what waits holds a record of Kafka's, and those are bounded too.
    """

    def __init__(self, width: int, wait_seconds: float, slow_budget: int = sys.maxsize) -> None:
        """``slow_budget``: requests under way to all slow endpoints together (see `pipeline.core.fair_share`)."""
        self._waits: Deadlines[asyncio.Future[int | None]] = Deadlines(wait_seconds, _give_up)
        self._shares = FairShare(ShareLimits(width, wait_seconds, slow_budget))
        self._lines: dict[int, _Line] = {}
        metrics.SLOW_ENDPOINTS.set_function(lambda: self._shares.slow_endpoints)

    @functools.cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def enter(self, endpoint_id: int) -> ConcurrencySlot | None:
        """A place in the limit of the endpoint, to be released again; None when the endpoint is too slow to wait for."""
        waited = False
        while True:
            line = self._lines.get(endpoint_id)
            # Nobody overtakes those that wait.
            if waited or line is None or not line.waiting:
                token = self._shares.enter(endpoint_id, monotonic())
                if token is not None:
                    return ConcurrencySlot(self, endpoint_id, token)
            if line is None:
                line = self._lines[endpoint_id] = _Line()
            if not waited and self._is_crowded(line, endpoint_id):
                return None
            left_before = line.left
            turn = await self._wait(line, endpoint_id, first=waited)
            if turn is not None:
                return ConcurrencySlot(self, endpoint_id, turn)
            if line.left - left_before < self._shares.width(endpoint_id, monotonic()):
                return None
            waited = True  # the queue moves: wait on, in front of those who came later

    def _is_crowded(self, line: _Line, endpoint_id: int) -> bool:
        """Whether the endpoint is slow, and as many wait for it as may be under way."""
        now = monotonic()
        return self._shares.is_slow(endpoint_id, now) and len(line.waiting) >= self._shares.width(endpoint_id, now)

    async def _wait(self, line: _Line, endpoint_id: int, *, first: bool) -> int | None:
        """Stand in line for ``wait_seconds``; the token of our place, when it became our turn."""
        turn: asyncio.Future[int | None] = self._loop.create_future()
        line.waiting.appendleft(turn) if first else line.waiting.append(turn)
        self._waits.add(turn)
        token: int | None = None
        try:
            token = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and (passed := turn.result()) is not None:
                self.leave(endpoint_id, passed)  # the place came at the very moment that we gave up: pass it on
            raise
        finally:
            self._waits.remove(turn)
            if token is None and turn in line.waiting:  # one that got a place has been taken out
                line.waiting.remove(turn)
            if not line.waiting and self._lines.get(endpoint_id) is line:
                del self._lines[endpoint_id]
        return token

    def start(self, endpoint_id: int, token: int) -> None:
        """The request starts: from now on the endpoint is what takes the time."""
        self._shares.start(endpoint_id, token, monotonic())

    def forget(self, endpoint_id: int) -> None:
        """Nothing is sent to the endpoint any more."""
        self._shares.forget(endpoint_id)

    def leave(self, endpoint_id: int, token: int) -> None:
        """Give the place to the next ones that wait."""
        now = monotonic()
        self._shares.leave(endpoint_id, token, now)
        line = self._lines.get(endpoint_id)
        if line is None:
            return
        line.left += 1
        while line.waiting:
            if line.waiting[0].done():  # its time is up, or its task was cancelled
                line.waiting.popleft()
                continue
            next_token = self._shares.enter(endpoint_id, now)
            if next_token is None:
                return
            line.waiting.popleft().set_result(next_token)


class _Line:
    """Those that wait for a place, and how many requests have ended meanwhile (``left``)."""

    __slots__ = ("left", "waiting")

    def __init__(self) -> None:
        self.left = 0
        self.waiting: deque[asyncio.Future[int | None]] = deque()


class ConcurrencySlot:
    """One of the requests that an endpoint may have under way; released at the end of the ``with`` block."""

    __slots__ = ("_endpoint_id", "_limiter", "_token")

    def __init__(self, limiter: ConcurrencyLimiter, endpoint_id: int, token: int) -> None:
        self._limiter = limiter
        self._endpoint_id = endpoint_id
        self._token = token

    def __enter__(self) -> None:
        pass

    def start(self) -> None:
        """The request that the place was taken for starts."""
        self._limiter.start(self._endpoint_id, self._token)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._limiter.leave(self._endpoint_id, self._token)


def _give_up(turn: asyncio.Future[int | None]) -> None:
    if not turn.done():
        turn.set_result(None)
