"""How long records accumulate at the broker before they are fetched."""

from __future__ import annotations

import time
from collections.abc import Callable

GATHER_S = 0.008
"""The wait after a small fetch. At 200 events per second it halves the number of fetches; a record waits half of it on average."""
_LONGEST_S = 0.02
_LITTLE_BYTES = 64 * 1024
_BUSY_FROM = 0.5
"""The CPU use above which the wait grows, as a share of one core. A Python process can use about one core."""


class FetchBackoff:
    """Chooses the wait between fetches of one consumer. Used by the fetch thread.

    A fetch costs about a millisecond of CPU time with 24 partitions, however few records it returns, and as much at the broker.
    If records arrive one by one, each would cost a fetch. So after a small fetch, the next one waits for ``gather_s`` seconds;
    records after a quiet time are handed over immediately. The busier the process, the longer the wait: otherwise, at 250 events
    per second in bursts of three, fetches would take a quarter of the fan-out's CPU time (tests/bench/isolation.py).
    """

    def __init__(
        self,
        gather_s: float = GATHER_S,
        now: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        """``now`` and ``cpu``: seconds of a clock, and the process's CPU time in seconds."""
        self._gather_s = gather_s
        self._now = now
        self._cpu = cpu
        self._last_measured = (now(), cpu())

    def seconds(self, fetched_bytes: int) -> float:
        """How long to wait before the next fetch; ``fetched_bytes`` is the size of the last one in bytes. Call it after each."""
        now, cpu = self._now(), self._cpu()
        passed, used = now - self._last_measured[0], cpu - self._last_measured[1]
        self._last_measured = (now, cpu)
        if not 0 < fetched_bytes < _LITTLE_BYTES:
            return 0.0
        busy = min(used / passed, 1.0) if passed > 0 else 0.0
        longer = max(0.0, _LONGEST_S - self._gather_s) * max(0.0, busy - _BUSY_FROM) / (1 - _BUSY_FROM)
        return self._gather_s + longer
