"""Faults of the ClickHouse shim: how statements fail, which ones, and how many."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from tests.contract.clickhouse_engine import Statement


class FaultKind(enum.StrEnum):
    """How a statement fails."""

    UNAVAILABLE = "unavailable"
    """503 and nothing done."""
    UNAVAILABLE_AFTER = "unavailable_after"
    """Done, and then 503: an ambiguous insert."""
    DROP = "drop"
    """The connection is closed without an answer, nothing done."""
    LOST = "lost"
    """Done, and then the connection is closed without an answer: an ambiguous insert."""
    SLOW = "slow"
    """Done after ``seconds``."""
    LATE = "late"
    """503 at once, and done after ``seconds`` all the same: the insert of a zombie."""
    REFUSED = "refused"
    """Nothing done; the answer is ``status``, ``text``, and ClickHouse's header with the code that the text begins with, if any."""


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
