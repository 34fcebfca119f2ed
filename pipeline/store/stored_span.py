"""What was last seen of the attempts: how many there are, and from when to when. Searches plan with it, and look whether more has come."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

_SECONDS: Final = 10.0
"""So long it is good enough to plan with: a plan leaves out nothing that came since (see TimeWindow)."""


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """Times in milliseconds since 1970: of the oldest attempt, and one behind that of the newest."""

    first: int
    end: int
    rows: int
    seen_at: float = field(default_factory=time.monotonic)

    @property
    def is_fresh(self) -> bool:
        """Whether a plan may be made with it. That there is nothing is never remembered."""
        return self.rows > 0 and time.monotonic() - self.seen_at < _SECONDS
