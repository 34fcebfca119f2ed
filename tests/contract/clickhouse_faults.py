"""Faults of the ClickHouse shim: how statements fail, which ones, and how many."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from tests.contract.clickhouse_engine import Statement


class FaultKind(enum.StrEnum):
    """How a statement fails."""

    UNAVAILABLE = "unavailable"
    """503, not executed."""
    UNAVAILABLE_AFTER = "unavailable_after"
    """Executed, and then 503: an ambiguous insert."""
    DROP = "drop"
    """The connection is closed without an answer, not executed."""
    LOST = "lost"
    """Executed, and then the connection is closed without an answer: an ambiguous insert."""
    SLOW = "slow"
    """Executed after ``seconds``."""
    LATE = "late"
    """503 at once, but still executed after ``seconds``: a zombie's insert."""
    REFUSED = "refused"
    """Not executed; the answer is ``status``, ``text``, and ClickHouse's header with the code at the start of the text, if any."""


@dataclass
class Fault:
    """A fault for the next ``times`` statements that contain ``matching`` and have more than ``over_bytes`` bytes."""

    kind: str
    matching: str = "INSERT INTO"
    times: int = 1
    seconds: float = 0.0
    over_bytes: int = 0
    status: int = 500
    text: str = ""


@dataclass
class Faults:
    """The planned faults; each statement asks for its own."""

    waiting: list[Fault] = field(default_factory=list)

    def next(self, statement: Statement) -> Fault | None:
        """Return the fault of this statement, if any."""
        for fault in self.waiting:
            is_meant = fault.matching.encode() in statement.sql[:2000] and len(statement.sql) > fault.over_bytes
            if is_meant and fault.times > 0:
                fault.times -= 1
                return fault
        return None
