"""Clocks. Code that needs the time takes a clock as an argument, so that tests can pass another one."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeAlias

Clock: TypeAlias = Callable[[], datetime]
"""A wall clock."""

_BOOT_TIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)

steady_seconds: Final[Callable[[], float]] = (
    time.monotonic if _BOOT_TIME is None else functools.partial(time.clock_gettime, _BOOT_TIME)
)
"""A clock in seconds that nobody sets, and that runs while the machine is suspended (if the system has such a clock)."""


def utc_now() -> datetime:
    return datetime.now(UTC)
