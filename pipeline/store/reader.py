"""How reads are carried out: bound parameters, and a budget that a query cannot exceed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.store.connection import Client, Connections
from pipeline.store.errors import over_budget

Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Budget:
    """What one query may take."""

    seconds: float = 10.0
    memory_bytes: int = 2 * 1024**3

    def settings(self) -> dict[str, Any]:
        """As ClickHouse's settings."""
        return {
            "max_execution_time": self.seconds,
            "max_memory_usage": self.memory_bytes,
            # Stop when the time is over, not when ClickHouse estimates that it will be.
            "timeout_before_checking_execution_speed": 0,
            # It remembers which rows a condition met. Our conditions hold subqueries, whose results change while rows come in.
            "use_query_condition_cache": 0,
        }


class Reader:
    """Runs the queries of one piece of work; together they have one budget of time, and one place in line."""

    def __init__(self, connections: Connections, budget: Budget) -> None:
        self._connections = connections
        self._budget = budget
        self._spent = 0.0
        self._place: int | None = None

    def anew(self) -> Reader:
        """For another piece of work, with the whole budget."""
        return Reader(self._connections, self._budget)

    async def rows(
        self,
        statement: str,
        parameters: dict[str, Any],
        formats: dict[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Rows:
        """What a query returns. ``more`` are further settings of ClickHouse.

        Raises:
            StoreUnavailableError: ClickHouse cannot answer now.
            StoreBusyError: too many other searches are ahead.
            StoreBudgetError: the work takes more time or memory than it may.
        """

        def query(client: Client) -> Rows:
            # Waiting for a turn does not count.
            started = time.monotonic()
            left = self._budget.seconds - self._spent
            if left <= 0:
                raise over_budget()
            settings = Budget(left, self._budget.memory_bytes).settings() | dict(more or {})
            try:
                return client.query(
                    statement, parameters=parameters, settings=settings, column_formats=dict(formats or {})
                ).result_rows
            finally:
                self._spent += time.monotonic() - started

        if self._place is None:
            self._place = self._connections.turns.place()
        return await self._connections.read(query, self._place)


def columns(names: Sequence[str]) -> str:
    """Names of columns, for a SELECT."""
    return ", ".join(names)


def sql(*parts: str) -> str:
    """A statement of parts that are constants, names of columns or placeholders; values are bound."""
    return " ".join(parts)
