"""Raises the limit of file descriptors as far as the system allows, and divides them.

Each connection takes one. A process starts with the soft limit, often 1024, which is meant for programs that use select(). It may
raise it to the hard limit.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from typing import Final

OWN: Final = 256
"""For Kafka's clients, ClickHouse's connections or files, libraries, pipes, DNS look-ups."""
MAX_VISITORS: Final = 512
_MOST: Final = 1_048_576
"""The requested limit if there is no hard limit."""
_DIRECTORIES: Final = ("/proc/self/fd", "/dev/fd")


@dataclass(frozen=True, slots=True)
class DescriptorBudget:
    """How a process's descriptors are divided."""

    limit: int
    in_flight: int

    @property
    def visitors(self) -> int:
        """Connections to our own port."""
        return min(MAX_VISITORS, max(32, self.limit // 4))

    @property
    def idle(self) -> int:
        """Idle connections to endpoints: the rest, but not more than there are requests."""
        return max(0, min(self.in_flight, self.limit - self.in_flight - self.visitors - OWN))

    def problem(self) -> str | None:
        """Why the limit is too low, and what to do; None if it is high enough."""
        needed = self.in_flight + self.visitors + OWN
        if self.limit >= needed:
            return None
        return (
            f"This process may open {self.limit:,} files (the hard limit of RLIMIT_NOFILE), and may need {needed:,}: "
            f"{self.in_flight:,} for max_in_flight, {self.visitors:,} for its own port, {OWN:,} for Kafka, ClickHouse and the "
            "rest. Raise the limit (ulimit -Hn, LimitNOFILE= of systemd), or lower OMS_WEBHOOKS_MAX_IN_FLIGHT. Deliveries without "
            "a descriptor are parked."
        )


def descriptor_limit() -> int:
    """The current limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit() -> tuple[int, int]:
    """Raise the soft limit to the hard one. Returns the old and the new limit."""
    before = descriptor_limit()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):  # macOS has its own limit below an infinite hard limit
            return before, before
    return before, descriptor_limit()


def open_descriptors() -> int:
    """The number of open descriptors; 0 if the system does not report it."""
    for directory in _DIRECTORIES:
        try:
            return len(os.listdir(directory))  # noqa: PTH208 - there may be thousands
        except OSError:
            continue
    return 0
