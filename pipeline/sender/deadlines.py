"""Deadlines of equal length that share one timer: separate timers would cost more than what they watch."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Final, Generic, TypeVar

WaitingT = TypeVar("WaitingT")

_RESOLUTION: Final = 0.001
"""The resolution of uvloop's clock in seconds: its timers may fire that much too early."""
LATE_SECONDS: Final = 0.5
"""A timer that fires this late: the process was frozen (SIGSTOP, a suspended machine, no CPU time), or the loop was blocked."""
_GRACE: Final = 1.0
_AT_ONCE: Final = 4
_PAUSE: Final = 0.002
"""Requests to endpoints that hang start and end together, hundreds at a time, and each end causes much work: write the attempt,
sign, start the next one. So at most `_AT_ONCE` expire at once, followed by a pause of `_PAUSE` seconds: deliveries to healthy
endpoints must not wait for all of them.
"""


class Deadlines(Generic[WaitingT]):
    """Calls ``expire`` for what was added ``seconds`` ago and has not been removed. For one event loop."""

    def __init__(self, seconds: float, expire: Callable[[WaitingT], None], *, grace: float = 0.0) -> None:
        """``grace``: how much longer all of them wait if their timer fires late, because this process was frozen. What they wait for
        may have arrived meanwhile, and was not read.
        """
        self._seconds = seconds
        self._expire = expire
        self._grace = grace
        self._due: dict[WaitingT, float] = {}
        """In order of time, because all wait equally long."""
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0

    def add(self, waiting: WaitingT) -> None:
        """Start its deadline."""
        now = monotonic()
        self._due[waiting] = now + self._seconds
        if self._timer is None:  # only then: before Python 3.12, get_running_loop asks the system for the process id
            self._wake_in(self._seconds, now, asyncio.get_running_loop())

    def remove(self, waiting: WaitingT) -> None:
        """It is done, or has expired."""
        self._due.pop(waiting, None)

    def _wake_in(self, seconds: float, now: float, loop: asyncio.AbstractEventLoop, *, is_grace: bool = False) -> None:
        self._fires_at = now + seconds
        self._timer = loop.call_later(seconds, self._expire_due, loop, is_grace)

    def _expire_due(self, loop: asyncio.AbstractEventLoop, is_grace: bool) -> None:
        self._timer = None
        now = monotonic()
        if self._grace and not is_grace and now - self._fires_at >= LATE_SECONDS:
            self._wake_in(self._grace, now, loop, is_grace=True)
            return
        expired: list[WaitingT] = []
        for waiting, due in self._due.items():
            if due > now + _RESOLUTION or len(expired) == _AT_ONCE:
                self._wake_in(max(due - now, _PAUSE), now, loop)
                break
            expired.append(waiting)
        for waiting in expired:
            del self._due[waiting]
            self._expire(waiting)


class TimeLimit:
    """``with limit.begin():`` raises TimeoutError if the block takes longer, like ``asyncio.timeout`` at a fifth of its cost."""

    def __init__(self, seconds: float) -> None:
        self._deadlines: Deadlines[_Limited] = Deadlines(seconds, _Limited.expire, grace=min(seconds, _GRACE))

    def begin(self) -> _Limited:
        """Limit a block of the current task."""
        return _Limited(self._deadlines, self._loop)

    @functools.cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


class _Limited:
    __slots__ = ("_cancelling", "_deadlines", "_has_expired", "_loop", "_task")

    def __init__(self, deadlines: Deadlines[_Limited], loop: asyncio.AbstractEventLoop) -> None:
        self._deadlines = deadlines
        self._loop = loop
        self._has_expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a time limit needs a task that it can cancel")
        self._task = task
        self._cancelling = task.cancelling()
        self._deadlines.add(self)

    def expire(self) -> None:
        self._has_expired = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._deadlines.remove(self)
        # If the task was also cancelled from elsewhere, it stays cancelled.
        if self._has_expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
