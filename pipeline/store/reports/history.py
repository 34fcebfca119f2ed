"""Past events with their bodies, newest first, for the preview of filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.store.bound_values import BoundValues
from pipeline.store.connection import Connections
from pipeline.store.reader import QueryBudget, Reader, sql
from pipeline.store.search.conditions import milliseconds
from schemas.event import EventType
from schemas.event_types import EventTypes

MAX_BODY: Final = 256 * 1024
"""Larger bodies are not read: a page of them would not fit into memory."""


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event as it was received. ``body`` is None if it is too large, was erased, or its retention is over."""

    id: str
    event_name: str
    received_at: datetime
    order_number: str
    body: bytes | None


class EventHistory:
    """Every method raises StoreUnavailableError, and StoreBudgetError if it exceeds its budget."""

    def __init__(self, connections: Connections, event_names: Sequence[str] = tuple(EventType)) -> None:
        """``event_names`` are the deployment's event types."""
        self._event_names = event_names
        self._reader = Reader(connections, QueryBudget(seconds=10.0, memory_bytes=1024**3))

    def use(self, types: EventTypes) -> None:
        """Count events of these types from now on."""
        self._event_names = types.names

    async def count(self, since: datetime, until: datetime) -> int:
        """How many OMS events were received from ``since`` (inclusive) to ``until`` (exclusive), each counted once."""
        parameters = BoundValues()
        statement = sql(
            "SELECT uniqExact(event_id) FROM events WHERE",
            _within(since, until, self._event_names, parameters),
        )
        [(number,)] = await self._reader.with_full_budget().rows(statement, parameters.values)
        return int(number)

    async def page(
        self, since: datetime, until: datetime, event_names: Sequence[str], after: PastEvent | None, limit: int
    ) -> list[PastEvent]:
        """The events that come after ``after``, newest first; fewer than ``limit`` at the end. An event may appear twice."""
        parameters = BoundValues()
        where = _within(since, until, event_names, parameters)
        if after is not None:
            time, name = parameters.time(milliseconds(after.received_at)), parameters.add(after.id, "String")
            where = f"{where} AND received_at <= {time} AND (received_at, event_id) < ({time}, {name})"
        body = f"if(length(request_body) > {MAX_BODY:d}, '', request_body) AS body"
        statement = sql(
            "SELECT event_id, event_name, received_at, order_number,",
            body,
            "FROM events WHERE",
            where,
            f"ORDER BY received_at DESC, event_id DESC LIMIT {limit:d}",
        )
        rows = await self._reader.with_full_budget().rows(statement, parameters.values, {"body": "bytes"})
        return [PastEvent(identifier, name, at, order, bytes(body) or None) for identifier, name, at, order, body in rows]


def _within(since: datetime, until: datetime, event_names: Sequence[str], parameters: BoundValues) -> str:
    first, last = parameters.time(milliseconds(since)), parameters.time(milliseconds(until))
    names = parameters.add(list(event_names), "Array(String)")
    # Test deliveries are not events of the OMS.
    return f"received_at >= {first} AND received_at < {last} AND source_topic != 'test' AND event_name IN {names}"
