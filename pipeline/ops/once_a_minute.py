"""Limits repeated messages, such as those of a library while a server is unavailable: once a minute, with a count."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

LOG_EVERY_SECONDS: Final = 60.0
_MAX_KINDS: Final = 1_000


class OnceAMinute:
    """Counts occurrences by kind. May be used by any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds that never go back."""
        self._clock = clock
        self._logged: dict[Hashable, tuple[float, int]] = {}
        self._counting = threading.Lock()

    def times(self, kind: Hashable) -> int:
        """How often it occurred since it was last reported, including now; 0 if it must not be reported now."""
        with self._counting:
            now = self._clock()
            logged_at, left_out = self._logged.get(kind, (-LOG_EVERY_SECONDS, 0))
            if now - logged_at < LOG_EVERY_SECONDS:
                self._logged[kind] = (logged_at, left_out + 1)
                return 0
            self._logged[kind] = (now, 0)
            if len(self._logged) > _MAX_KINDS:
                del self._logged[next(iter(self._logged))]
            return left_out + 1
