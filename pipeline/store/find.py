"""Finds the attempts of a search: a page of their columns, a cursor for the next one, and how many there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from pipeline.core.search import ATTRIBUTES, AttemptQuery, Condition, Cursor, Filter, Kind, Predicate, leaves
from pipeline.store.conditions import Parameters, event_where, has_body, indexed_bodies, order_by, where
from pipeline.store.reader import Reader, Rows, columns, sql
from pipeline.store.walk import Progress, Span, asked_span, candidate_events, first_width, next_width, step

COUNTED_UP_TO: Final = 1_000
"""Where counting stops when it would mean to read texts: beyond, a count is a lower bound."""
_FEW: Final = 200
"""With at most this many attempts left by its other conditions, a search looks at the bodies of those only."""
_FEW_EVENTS: Final = 32
"""With at most this many events left by the index of the bodies, it looks at those only, and counts them. Of more, none is counted: each
body would have to be read, which takes longer than the page does."""

_A_DAY_MS: Final = 86_400_000
"""More than any two clocks of one deployment differ, and than a record whose timestamp is unusable waits for the process that reads it again."""

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
    """What is known of a search before the walk."""

    query: AttemptQuery
    whole: Span
    stored: int
    asked: Span
    few: tuple[tuple[str, int], ...] | None
    """Event id and time received of all attempts that can be meant, where these are few."""
    are_verified: bool = False
    """Whether the bodies of those few are known to be as asked for: nobody need look at them again."""

    def knowing(self, few: tuple[tuple[str, int], ...]) -> _Plan:
        """The same search, with what the index of the bodies said of it."""
        bodies = [one for one in self.query.required if has_body(one)]
        are_verified = len(indexed_bodies(bodies, Parameters())) == len(bodies)
        received = min(received for _, received in few)
        # No attempt is made before its event was received, as far as clocks agree.
        asked = replace(self.asked, first=max(self.asked.first, received - _A_DAY_MS)) if received else self.asked
        return replace(self, few=few, asked=asked, are_verified=are_verified)

    def conditions(self, window: Span, parameters: Parameters) -> str:
        """The search within a window, as an expression over ``attempts``."""
        required = self.query.required
        # Without any condition ClickHouse need not read all rows for the first ones in another order: an index says where they are.
        parts = [] if window == self.whole else [window.sql("created_at", parameters)]
        if self.query.after is not None:
            parts.append(_behind(self.query.after, parameters))
        if self.few is not None and self.are_verified:
            required = tuple(one for one in required if not has_body(one))
            parts.append(_of_events(self.few, parameters))
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
        elif known.few is None and any(map(has_body, query.required)):
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

    async def _few(self, required: Sequence[Filter], asked: Span) -> tuple[tuple[str, int], ...] | None:
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

        When the first was not enough, the index of the bodies is asked for all events at once (meanwhile, so that nobody waits for
        both). Few are looked at in one window, the last; none in none: each window has a price of its own, and a needle that is
        nowhere would pay them all.
        """
        in_time, left = plan.query.in_time, plan.asked
        if left.first >= left.end:
            return
        if plan.few is not None or in_time is None:
            yield plan, left
            return
        width = first_width(plan.whole, plan.stored)
        window, left = step(left, width, descending=in_time.descending)
        asking = asyncio.create_task(self._few_events(plan)) if left.first < left.end else None
        looked_at = 0
        try:
            while True:
                yield plan, window
                looked_at += window.end - window.first
                if left.first >= left.end:
                    return
                if asking is not None:
                    few = await asking
                    asking = None
                    if few is not None:
                        if few:
                            known = plan.knowing(few)
                            yield known, left.overlap(known.asked)
                        return
                width = next_width(width, looked_at, progress)
                window, left = step(left, width, descending=in_time.descending)
        finally:
            if asking is not None:  # the first window was enough: what the index says, an error included, is of no interest
                asking.add_done_callback(lambda done: done.cancelled() or done.exception())
                asking.cancel()

    async def _few_events(self, plan: _Plan) -> tuple[tuple[str, int], ...] | None:
        """Id and time received of all events that can be meant, where the index of the bodies leaves few of them."""
        parameters = Parameters()
        bodies = indexed_bodies(plan.query.required, parameters)
        if not bodies:
            return None
        known = [candidate_events(plan.whole, plan.asked, parameters), *event_where(plan.query.required, parameters)]
        select = "SELECT event_id, toUnixTimestamp64Milli(received_at) FROM events WHERE"
        found = await self._reader.rows(
            sql(select, " AND ".join([*known, *bodies]), f"LIMIT {_FEW_EVENTS + 1:d}"), parameters.values
        )
        return tuple({(event_id, received) for event_id, received in found}) if len(found) <= _FEW_EVENTS else None

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
                rows += await self._reader.rows(
                    sql(*select, condition, "ORDER BY", order_by(plan.query), limit), parameters.values
                )
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


def _of_events(few: Sequence[tuple[str, int]], parameters: Parameters) -> str:
    """That an attempt is of one of few events. The time comes first: a Bloom filter of ids lets one block of a hundred pass for each of them."""
    times = [received for _, received in few]
    received = Span(min(times) - _A_DAY_MS, max(times) + _A_DAY_MS).sql("event_received_at", parameters)
    named = f"event_id IN {parameters.add([event_id for event_id, _ in few], 'Array(String)')}"
    return f"({received} OR event_received_at = toDateTime64(0, 3, 'UTC')) AND {named}"


def among(few: Sequence[tuple[str, int]], parameters: Parameters) -> str:
    """That an event is one of few (id, milliseconds received; 0: not known), over ``events``. By time too, where all times are known: it begins the primary key."""
    named = f"event_id IN {parameters.add([event_id for event_id, _ in few], 'Array(String)')}"
    if not all(received for _, received in few):
        return named
    times = (
        f"arrayMap(time -> fromUnixTimestamp64Milli(time, 'UTC'), {parameters.add([time for _, time in few], 'Array(Int64)')})"
    )
    return f"received_at IN {times} AND {named}"


def _is_quickly_counted(leaf: Condition) -> bool:
    """Whether all attempts can be compared at once: not when that means to look into texts."""
    kind = ATTRIBUTES[leaf.attribute]
    return kind is not Kind.BODY and leaf.attribute != "response_body" and (not leaf.values or leaf.predicate in _EQUAL)
