"""New attempts as they are recorded. All listeners of the same search share one poll of the store.

Attempts that are recorded late still count as new (an attempt that times out is recorded when it has ended): each poll goes back one
minute, and skips attempts that were already sent. Everything is bounded: the searches, the listeners, the attempts of a poll, and the
queue of a listener that does not read. Listeners are told if attempts are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from pipeline.core.search import AttemptQuery, Combinator, Condition, Filter, Predicate, beginning
from pipeline.ops.clock import Clock
from pipeline.ops.logs import logger
from pipeline.store.search.conditions import has_body
from pipeline.store.search.queries import AttemptPage, AttemptRow
from pipeline.web.errors import ApiError

log = logger(__name__)

_MILLISECOND: Final = timedelta(milliseconds=1)
_LOOK_BACK: Final = timedelta(seconds=60)
BEFORE: Final = timedelta(seconds=10)
"""Attempts of this period before the start of a stream still count as new, because a page loads before its stream starts."""
_RECORDED_AFTER: Final = timedelta(seconds=5)
"""Attempts that were made before this time are recorded, unless the recorder is behind."""
_MAX_READ: Final = 2_000
"""How many attempts of the last minute a poll reads. With fewer, slow attempts are not found among many quick ones."""
_MAX_ROWS: Final = 200
"""How many attempts a message has, and how many are read if the search reads bodies, which takes longer."""
_MAX_WAITING: Final = 20
_SLOWER: Final = 4
"""After a failed poll, the next one waits this many times longer."""


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """A message to a listener: attempts, oldest first, or why there are none at the moment. ``is_over``: it is the last message.

    After a problem, a message without attempts says that it has ended. ``missed``: attempts of the time between were not
    read, because ClickHouse did not answer for too long. They are older than those of the message.
    """

    attempts: tuple[AttemptRow, ...] = ()
    problem: str = ""
    is_over: bool = False
    missed: tuple[datetime, datetime] | None = None


FindAttempts = Callable[[AttemptQuery], Awaitable[AttemptPage]]


class Listener(asyncio.Queue[StreamMessage]):
    """The messages for one listener. One that does not read loses the oldest."""

    def __init__(self, search: _WatchedSearch, since: datetime) -> None:
        super().__init__(_MAX_WAITING)
        self._search = search
        self.since = since
        """It gets the attempts that were made from then on."""
        self.lost = 0
        """How many attempts were in lost messages. The listener resets it."""

    @property
    def read_until(self) -> datetime:
        """Attempts that were made before this time were sent to it, or wait for it."""
        return self._search.read_until

    def send(self, message: StreamMessage) -> None:
        if self.full():
            self.lost += len(self.get_nowait().attempts)
        self.put_nowait(message)


@dataclass(eq=False, slots=True)
class _WatchedSearch:
    """A search with listeners."""

    query: AttemptQuery
    since: datetime
    read_until: datetime
    """Attempts that were made before this time were read by a poll."""
    kept_since: datetime
    """``last`` has all attempts that were made from then on."""
    listeners: set[Listener] = field(default_factory=set)
    reported: dict[int, datetime] = field(default_factory=dict)
    """Attempts that were sent and that a poll may still find again."""
    last: tuple[AttemptRow, ...] = ()
    """The latest attempts in full, for new listeners, so that nothing is missed between a page and its stream."""
    task: asyncio.Task[None] | None = None


class AttemptStreams:
    """The streams of this process."""

    def __init__(self, *, poll_seconds: float = 1.5, most_listeners: int = 50, most_searches: int = 10) -> None:
        self._pause = poll_seconds
        self._most_listeners = most_listeners
        self._most_searches = most_searches
        self._searches: dict[AttemptQuery, _WatchedSearch] = {}
        self._is_stopped = False

    @property
    def listeners(self) -> int:
        return sum(len(search.listeners) for search in self._searches.values())

    @asynccontextmanager
    async def listen(self, query: AttemptQuery, find: FindAttempts, clock: Clock) -> AsyncIterator[Listener]:
        """Listen to new attempts of a search, from now on. Its order and page are ignored.

        Raises:
            ApiError: 503, there are too many listeners or searches, or the process is stopping.
        """
        now = clock()
        query, since = _watched(query, now), now - BEFORE
        search = self._searches.get(query)
        if self._is_stopped or self.listeners >= self._most_listeners:
            raise ApiError(
                503, "Too many people are watching attempts right now. Try again later.", headers={"Retry-After": "30"}
            )
        if search is None:
            if len(self._searches) >= self._most_searches:
                message = (
                    "Too many different searches are being watched right now. Watch one with fewer filters, or try again later."
                )
                raise ApiError(503, message, headers={"Retry-After": "30"})
            search = self._searches[query] = _WatchedSearch(query, since, read_until=since, kept_since=since)
            search.task = asyncio.create_task(self._follow(search, find, clock), name="live attempts")
        listener = Listener(search, max(since, min(search.kept_since, now)))
        search.listeners.add(listener)
        if recent := tuple(row for row in search.last if row.created_at >= listener.since):
            listener.send(StreamMessage(recent))
        try:
            yield listener
        finally:
            search.listeners.discard(listener)
            if not search.listeners and self._searches.get(query) is search:
                del self._searches[query]
                await _ended(search)

    async def stop(self) -> None:
        """End all streams, and stop polling."""
        self._is_stopped = True
        searches, self._searches = list(self._searches.values()), {}
        for search in searches:
            _send(search, StreamMessage(is_over=True))
            await _ended(search)

    async def _follow(self, search: _WatchedSearch, find: FindAttempts, clock: Clock) -> None:
        has_failed = False
        while True:
            now = clock()
            since = max(search.since, now - _LOOK_BACK)
            try:
                page = await find(_polled(search.query, since))
                attempts = _new_attempts(search, page, now)
            except ApiError as error:
                _send(search, StreamMessage(problem=str(error)))
                has_failed = True
            except Exception:
                log.exception("the search for new attempts failed")
                _send(search, StreamMessage(problem="New attempts cannot be read right now. See the log of the API."))
                has_failed = True
            else:
                missed = (search.read_until, since) if search.read_until < since else None
                search.read_until = now - _RECORDED_AFTER
                if attempts or has_failed or missed:
                    _send(search, StreamMessage(attempts[-_MAX_ROWS:], missed=missed))
                has_failed = False
                if problem := _left_out(attempts, page):
                    _send(search, StreamMessage(problem=problem))
            await asyncio.sleep(self._pause * (_SLOWER if has_failed else 1))


def _watched(query: AttemptQuery, now: datetime) -> AttemptQuery:
    """What a new attempt must match, and nothing else: searches that differ only in order, page or beginning share one poll.

    Otherwise ``created_at_gteq=-24h`` would be another search for each listener.
    """
    return AttemptQuery(conditions=tuple(one for one in query.required if not _is_met(one, now - _LOOK_BACK)))


def _is_met(one: Filter, since: datetime) -> bool:
    """Whether all attempts since a time were made after the beginning that a filter asks for."""
    if not isinstance(one, Condition) or one.attribute != "created_at" or one.predicate not in (Predicate.GT, Predicate.GTEQ):
        return False
    return all(isinstance(value, datetime) and value < since for value in one.values)


def _polled(query: AttemptQuery, since: datetime) -> AttemptQuery:
    return replace(
        query,
        conditions=(*query.conditions, Condition("created_at", Predicate.GTEQ, (since,))),
        combinator=Combinator.AND,
        per_page=_MAX_ROWS if any(map(has_body, query.conditions)) else _MAX_READ,
        after=beginning(),
    )


def _new_attempts(search: _WatchedSearch, page: AttemptPage, now: datetime) -> tuple[AttemptRow, ...]:
    new = tuple(row for row in reversed(page.items) if row.id not in search.reported)
    search.reported |= {row.id: row.created_at for row in new}
    last = (*search.last, *new)
    gone = last[:-_MAX_ROWS] + (new[:1] if _is_cut(new, page) else ())
    search.last = last[-_MAX_ROWS:]
    search.kept_since = max([search.kept_since, *(row.created_at + _MILLISECOND for row in gone)])
    forgotten = now - 2 * _LOOK_BACK
    search.reported = {one: at for one, at in search.reported.items() if at > forgotten}
    return new


def _is_cut(new: Sequence[AttemptRow], page: AttemptPage) -> bool:
    """Whether there may be older new attempts that the page had no room for: its oldest attempt is new."""
    return page.next_cursor is not None and bool(new) and new[0].id == page.items[-1].id


def _left_out(new: Sequence[AttemptRow], page: AttemptPage) -> str:
    """Says that new attempts of a page are not shown, and how many. Empty if all are shown."""
    is_all = not _is_cut(new, page)
    if (count := len(new) - _MAX_ROWS) > 0:
        number = f"{count:,}" if is_all else f"At least {count:,}"
        return f"{number} more attempts were recorded at the same time and are not shown. Narrow your search to see all of them."
    return "" if is_all else "More attempts were recorded than are shown. Narrow your search to see all of them."


def _send(search: _WatchedSearch, message: StreamMessage) -> None:
    for listener in search.listeners:
        listener.send(message)


async def _ended(search: _WatchedSearch) -> None:
    if search.task is not None:
        search.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await search.task
