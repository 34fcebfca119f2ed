"""Reads: searches for attempts, one attempt in full, what endpoints were sent lately, dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from pipeline.core.search import AttemptQuery
from pipeline.store.attempts import ATTEMPT_COLUMNS, AttemptRow, attempt_of
from pipeline.store.bodies import Bodies, bodies_of
from pipeline.store.conditions import milliseconds
from pipeline.store.connection import Connections
from pipeline.store.figures import Facets, Histogram, facets, histogram
from pipeline.store.find import Finder
from pipeline.store.notifications import Failed, Notification, Sendable, failed, sendable
from pipeline.store.reader import Budget, Reader, Rows, columns, sql
from pipeline.store.rows import UNKNOWN_TIME
from pipeline.store.story import About, Record, record_of
from pipeline.store.summary import Summary, summary

__all__ = ["AttemptDetail", "AttemptPage", "AttemptRow", "Budget", "DeadLetterRow", "EndpointSummary", "Page", "Search"]

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """One page of what was found."""

    items: tuple[ItemT, ...]
    total_count: int
    current_page: int
    per_page: int

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return -(-self.total_count // self.per_page)


@dataclass(frozen=True, slots=True)
class AttemptPage(Page["AttemptRow"]):
    """One page of attempts.

    ``total_count`` is a lower bound when it is not exact: counting stops where it would mean to read on and on, and a page behind a
    cursor is not counted. ``next_cursor`` is what the next page is asked for with; None at the end, or when the order is not that
    of time.
    """

    is_exact: bool = True
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptDetail:
    """An attempt in full. ``request_body`` is None while the event is not in ClickHouse (yet, or any more).

    ``siblings`` are the other attempts of the same event at the same endpoint, the newest first (100 at most).
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
    """When the event was received; None when the attempt's record does not say."""


@dataclass(frozen=True, slots=True)
class EndpointSummary:
    """How many attempts an endpoint got, and the last of them, the newest first."""

    attempts_count: int = 0
    attempts: tuple[AttemptRow, ...] = ()


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A record that could not be used: why, where it was, and its bytes."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    failed_at: datetime
    record_key: bytes | None
    record_value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


_DETAIL_COLUMNS: Final = ("request_headers", "response_headers", "response_body", "response_body_encoding", "response_truncated")
_DEAD_LETTER_COLUMNS: Final = tuple(field.name for field in fields(DeadLetterRow))
_MOST_SIBLINGS: Final = 100
_NEWEST_FIRST: Final = "ORDER BY created_at DESC, id DESC"


class Search:
    """The reading side of the store. Every method raises StoreUnavailableError, and StoreBudgetError when it asks for too much."""

    def __init__(self, connections: Connections, budget: Budget | None = None, quick: Budget | None = None) -> None:
        """``quick`` is what :meth:`summary` may take: a page is not held up by its figures."""
        self._reader = Reader(connections, budget or Budget())
        self._quick = Reader(connections, quick or Budget(seconds=1.0))

    async def attempts(self, query: AttemptQuery) -> AttemptPage:
        """The attempts that a query finds."""
        found = await Finder(self._reader.anew(), ATTEMPT_COLUMNS).find(query)
        items = tuple(attempt_of(row) for row in found.rows)
        return AttemptPage(items, found.total, query.page, query.per_page, found.is_exact, found.next_cursor)

    async def facets(self, query: AttemptQuery) -> Facets:
        """How many attempts a search finds, by state, event type and endpoint."""
        return await facets(self._reader.anew(), query)

    async def histogram(self, query: AttemptQuery, bars: int = 60) -> Histogram:
        """When the attempts were made that a search finds: at most ``bars`` stretches of time of the same width."""
        return await histogram(self._reader.anew(), query, bars)

    async def summary(self, query: AttemptQuery, bars: int) -> Summary:
        """What a search finds, counted within the quick budget (a second): facets and a histogram, for all of it or for the newest."""
        return await summary(self._quick.anew(), query, bars)

    async def record_of(self, about: About, value: str) -> Record:
        """The events and attempts of an order, a shipment or a subscription."""
        return await record_of(self._reader.anew(), about, value)

    async def failed(self, query: AttemptQuery, most: int) -> Failed:
        """The notifications with failed attempts among those that a search finds."""
        return await failed(self._reader.anew(), query, most)

    async def sendable(self, batch: Sequence[Notification]) -> dict[int, Sendable]:
        """What sending notifications again takes, by the ids of their attempts."""
        return await sendable(self._reader.anew(), batch)

    async def bodies_of(self, attempts: Sequence[AttemptRow]) -> dict[int, Bodies]:
        """The bodies of attempts, by id."""
        return await bodies_of(self._reader.anew(), attempts)

    async def attempt(self, identifier: int) -> AttemptDetail | None:
        """One attempt with its bodies and headers, by its id; None when there is none."""
        selected = columns((*ATTEMPT_COLUMNS, *_DETAIL_COLUMNS, "event_received_at"))
        found = await self._rows(sql("SELECT", selected, "FROM attempts WHERE id = {id:Int64} LIMIT 1"), {"id": identifier})
        if not found:
            return None
        width = len(ATTEMPT_COLUMNS)
        attempt = attempt_of(found[0][:width])
        request_headers, response_headers, response_body, encoding, truncated, received = found[0][width:]
        same = {"id": identifier, "event": attempt.event_id, "endpoint": attempt.endpoint_id}
        siblings, request_body = await asyncio.gather(
            self._attempts(
                sql(
                    "WHERE event_id = {event:String} AND endpoint_id = {endpoint:Int64} AND id != {id:Int64}",
                    _NEWEST_FIRST,
                    f"LIMIT {_MOST_SIBLINGS:d}",
                ),
                same,
            ),
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

    async def _request_body(self, event_id: str, received: int) -> str | None:
        """The body that was sent: at its place in the primary key, or, when that is not known, wherever it is."""
        select = "SELECT request_body FROM events WHERE event_id = {event:String}"
        at_its_place = "AND received_at = fromUnixTimestamp64Milli({received:Int64}, 'UTC') LIMIT 1"
        rows = await self._rows(sql(select, at_its_place), {"event": event_id, "received": received})
        if not rows:
            rows = await self._rows(sql(select, "LIMIT 1"), {"event": event_id})
        # An erased body is empty; a body that was sent never is.
        return (rows[0][0] or None) if rows else None

    async def endpoint_summaries(self, endpoint_ids: Sequence[int], last: int = 25) -> dict[int, EndpointSummary]:
        """For each endpoint its number of attempts and the last ones."""
        # First which ones they are, from three narrow columns; then only those in full.
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

    async def dead_letters(self, limit: int = 50) -> tuple[DeadLetterRow, ...]:
        """The last records that could not be used, the newest first."""
        order = "FROM dead_letters ORDER BY failed_at DESC, topic, partition, offset DESC LIMIT {limit:UInt32}"
        formats = dict.fromkeys(("record_key", "record_value", "headers"), "bytes")
        rows = await self._rows(sql("SELECT", columns(_DEAD_LETTER_COLUMNS), order), {"limit": limit}, formats)
        return tuple(_dead_letter(row) for row in rows)

    async def _rows(self, statement: str, parameters: dict[str, Any], formats: dict[str, str] | None = None) -> Rows:
        return await self._reader.anew().rows(statement, parameters, formats)

    async def _attempts(self, clauses: str, parameters: dict[str, Any]) -> tuple[AttemptRow, ...]:
        rows = await self._rows(sql("SELECT", columns(ATTEMPT_COLUMNS), "FROM attempts", clauses), parameters)
        return tuple(attempt_of(row) for row in rows)


def _dead_letter(row: Sequence[Any]) -> DeadLetterRow:
    values = dict(zip(_DEAD_LETTER_COLUMNS, row, strict=True))
    values["headers"] = tuple((name.decode("utf-8", "replace"), value) for name, value in values["headers"])
    return DeadLetterRow(**values)
