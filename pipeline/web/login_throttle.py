"""Counts wrong API keys by client address. After too many, all keys from that address are refused for a while, even right ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from pipeline.ops import metrics
from pipeline.web.errors import ApiError, WrongKeyError

ResultT = TypeVar("ResultT")

_MAX_ADDRESSES: Final = 10_000


class LoginThrottle:
    """Counts wrong keys by address in windows of ``seconds``. Memory is bounded: the oldest windows are dropped first."""

    def __init__(self, limit: int = 20, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._windows: dict[str, tuple[float, int]] = {}

    def checked(self, address: str, check: Callable[[], ResultT]) -> ResultT:
        """Check a key, unless too many wrong keys came from its address. A request without a key does not count.

        Raises:
            ApiError: 429 with Retry-After; or what ``check`` raises.
        """
        now = self._clock()
        began, count = self._windows.get(address, (now, 0))
        if now - began >= self._seconds:
            self._windows.pop(address, None)
            began, count = now, 0
        if count >= self._limit:
            wait = max(1, round(began + self._seconds - now))
            raise ApiError(
                429,
                f"Too many invalid API keys were sent from your address. Try again in {wait} s.",
                headers={"Retry-After": str(wait)},
            )
        try:
            return check()
        except WrongKeyError:
            metrics.WRONG_KEYS.inc()
            if len(self._windows) >= _MAX_ADDRESSES and address not in self._windows:
                del self._windows[next(iter(self._windows))]
            self._windows[address] = (began, count + 1)
            raise
