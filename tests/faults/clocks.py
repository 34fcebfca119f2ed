"""Clocks that jump: a role whose wall clock is as far off as a file says, while its monotonic clock and its sleeps go on.

    python -m tests.faults.clocks offset.txt retry

Everything in the process that asks ``time.time()`` or the product's clock is told the wrong time, kafka-python too. (libfaketime
would tell C code as well, but it makes ``time.sleep()`` fail with EINVAL.)
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from pipeline.ops import clock

_LOOK_EVERY_S = 0.1


class JumpingClock:
    """The wall clock of one process, from outside."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)

    @property
    def command(self) -> Sequence[str]:
        """What starts a role that has this clock; the role's name follows."""
        return (sys.executable, "-m", "tests.faults.clocks", str(self._file))

    def jump(self, seconds: int) -> None:
        """Set the clock so many seconds behind (below 0) or before the true time."""
        # Replaced in one step: the process never reads half of it.
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)


def shift(file: Path) -> None:
    """From now on this process goes by the offset in the file."""
    true_time, true_now = time.time, clock.utc_now
    offset = 0

    def follow() -> None:
        nonlocal offset
        while True:
            offset = int(file.read_text())
            time.sleep(_LOOK_EVERY_S)

    def wrong_time() -> float:
        return true_time() + offset

    def wrong_now() -> datetime:
        return true_now() + timedelta(seconds=offset)

    threading.Thread(target=follow, name="clock", daemon=True).start()
    time.time = wrong_time
    clock.utc_now = wrong_now


def main() -> None:
    file, role = sys.argv[1:]
    shift(Path(file))
    # Not before: modules that take the clock's function when they are imported must take the wrong one.
    from consumers.cli.entry import main as run  # noqa: PLC0415

    sys.argv = ["oms-webhooks", role]
    run()


if __name__ == "__main__":
    main()
