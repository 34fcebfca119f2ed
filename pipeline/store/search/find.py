"""Finds the attempts of a search: a page of rows, a cursor for the next page, and the number of attempts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from pipeline.core.search import ATTRIBUTES, AttemptQuery, Condition, Cursor, Filter, Kind, Predicate, leaves
from pipeline.store.bound_values import BoundValues
from pipeline.store.reader import IN_ORDER, INDEX_FIRST, Reader, Rows, columns, sql
from pipeline.store.search.conditions import has_body, milliseconds, order_by, where
from pipeline.store.search.first_events import MANY_EVENTS, Events, first_events
from pipeline.store.search.plan import SearchPlan
from pipeline.store.search.time_windows import (
    TimeWindow,
    WindowProgress,
    first_width,
    next_width,
    requested_span,
    step,
    width_of_rows,
    windows_without_bodies,
)

COUNTED_UP_TO: Final = 1_000
"""Where counting stops if it has to read texts: the count is then a lower bound."""
SORTED: Final = 2_000
"""In an order other than by time, how many of the newest attempts are sorted if finding them requires reading texts."""
_FEW: Final = 200
"""If the other conditions leave at most this many attempts, only their bodies are read."""
_FEW_EVENTS: Final = 16
"""How many events are first looked up in the index of bodies. If there are no more, their attempts are counted. Otherwise they
are not counted: each body would have to be read, which takes longer than the page.
"""
_READ_OF_FEW: Final = 100
"""If these events have at most this many attempts, all are read at once."""
_ATTEMPTS_AN_EVENT: Final = 2
"""If more attempts are wanted, the index is asked for about as many events as have them."""
_MORE_EVENTS: Final = 8
"""If these are not enough, it is asked for this many times as many."""
_INDEXED: Final = frozenset({"id", "event_id", "order_number", "shipment_number", "subscription_id", "stock_item_id", "sku"})
"""Attributes with an index (see migrations 0002 and 0017)."""
_EQUAL: Final = {
    Predicate.EQ, Predicate.NOT_EQ, Predicate.IN, Predicate.NOT_IN, Predicate.GT, Predicate.GTEQ, Predicate.LT, Predicate.LTEQ,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FoundAttempts:
    """The rows of a page. ``total`` is a lower bound unless ``is_exact``. ``next_cursor`` is None at the end, and in other
    orders.

    ``sorted_since``: when the oldest sorted attempt was made, if only the newest were sorted; None if all were.
    """

    rows: Rows
    total: int
    is_exact: bool
    next_cursor: str | None
    sorted_since: datetime | None = None


class Finder:
    """Searches time window by time window (see `time_windows.py`). One for each search."""

    def __init__(self, reader: Reader, selected: Sequence[str] = ("created_at", "id")) -> None:
        """Pages have the columns ``selected``, which include ``created_at`` and ``id``."""
        self._reader = reader
        self._selected = columns(selected)
        self._time, self._id = list(selected).index("created_at"), list(selected).index("id")

    async def find(self, query: AttemptQuery) -> FoundAttempts:
        plan = await self._plan(query)
        if query.in_time is None and not can_count_without_texts(query):
            return await self._sorted(plan)
        skip = 0 if query.after else (query.page - 1) * query.per_page
        found, skipped, known = await self._page(plan, skip)
        rows, is_end = found[: query.per_page], len(found) <= query.per_page
        if query.after is not None:
            total, is_exact = len(rows), False
        elif is_end or (known.is_counted and len(found) < _READ_OF_FEW):
            total, is_exact = skipped + len(found), True
        elif any(map(has_body, query.required)) and not known.is_counted:
            total, is_exact = skipped + len(rows) + 1, False
        else:
            total, is_exact = await self._count(known)
            if not is_exact:  # where counting stopped; this page may be behind that
                total = max(total, skipped + len(found))
        return FoundAttempts(rows, total, is_exact, None if is_end else self._cursor(query, rows))

    async def scope(
        self, query: AttemptQuery, parameters: BoundValues, *, exactly: bool = False
    ) -> tuple[TimeWindow, str] | None:
        """The time that a search covers, and its condition as an expression over ``attempts``, ignoring pages. None: it finds
        nothing.

        ``exactly``: the time ends with what is stored now, not with what was stored a few seconds ago.
        """
        plan = await self._plan(query, exactly=exactly)
        return (plan.asked, plan.conditions(plan.asked, parameters)) if plan.asked.first < plan.asked.end else None

    async def _plan(self, query: AttemptQuery, *, exactly: bool = False) -> SearchPlan:
        stored = await self._reader.stored(exactly=exactly)
        whole = TimeWindow(stored.first, stored.end) if stored.rows else TimeWindow(0, 0)
        asked = requested_span(whole, query.required, query.after, exactly=exactly)
        few = await self._few(query.required, asked) if asked.first < asked.end else None
        return SearchPlan(query, whole, stored.rows, asked, few)

    async def _few(self, required: Sequence[Filter], asked: TimeWindow) -> Events | None:
        """The events that the conditions without bodies leave, if they are so few that their bodies can all be read."""
        others = [one for one in required if not has_body(one)]
        if len(others) == len(required) or all(isinstance(one, Condition) and one.attribute == "created_at" for one in others):
            return None
        parameters = BoundValues()
        condition = f"{asked.sql('created_at', parameters)} AND {where(others, parameters)}"
        received = "toUnixTimestamp64Milli(event_received_at)"
        statement = sql("SELECT event_id,", received, "FROM attempts WHERE", condition, f"LIMIT {_FEW + 1:d}")
        found = await self._reader.rows(statement, parameters.values)
        return tuple({(event_id, received) for event_id, received in found}) if len(found) <= _FEW else None

    async def _walk(self, plan: SearchPlan, progress: WindowProgress) -> AsyncGenerator[tuple[SearchPlan, TimeWindow], None]:
        """The windows, and the plan of the search in each. The caller keeps ``progress`` up to date.

        If the index of bodies can answer, it is first asked for the first events, and the first windows extend to them. If there
        are few events, one window is enough.
        """
        in_time, left = plan.query.in_time, plan.asked
        if left.first >= left.end:
            return
        if plan.is_narrow or in_time is None:
            yield plan, left
            return
        if not any(map(has_body, plan.query.required)):
            width, is_one = width_of_rows(plan.whole, plan.stored), is_found_by_index(plan.query)
            for window in windows_without_bodies(left, width, progress, is_one=is_one, descending=in_time.descending):
                yield plan, window
            return
        enough = max(_FEW_EVENTS, progress.wanted // _ATTEMPTS_AN_EVENT)
        examined = width = 0
        for most in (enough, enough * _MORE_EVENTS):
            first = await first_events(
                self._reader,
                plan.query.required,
                left,
                min(most, MANY_EVENTS),
                descending=in_time.descending,
            )
            if first is None:
                break
            if first.events or first.has_late:
                yield replace(plan, first=first), first.window
            width = first.window.end - first.window.first
            examined += width
            if first.is_end:
                return
            left = left.without(first.window)
        least = first_width(plan.whole, plan.stored)
        while left.first < left.end:
            width = max(next_width(width, examined, progress), least)
            window, left = step(left, width, descending=in_time.descending)
            yield plan, window
            examined += window.end - window.first

    async def _page(self, plan: SearchPlan, skip: int) -> tuple[Rows, int, SearchPlan]:
        """The rows, with at least one extra row if there are more; how many were skipped; and the plan at that point."""
        rows: list[Sequence[Any]] = []
        wanted = plan.query.per_page + 1
        skipped = 0
        known = plan
        progress = WindowProgress(skip + wanted)
        async with aclosing(self._walk(plan, progress)) as walk:
            async for known, window in walk:
                if skipped < skip:
                    here = await self._count_within(known, window, skip - skipped)
                    skipped += here
                    progress.found = skipped
                    if skipped < skip:
                        continue
                    offset = here
                else:
                    offset = 0
                parameters = BoundValues()
                # All attempts of a few events are read, so their number is known without another query.
                most = _READ_OF_FEW if known.is_counted and plan.query.after is None else 0
                limit = f"LIMIT {max(wanted - len(rows), most):d} OFFSET {offset:d}"
                condition = known.conditions(window, parameters)
                select = ("SELECT", self._selected, "FROM attempts WHERE")
                statement = sql(*select, condition, "ORDER BY", order_by(plan.query), limit)
                rows += await self._reader.rows(statement, parameters.values, more=_settings(known))
                progress.found = skipped + len(rows)
                if len(rows) >= wanted:
                    break
        return rows, skipped, known

    async def _sorted(self, plan: SearchPlan) -> FoundAttempts:
        """A page in another order. Reading texts is costly, so only the newest attempts are found and sorted."""
        query = plan.query
        newest = replace(plan, query=replace(query, sorts=(), page=1, per_page=SORTED, after=None))
        finder = Finder(self._reader)
        found, _, _ = await finder._page(newest, 0)
        if not found:
            return FoundAttempts((), 0, is_exact=True, next_cursor=None)
        rows, is_all = found[:SORTED], len(found) <= SORTED
        (last, _), (first, _) = rows[0], rows[-1]
        parameters = BoundValues()
        within = TimeWindow(milliseconds(first), milliseconds(last) + 1).sql("created_at", parameters)
        named = f"id IN {parameters.add([identifier for _, identifier in rows], 'Array(Int64)')}"
        limit = f"LIMIT {query.per_page:d} OFFSET {(query.page - 1) * query.per_page:d}"
        select = ("SELECT", self._selected, "FROM attempts WHERE", within, "AND", named, "ORDER BY", order_by(query), limit)
        page = await self._reader.rows(sql(*select), parameters.values)
        return FoundAttempts(page, len(rows), is_all, None, sorted_since=None if is_all else first)

    async def _count(self, plan: SearchPlan) -> tuple[int, bool]:
        if can_count_without_texts(plan.query):
            if plan.asked.first >= plan.asked.end:
                return 0, True
            parameters = BoundValues()
            condition = plan.conditions(plan.asked, parameters)
            return int(
                (await self._reader.rows(sql("SELECT count() FROM attempts WHERE", condition), parameters.values))[0][0]
            ), True
        total = 0
        progress = WindowProgress(COUNTED_UP_TO + 1)
        async with aclosing(self._walk(plan, progress)) as walk:
            async for known, window in walk:
                total += await self._count_within(known, window, COUNTED_UP_TO + 1 - total)
                progress.found = total
                if total > COUNTED_UP_TO:
                    return COUNTED_UP_TO, False
        return total, True

    async def _count_within(self, plan: SearchPlan, window: TimeWindow, most: int) -> int:
        parameters = BoundValues()
        condition = plan.conditions(window, parameters)
        statement = sql("SELECT count() FROM (SELECT 1 FROM attempts WHERE", condition, f"LIMIT {most:d})")
        return int((await self._reader.rows(statement, parameters.values))[0][0])

    def _cursor(self, query: AttemptQuery, rows: Rows) -> str | None:
        if query.in_time is None or not rows:
            return None
        last = rows[-1]
        return Cursor(round(last[self._time].timestamp() * 1000), last[self._id], query.in_time.descending).encode()


def _settings(plan: SearchPlan) -> Mapping[str, int]:
    """ClickHouse settings for reading a page."""
    if plan.is_narrow:
        # A few scattered rows are read at once, not week by week from the newest.
        return {"optimize_read_in_order": 0}
    return {**IN_ORDER, **INDEX_FIRST} if is_found_by_index(plan.query) else IN_ORDER


def is_found_by_index(query: AttemptQuery) -> bool:
    """Whether an index reduces the whole history to a small part."""
    return any(
        isinstance(one, Condition) and one.attribute in _INDEXED and one.predicate in (Predicate.EQ, Predicate.IN)
        for one in query.required
    )


def can_count_without_texts(query: AttemptQuery) -> bool:
    """Whether all attempts can be compared without reading texts."""
    return all(_is_quickly_compared(leaf) for one in query.required for leaf in leaves(one))


def _is_quickly_compared(leaf: Condition) -> bool:
    kind = ATTRIBUTES[leaf.attribute]
    return kind is not Kind.BODY and leaf.attribute != "response_body" and (not leaf.values or leaf.predicate in _EQUAL)
