"""The queries of the store: searches for attempts, one attempt in full, recent attempts of endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from pipeline.core.search import AttemptQuery
from pipeline.store.bound_values import BoundValues
from pipeline.store.connection import Connections
from pipeline.store.reader import INDEX_FIRST, QueryBudget, Reader, Rows, columns, sql
from pipeline.store.reports.recorded_values import SearchedValue, recorded_values
from pipeline.store.reports.timeline import TimelineRecords, TimelineSubject, record_of
from pipeline.store.rows import UNKNOWN_TIME
from pipeline.store.search.aggregates import Facets, Histogram, facets, histogram
from pipeline.store.search.attempt_rows import ATTEMPT_COLUMNS, AttemptRow, attempt_of
from pipeline.store.search.bodies import Bodies, bodies_of, request_bodies
from pipeline.store.search.conditions import milliseconds
from pipeline.store.search.find import Finder
from pipeline.store.search.first_events import of_events
from pipeline.store.search.summary import SearchSummary, summary

__all__ = [
    "AttemptDetail",
    "AttemptPage",
    "AttemptRow",
    "EndpointSummary",
    "QueryBudget",
    "ResultPage",
    "Search",
]

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class ResultPage(Generic[ItemT]):
    """One page of results."""

    items: tuple[ItemT, ...]
    total_count: int
    current_page: int
    per_page: int

    @property
    def pages(self) -> int:
        return -(-self.total_count // self.per_page)


@dataclass(frozen=True, slots=True)
class AttemptPage(ResultPage["AttemptRow"]):
    """One page of attempts.

    ``total_count`` is a lower bound if it is not exact: counting stops when it would read too much, and a page after a cursor is
    not counted. ``next_cursor`` is the cursor of the next page; None at the end, or in an order other than by time.
    ``sorted_since``: in an order other than by time, only the newest ``total_count`` attempts were sorted, and the oldest of them
    was made then; None if all were sorted.
    """

    is_exact: bool = True
    next_cursor: str | None = None
    sorted_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class AttemptDetail:
    """An attempt in full. ``request_body`` is None if the event is not in ClickHouse (yet, or any more).

    ``siblings`` are the other attempts of the same event at the same endpoint, newest first (at most 100).
    """

    attempt: AttemptRow
    request_headers: dict[str, str]
    response_headers: tuple[tuple[str, str], ...]
    response_body: str
    response_body_encoding: str
    response_truncated: bool
    request_body: str | None
    siblings: tuple[AttemptRow, ...]
    event_received_at: datetime | None = None
    """When the event was received; None if the attempt's record does not say."""


@dataclass(frozen=True, slots=True)
class EndpointSummary:
    """The number of an endpoint's attempts, and the last of them, newest first."""

    attempts_count: int = 0
    attempts: tuple[AttemptRow, ...] = ()


_DETAIL_COLUMNS: Final = ("request_headers", "response_headers", "response_body", "response_body_encoding", "response_truncated")
_MAX_SIBLINGS: Final = 100
_CLOCKS_APART_MS: Final = 24 * 3_600_000
"""An attempt is made after its event was received, but by another clock. Earlier weeks are not read."""
_NEWEST_FIRST: Final = "ORDER BY created_at DESC, id DESC"


class Search:
    """The reading side of the store. Every method raises StoreUnavailableError, and StoreBudgetError if it exceeds its budget."""

    def __init__(self, connections: Connections, budget: QueryBudget | None = None, quick: QueryBudget | None = None) -> None:
        """``quick`` is the budget of :meth:`summary`: aggregates must not delay a page."""
        self._connections = connections
        self._reader = Reader(connections, budget or QueryBudget())
        self._quick = Reader(connections, quick or QueryBudget(seconds=1.0))

    async def attempts(self, query: AttemptQuery) -> AttemptPage:
        found = await Finder(self._reader.with_full_budget(), ATTEMPT_COLUMNS).find(query)
        items = tuple(attempt_of(row) for row in found.rows)
        return AttemptPage(items, found.total, query.page, query.per_page, found.is_exact, found.next_cursor, found.sorted_since)

    async def facets(self, query: AttemptQuery) -> Facets:
        """The number of attempts that a search finds, by state, event type and endpoint."""
        return await facets(self._reader.with_full_budget(), query)

    async def histogram(self, query: AttemptQuery, bars: int = 60) -> Histogram:
        """When the attempts of a search were made: at most ``bars`` intervals of equal width."""
        return await histogram(self._reader.with_full_budget(), query, bars)

    async def summary(self, query: AttemptQuery, bars: int) -> SearchSummary:
        """Facets and a histogram within the quick budget (a second), for all attempts of a search or for the newest."""
        return await summary(self._quick.with_full_budget(), query, bars)

    async def record_of(self, about: TimelineSubject, value: str) -> TimelineRecords:
        """The events and attempts of an order, a shipment, a subscription or a stock item."""
        return await record_of(self._reader.with_full_budget(), about, value)

    async def recorded_values(self, asked: Iterable[SearchedValue]) -> frozenset[SearchedValue]:
        """The searched values that exist in the records, looked up within the quick budget (a second)."""
        return await recorded_values(self._quick.with_full_budget(), asked)

    async def bodies_of(self, attempts: Sequence[AttemptRow], most_bytes: int | None = None) -> dict[int, Bodies | None]:
        """The bodies of attempts, by id. None: the request body is larger than ``most_bytes``. Attempts that are gone are left out."""
        return await bodies_of(self._reader.with_full_budget(), attempts, most_bytes)

    async def request_bodies(self, attempts: Sequence[AttemptRow]) -> dict[str, str]:
        """What attempts sent, by the ids of their events. Bodies larger than ``LARGE_BODY`` are left out."""
        return await request_bodies(self._reader.with_full_budget(), attempts)

    async def attempt(self, identifier: int) -> AttemptDetail | None:
        """One attempt by id, with its bodies and headers; None if there is none."""
        selected = columns((*ATTEMPT_COLUMNS, *_DETAIL_COLUMNS, "event_received_at"))
        found = await self._rows(sql("SELECT", selected, "FROM attempts WHERE id = {id:Int64} LIMIT 1"), {"id": identifier})
        if not found:
            return None
        width = len(ATTEMPT_COLUMNS)
        attempt = attempt_of(found[0][:width])
        request_headers, response_headers, response_body, encoding, truncated, received = found[0][width:]
        siblings, request_body = await asyncio.gather(
            self._siblings(attempt, milliseconds(received)),
            self._request_body(attempt.event_id, milliseconds(received)),
        )
        return AttemptDetail(
            attempt=attempt,
            request_headers=dict(request_headers),
            response_headers=tuple((name, value) for name, value in response_headers),
            response_body=response_body,
            response_body_encoding=encoding,
            response_truncated=truncated,
            request_body=request_body,
            siblings=siblings,
            event_received_at=None if received == UNKNOWN_TIME else received,
        )

    async def _siblings(self, attempt: AttemptRow, received: int) -> tuple[AttemptRow, ...]:
        """The other attempts of the same event at the same endpoint."""
        parameters = BoundValues()
        # The time at which the event was received, if known, leaves few blocks to read.
        of_event = f"event_id = {parameters.add(attempt.event_id, 'String')}"
        test = of_event
        if received:
            since = parameters.time(received - _CLOCKS_APART_MS)
            test = f"created_at >= {since} AND {of_events([(attempt.event_id, received)], parameters)}"
        endpoint, own = parameters.add(attempt.endpoint_id, "Int64"), parameters.add(attempt.id, "Int64")
        other = f"endpoint_id = {endpoint} AND id != {own}"
        return await self._attempts(
            sql("WHERE", test, "AND", other, _NEWEST_FIRST, f"LIMIT {_MAX_SIBLINGS:d}"), parameters.values
        )

    async def _request_body(self, event_id: str, received: int) -> str | None:
        """The sent body: by its place in the primary key or, if that is unknown, by its id alone."""
        select = "SELECT request_body FROM events WHERE event_id = {event:String}"
        at_its_place = "AND received_at = fromUnixTimestamp64Milli({received:Int64}, 'UTC') LIMIT 1"
        rows = await self._rows(sql(select, at_its_place), {"event": event_id, "received": received})
        if not rows:
            rows = await self._rows(sql(select, "LIMIT 1"), {"event": event_id})
        # An erased body is empty; a sent body never is.
        return (rows[0][0] or None) if rows else None

    async def endpoint_summaries(self, endpoint_ids: Sequence[int], last: int = 25) -> dict[int, EndpointSummary]:
        """The number of attempts of each endpoint, and the last ones."""
        # First find which attempts these are, from three narrow columns; then read only those in full.
        newest = f"groupArraySorted({max(last, 1):d})((-toUnixTimestamp64Milli(created_at), -id))"
        query = sql("SELECT endpoint_id, count(),", newest, "FROM attempts WHERE endpoint_id IN {ids:Array(Int64)} GROUP BY 1")
        found = await self._rows(query, {"ids": list(endpoint_ids)})
        wanted = [(-time, -identifier) for row in found for time, identifier in row[2]] if last else []
        rows: tuple[AttemptRow, ...] = ()
        if wanted:
            range_of_times = (
                "created_at BETWEEN fromUnixTimestamp64Milli({first:Int64}) AND fromUnixTimestamp64Milli({last:Int64})"
            )
            times, ids = zip(*wanted, strict=True)
            rows = await self._attempts(
                sql("WHERE", range_of_times, "AND id IN {ids:Array(Int64)}", _NEWEST_FIRST),
                {"first": min(times), "last": max(times), "ids": list(ids)},
            )
        counts = {row[0]: row[1] for row in found}
        return {
            endpoint_id: EndpointSummary(counts.get(endpoint_id, 0), tuple(row for row in rows if row.endpoint_id == endpoint_id))
            for endpoint_id in endpoint_ids
        }

    async def _rows(self, statement: str, parameters: dict[str, Any]) -> Rows:
        # Nearly all of these queries concern a few rows, which an index finds.
        return await self._reader.with_full_budget().rows(statement, parameters, more=INDEX_FIRST)

    async def _attempts(self, clauses: str, parameters: dict[str, Any]) -> tuple[AttemptRow, ...]:
        rows = await self._rows(sql("SELECT", columns(ATTEMPT_COLUMNS), "FROM attempts", clauses), parameters)
        return tuple(attempt_of(row) for row in rows)
