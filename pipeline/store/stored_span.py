"""The last known time span and number of attempts. Searches plan with it, and check whether more has arrived."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

_SECONDS: Final = 10.0
"""How long it may be used for planning: a plan includes what has arrived since (see TimeWindow)."""


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """Times in milliseconds since 1970: that of the oldest attempt, and one after that of the newest."""

    first: int
    end: int
    rows: int
    seen_at: float = field(default_factory=time.monotonic)

    @property
    def is_fresh(self) -> bool:
        """Whether it may be used for planning. An empty store is always looked up again."""
        return self.rows > 0 and time.monotonic() - self.seen_at < _SECONDS
