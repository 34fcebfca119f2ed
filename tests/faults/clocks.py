"""Clocks that jump: a role's wall clock has the offset in a file, while its monotonic clock and its sleeps are unchanged.

    python -m tests.faults.clocks offset.txt retry

Everything in the process that uses ``time.time()`` or the product's clock gets the wrong time, kafka-python too. (libfaketime would
also affect C code, but it makes ``time.sleep()`` fail with EINVAL.)
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
    """The wall clock of one process, controlled from outside."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jump(0)

    @property
    def command(self) -> Sequence[str]:
        """Return the command that starts a role with this clock, without the role's name."""
        return (sys.executable, "-m", "tests.faults.clocks", str(self._file))

    def jump(self, seconds: int) -> None:
        """Set the clock's offset from the true time, in seconds; below 0 it is slow."""
        # Replaced atomically: the process never reads half of it.
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)


def shift(file: Path) -> None:
    """Make this process use the offset in the file from now on."""
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
    # Imported only now: modules that import the clock's function must get the wrong one.
    from consumers.cli.entry import main as run  # noqa: PLC0415

    sys.argv = ["oms-webhooks", role]
    run()


if __name__ == "__main__":
    main()
