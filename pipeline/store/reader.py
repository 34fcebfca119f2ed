"""Runs reads with bound parameters, and with a budget that a query cannot exceed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.store.connection import Client, Connections
from pipeline.store.errors import over_budget
from pipeline.store.stored_span import StoredSpan

Rows = Sequence[Sequence[Any]]

_STORED: Final = "SELECT toUnixTimestamp64Milli(min(created_at)), toUnixTimestamp64Milli(max(created_at)), count() FROM attempts"

INDEX_FIRST: Final = {"use_skip_indexes_on_data_read": 0}
"""For queries that an index answers: look it up for all parts at once. Looking it up part by part while reading takes twice as
long for rare values.
"""
IN_ORDER: Final = {"read_in_order_use_buffering": 0}
"""For the first rows in time order: read one week after the other. Reading ahead in all weeks takes twice as long for nothing."""


@dataclass(frozen=True, slots=True)
class QueryBudget:
    """The limits of one query."""

    seconds: float = 10.0
    memory_bytes: int = 2 * 1024**3

    def settings(self) -> dict[str, Any]:
        return {
            "max_execution_time": self.seconds,
            "max_memory_usage": self.memory_bytes,
            # Stop when the time is up, not when ClickHouse estimates that it will not be enough.
            "timeout_before_checking_execution_speed": 0,
            # ClickHouse caches which rows a condition matched, but the results of our subqueries change as rows arrive.
            "use_query_condition_cache": 0,
            # Compiling an expression takes longer than these queries do.
            "compile_expressions": 0,
            "compile_aggregate_expressions": 0,
            "compile_sort_description": 0,
        }


class Reader:
    """Runs the queries of one request. They share one time budget and one place in the queue."""

    def __init__(self, connections: Connections, budget: QueryBudget) -> None:
        self._connections = connections
        self._budget = budget
        self._spent = 0.0
        self._place: int | None = None

    def with_full_budget(self) -> Reader:
        """A reader for another request, with the whole budget."""
        return Reader(self._connections, self._budget)

    async def stored(self, *, exactly: bool = False) -> StoredSpan:
        """The time span of the attempts and their number, a few seconds old unless ``exactly``. Raises like :meth:`rows`."""
        known = self._connections.stored
        if known is None or exactly or not known.is_fresh:
            # The minima and maxima are in the parts' indexes: no rows are read.
            [(first, last, rows)] = await self.rows(_STORED, {})
            known = self._connections.stored = StoredSpan(first, last + 1, rows)
        return known

    async def rows(
        self,
        statement: str,
        parameters: dict[str, Any],
        formats: dict[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Rows:
        """The rows of a query. ``more`` are further ClickHouse settings.

        Raises:
            StoreUnavailableError: ClickHouse cannot answer now.
            StoreBusyError: too many other searches are ahead.
            StoreBudgetError: the work takes more time or memory than allowed.
        """

        def query(client: Client) -> Rows:
            # Waiting for a turn does not count.
            started = time.monotonic()
            left = self._budget.seconds - self._spent
            if left <= 0:
                raise over_budget()
            settings = QueryBudget(left, self._budget.memory_bytes).settings() | dict(more or {})
            try:
                found: Rows = client.query(
                    statement, parameters=parameters, settings=settings, column_formats=dict(formats or {})
                ).result_rows
            finally:
                took = time.monotonic() - started
                self._spent += took
            # When time runs out, chDB 4.4 sometimes returns some of the rows, or none, instead of an error.
            if took >= left:
                raise over_budget()
            return found

        if self._place is None:
            self._place = self._connections.turns.place()
        return await self._connections.read(query, self._place)


def columns(names: Sequence[str]) -> str:
    return ", ".join(names)


def sql(*parts: str) -> str:
    """A statement from parts that are constants, column names or placeholders; values are bound."""
    return " ".join(parts)
