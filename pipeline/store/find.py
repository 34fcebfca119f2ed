"""Finds the attempts of a search: a page of their columns, a cursor for the next one, and how many there are."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from pipeline.core.search import ATTRIBUTES, AttemptQuery, Condition, Cursor, Filter, Kind, Predicate, leaves
from pipeline.store.conditions import event_where, has_body, is_indexed, order_by, where
from pipeline.store.first_events import MANY_EVENTS, Events, among, first_events, of_events
from pipeline.store.parameters import Parameters
from pipeline.store.reader import Reader, Rows, columns, sql
from pipeline.store.walk import Progress, Span, asked_span, candidate_events, first_width, next_width, step

COUNTED_UP_TO: Final = 1_000
"""Where counting stops when it would mean to read texts: beyond, a count is a lower bound."""
_FEW: Final = 200
"""With at most this many attempts left by its other conditions, a search looks at the bodies of those only."""
_FEW_EVENTS: Final = 16
"""So many events the index of the bodies is asked for first. When it has no more, their attempts are counted. Otherwise they are not: each
body would have to be read, which takes longer than the page does."""
_ATTEMPTS_AN_EVENT: Final = 2
"""With more attempts wanted, it is asked for as many events as have them, roughly."""
_MORE_EVENTS: Final = 8
"""So many times as many it is asked for when those were not enough."""
_EQUAL: Final = {
    Predicate.EQ, Predicate.NOT_EQ, Predicate.IN, Predicate.NOT_IN, Predicate.GT, Predicate.GTEQ, Predicate.LT, Predicate.LTEQ,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of a page. ``total`` is a lower bound unless ``is_exact``. ``next_cursor`` is None at the end, and in other orders."""

    rows: Rows
    total: int
    is_exact: bool
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known of a search."""

    query: AttemptQuery
    whole: Span
    stored: int
    asked: Span
    few: Events | None
    """Event id and time received of all attempts that can be meant, where these are few."""
    are_verified: bool = False
    """Whether the bodies of those few are known to be as asked for: nobody need look at them again."""
    are_all: bool = True
    """Whether those few are the events of all that is asked for, not only of a window."""

    def conditions(self, window: Span, parameters: Parameters) -> str:
        """The search within a window, as an expression over ``attempts``."""
        required = self.query.required
        # Without any condition ClickHouse need not read all rows for the first ones in another order: an index says where they are.
        parts = [] if window == self.whole else [window.sql("created_at", parameters)]
        if self.query.after is not None:
            parts.append(_behind(self.query.after, parameters))
        if self.few is not None and self.are_verified:
            required = tuple(one for one in required if not has_body(one))
            parts.append(of_events(self.few, parameters))
        candidates = "1"
        if any(map(has_body, required)):
            known = among(self.few, parameters) if self.few is not None else candidate_events(self.whole, window, parameters)
            candidates = " AND ".join([known, *event_where(required, parameters)])
        return " AND ".join([*parts, where(required, parameters, candidates)])


class Finder:
    """Walks through time, see walk. One a search."""

    def __init__(self, reader: Reader, selected: Sequence[str] = ("created_at", "id")) -> None:
        """Pages have the columns ``selected``; ``created_at`` and ``id`` are among them."""
        self._reader = reader
        self._selected = columns(selected)
        self._time, self._id = list(selected).index("created_at"), list(selected).index("id")

    async def find(self, query: AttemptQuery) -> Found:
        """One page."""
        plan = await self._plan(query)
        skip = 0 if query.after else (query.page - 1) * query.per_page
        rows, skipped, is_end, known = await self._page(plan, skip)
        if query.after is not None:
            total, is_exact = len(rows), False
        elif is_end:
            total, is_exact = skipped + len(rows), True
        elif any(map(has_body, query.required)) and (known.few is None or not known.are_all):
            total, is_exact = skipped + len(rows) + 1, False
        else:
            total, is_exact = await self._count(known)
        return Found(rows, total, is_exact, None if is_end else self._cursor(query, rows))

    async def scope(self, query: AttemptQuery, parameters: Parameters) -> tuple[Span, str] | None:
        """All that a search means, pages aside: the time that it covers, and an expression over ``attempts``; None: nothing."""
        plan = await self._plan(query)
        return (plan.asked, plan.conditions(plan.asked, parameters)) if plan.asked.first < plan.asked.end else None

    async def _whole(self) -> tuple[Span, int]:
        # The minima and maxima are in the parts' own indexes: nothing is read.
        times = "toUnixTimestamp64Milli(min(created_at)), toUnixTimestamp64Milli(max(created_at))"
        [(first, last, stored)] = await self._reader.rows(sql("SELECT", times, ", count() FROM attempts"), {})
        return (Span(first, last + 1), stored) if stored else (Span(0, 0), 0)

    async def _plan(self, query: AttemptQuery) -> _Plan:
        whole, stored = await self._whole()
        asked = asked_span(whole, query.required, query.after)
        few = await self._few(query.required, asked) if stored and asked.first < asked.end else None
        return _Plan(query, whole, stored, asked, few)

    async def _few(self, required: Sequence[Filter], asked: Span) -> Events | None:
        """Whether the conditions that need no body leave so few attempts that their bodies can be looked at one by one."""
        others = [one for one in required if not has_body(one)]
        if len(others) == len(required) or all(isinstance(one, Condition) and one.attribute == "created_at" for one in others):
            return None
        parameters = Parameters()
        condition = f"{asked.sql('created_at', parameters)} AND {where(others, parameters)}"
        received = "toUnixTimestamp64Milli(event_received_at)"
        statement = sql("SELECT event_id,", received, "FROM attempts WHERE", condition, f"LIMIT {_FEW + 1:d}")
        found = await self._reader.rows(statement, parameters.values)
        return tuple({(event_id, received) for event_id, received in found}) if len(found) <= _FEW else None

    async def _walk(self, plan: _Plan, progress: Progress) -> AsyncGenerator[tuple[_Plan, Span], None]:
        """The windows, and what is known of the search in each. Whoever walks keeps ``progress`` up to date.

        First the index of the bodies is asked for the first events, if it knows anything; the first windows reach as far as these. Where
        there are few, one window is enough.
        """
        in_time, left = plan.query.in_time, plan.asked
        if left.first >= left.end:
            return
        if plan.few is not None or in_time is None:
            yield plan, left
            return
        enough = max(_FEW_EVENTS, progress.wanted // _ATTEMPTS_AN_EVENT)
        looked_at = width = 0
        are_verified = all(map(is_indexed, filter(has_body, plan.query.required)))
        for most in (enough, enough * _MORE_EVENTS):
            first = await first_events(
                self._reader,
                plan.query.required,
                left,
                min(most, MANY_EVENTS),
                is_from_the_start=left.first == plan.whole.first,
                descending=in_time.descending,
            )
            if first is None:
                break
            if first.events:
                are_all = first.window == plan.asked
                yield replace(plan, few=first.events, are_verified=are_verified, are_all=are_all), first.window
            width = first.window.end - first.window.first
            looked_at += width
            if first.is_end:
                return
            left = left.without(first.window)
        least = first_width(plan.whole, plan.stored)
        while left.first < left.end:
            width = max(next_width(width, looked_at, progress), least)
            window, left = step(left, width, descending=in_time.descending)
            yield plan, window
            looked_at += window.end - window.first

    async def _page(self, plan: _Plan, skip: int) -> tuple[Rows, int, bool, _Plan]:
        """The rows, how many were skipped, whether there are no more, and what is known of the search by then."""
        rows: list[Sequence[Any]] = []
        wanted = plan.query.per_page + 1
        skipped = 0
        known = plan
        progress = Progress(skip + wanted)
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
                parameters = Parameters()
                limit = f"LIMIT {wanted - len(rows):d} OFFSET {offset:d}"
                condition = known.conditions(window, parameters)
                select = ("SELECT", self._selected, "FROM attempts WHERE")
                statement = sql(*select, condition, "ORDER BY", order_by(plan.query), limit)
                # A few rows here and there are read at once, not week by week from the newest back.
                more = {"optimize_read_in_order": 0} if known.few is not None else {}
                rows += await self._reader.rows(statement, parameters.values, more=more)
                progress.found = skipped + len(rows)
                if len(rows) >= wanted:
                    break
        return rows[: plan.query.per_page], skipped, len(rows) < wanted, known

    async def _count(self, plan: _Plan) -> tuple[int, bool]:
        if all(_is_quickly_counted(leaf) for one in plan.query.required for leaf in leaves(one)):
            if plan.asked.first >= plan.asked.end:
                return 0, True
            parameters = Parameters()
            condition = plan.conditions(plan.asked, parameters)
            return int(
                (await self._reader.rows(sql("SELECT count() FROM attempts WHERE", condition), parameters.values))[0][0]
            ), True
        total = 0
        progress = Progress(COUNTED_UP_TO + 1)
        async with aclosing(self._walk(plan, progress)) as walk:
            async for known, window in walk:
                total += await self._count_within(known, window, COUNTED_UP_TO + 1 - total)
                progress.found = total
                if total > COUNTED_UP_TO:
                    return COUNTED_UP_TO, False
        return total, True

    async def _count_within(self, plan: _Plan, window: Span, most: int) -> int:
        parameters = Parameters()
        condition = plan.conditions(window, parameters)
        statement = sql("SELECT count() FROM (SELECT 1 FROM attempts WHERE", condition, f"LIMIT {most:d})")
        return int((await self._reader.rows(statement, parameters.values))[0][0])

    def _cursor(self, query: AttemptQuery, rows: Rows) -> str | None:
        if query.in_time is None or not rows:
            return None
        last = rows[-1]
        return Cursor(round(last[self._time].timestamp() * 1000), last[self._id], query.in_time.descending).encode()


def _behind(cursor: Cursor, parameters: Parameters) -> str:
    operator = "<" if cursor.descending else ">"
    time, identifier = parameters.time(cursor.created_at_ms), parameters.add(cursor.id, "Int64")
    return f"(created_at {operator} {time} OR created_at = {time} AND id {operator} {identifier})"


def _is_quickly_counted(leaf: Condition) -> bool:
    """Whether all attempts can be compared at once: not when that means to look into texts."""
    kind = ATTRIBUTES[leaf.attribute]
    return kind is not Kind.BODY and leaf.attribute != "response_body" and (not leaf.values or leaf.predicate in _EQUAL)
