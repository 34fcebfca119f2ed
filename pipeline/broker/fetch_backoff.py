"""How long records gather at the broker before they are fetched."""

from __future__ import annotations

import time
from collections.abc import Callable

GATHER_S = 0.008
"""After a little has come. At 200 events a second it halves the fetches; a record waits half of it in the mean."""
_LONGEST_S = 0.02
_LITTLE_BYTES = 64 * 1024
_BUSY_FROM = 0.5
"""Of a core. One process of Python can use about one."""


class FetchBackoff:
    """Decides that for one consumer; it belongs to the poll thread.

    A fetch costs about a millisecond of CPU time with 24 partitions, however few records it brings, and as much at the broker. Records that
    trickle in would have one each. So after a little has come, the next fetch waits for ``gather_s`` seconds; what comes after a quiet time is
    handed over at once. The busier the process, the longer: at 250 events a second, in bursts of three, a quarter of the fan-out's CPU time goes
    into its fetches otherwise (tests/bench/isolation.py).
    """

    def __init__(
        self,
        gather_s: float = GATHER_S,
        now: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        """``now`` and ``cpu``: seconds of a clock, and seconds of CPU time that the process has taken."""
        self._gather_s = gather_s
        self._now = now
        self._cpu = cpu
        self._looked_at = (now(), cpu())

    def seconds(self, came: int) -> float:
        """How long to wait before the next fetch; the last one brought so many bytes. Ask after each."""
        now, cpu = self._now(), self._cpu()
        passed, used = now - self._looked_at[0], cpu - self._looked_at[1]
        self._looked_at = (now, cpu)
        if not 0 < came < _LITTLE_BYTES:
            return 0.0
        busy = min(used / passed, 1.0) if passed > 0 else 0.0
        longer = max(0.0, _LONGEST_S - self._gather_s) * max(0.0, busy - _BUSY_FROM) / (1 - _BUSY_FROM)
        return self._gather_s + longer
