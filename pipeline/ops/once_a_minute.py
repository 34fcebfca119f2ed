"""What is said again and again, such as by a library while something is away: once a minute, with how often it came."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

SAID_EVERY_SECONDS: Final = 60.0
_MOST_KINDS: Final = 1_000


class OnceAMinute:
    """Counts what comes, by kind. May be used by any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds that only rise."""
        self._clock = clock
        self._said: dict[Hashable, tuple[float, int]] = {}
        self._counting = threading.Lock()

    def times(self, kind: Hashable) -> int:
        """How often it came since it was said, this time included; 0 when it is not to be said."""
        with self._counting:
            now = self._clock()
            said_at, left_out = self._said.get(kind, (-SAID_EVERY_SECONDS, 0))
            if now - said_at < SAID_EVERY_SECONDS:
                self._said[kind] = (said_at, left_out + 1)
                return 0
            self._said[kind] = (now, 0)
            if len(self._said) > _MOST_KINDS:
                del self._said[next(iter(self._said))]
            return left_out + 1
