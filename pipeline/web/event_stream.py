"""New attempts as server-sent events. The API and the dashboard share the stream; format and access differ."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from aiohttp import web

from pipeline.core.search import AttemptQuery, Combinator, Condition, Predicate
from pipeline.core.search.problems import shown
from pipeline.ops.clock import Clock
from pipeline.store.search.queries import AttemptPage, AttemptRow
from pipeline.web.attempt_streams import BEFORE, Listener, StreamMessage
from pipeline.web.compression import EVENT_STREAM
from pipeline.web.errors import ApiError
from pipeline.web.routes import Parameter
from pipeline.web.search_errors import searching
from pipeline.web.services import AttemptServices, LiveAttemptServices

HEARTBEAT_SECONDS: Final = 10.0
"""The longest pause between writes: it keeps proxies from closing the stream, and the listener's access is checked again."""
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class MissedAttempts:
    """Attempts that a listener did not get, because its connection was broken or too slow: those from ``since`` to just before ``until``."""

    since: datetime
    until: datetime
    count: int | None
    """None: not known."""
    is_exact: bool = True


LAST_EVENT: Final = Parameter(
    "last_event_id",
    "The id of the last event that the client has got, after a break. A browser that reconnects by itself sends the header "
    "Last-Event-ID instead.",
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_ID: Final = 14


@dataclass(frozen=True, slots=True)
class StreamForm:
    """The texts of a stream, and who may listen. ``rows`` formats attempts, oldest first. ``over`` is sent when access has ended.

    ``may_listen`` is called for every event and every few seconds, because a key may be revoked or a session may end.
    """

    rows: Callable[[Sequence[AttemptRow]], str]
    problem: Callable[[str], str]
    may_listen: Callable[[], bool]
    over: str
    missed: Callable[[MissedAttempts], str]
    """Formats what the listener missed, like rows."""
    ignored: str = ""
    """Says, like rows, which parts of the request have no effect. Empty: none."""
    heartbeat_seconds: float = HEARTBEAT_SECONDS


def seen_until(request: web.Request) -> datetime | None:
    """The time up to which a client that connects again has all attempts, from the id of its last event."""
    return time_of_id(_last_event(request))


def ignored_last_event(request: web.Request) -> list[str]:
    """Why the id of the last event has no effect. Without it, the client is not told what it missed. Empty if it has one, or is not given."""
    text = _last_event(request)
    if not text or time_of_id(text) is not None:
        return []
    return [f"{LAST_EVENT.name}: {shown(text)} is not the id of an event, so what was missed is not known"]


def _last_event(request: web.Request) -> str:
    return request.headers.get("Last-Event-ID") or request.query.get(LAST_EVENT.name, "").strip()


def time_of_id(text: str) -> datetime | None:
    """The time in the id of an event; None for other texts."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_ID):
        return None
    return _EPOCH + int(text) * _MILLISECOND


def id_of_time(time: datetime) -> str:
    """The id of an event after which a listener has all attempts up to this time."""
    return str((time - _EPOCH) // _MILLISECOND)


def wants_events(request: web.Request) -> bool:
    """Whether the request asks for a stream."""
    return request.method == "GET" and EVENT_STREAM in request.headers.get("Accept", "")


async def search_attempts(api: AttemptServices, query: AttemptQuery) -> AttemptPage:
    async with searching(api):
        return await api.search.attempts(query)


async def stream_attempts(
    api: LiveAttemptServices, request: web.Request, query: AttemptQuery, form: StreamForm
) -> web.StreamResponse:
    """Stream the attempts of a search as they are recorded, until the client leaves, loses access, or the process stops.

    Raises:
        ApiError: 503, there are too many listeners.
    """
    async with api.streams.listen(query, functools.partial(search_attempts, api), api.clock) as listener:
        response = web.StreamResponse(headers={"Content-Type": f"{EVENT_STREAM}; charset=utf-8", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        await response.write(b"retry: 3000\n\n: here\n\n")
        if form.ignored:
            await response.write(_event("attempts", form.ignored))
        seen = _Seen(seen_until(request))
        if missed := await _missed_before(api, query, seen.until, listener.since):
            await response.write(_event("attempts", form.missed(missed)))
        while form.may_listen():
            try:
                async with asyncio.timeout(form.heartbeat_seconds):
                    message = await listener.get()
            except TimeoutError:
                seen.note(listener.read_until)
                await response.write(f"{seen.id_line}: still here\n\n".encode())
                continue
            if message.is_over:
                break
            if not form.may_listen():
                continue  # the loop ends, and says why
            for event in _events(message, listener, seen, form, api.clock):
                await response.write(event)
        else:
            await response.write(_event("over", form.over))
        return response


class _Seen:
    """What the listener of one stream has got."""

    def __init__(self, until: datetime | None) -> None:
        self.until = until

    def note(self, *times: datetime) -> None:
        """It has all attempts up to these times."""
        self.until = max(times if self.until is None else (self.until, *times), default=None)

    @property
    def next(self) -> datetime | None:
        """The first moment of which it may not have all attempts."""
        return None if self.until is None else self.until + _MILLISECOND

    @property
    def id_line(self) -> str:
        return "" if self.until is None else f"id: {id_of_time(self.until)}\n"


def _events(message: StreamMessage, listener: Listener, seen: _Seen, form: StreamForm, clock: Clock) -> Iterator[bytes]:
    """A message as events: first what the listener missed, if anything, then the attempts or the problem."""
    if listener.lost:
        now, lost, listener.lost = clock(), listener.lost, 0
        yield _event("attempts", form.missed(MissedAttempts(seen.next or now - BEFORE, now, lost)))
    if message.missed and (missed := _missed_meanwhile(listener, *message.missed)):
        yield _event("attempts", form.missed(missed))
    if message.problem:
        yield _event("problem", form.problem(message.problem))
    else:
        seen.note(*(row.created_at for row in message.attempts))
        yield _event("attempts", form.rows(message.attempts), seen.id_line)


async def _missed_before(
    api: AttemptServices, query: AttemptQuery, seen: datetime | None, until: datetime
) -> MissedAttempts | None:
    """What a listener missed until it connected again. Attempts that were made from ``until`` on are sent."""
    since = until if seen is None else seen + _MILLISECOND
    if since >= until:
        return None
    times = (Condition("created_at", Predicate.GTEQ, (since,)), Condition("created_at", Predicate.LT, (until,)))
    conditions = (*query.required, *times)
    asked = replace(query, conditions=conditions, combinator=Combinator.AND, sorts=(), page=1, per_page=1, after=None)
    try:
        found = await search_attempts(api, asked)
    except ApiError:
        return MissedAttempts(since, until, None)
    return MissedAttempts(since, until, found.total_count, found.is_exact) if found.total_count else None


def _missed_meanwhile(listener: Listener, since: datetime, until: datetime) -> MissedAttempts | None:
    """What a listener missed while ClickHouse did not answer. What was made before it joined is none of that."""
    since = max(since, listener.since)
    return MissedAttempts(since, until, None) if since < until else None


def _event(name: str, data: str, id_line: str = "") -> bytes:
    lines = "".join(f"data: {line}\n" for line in data.splitlines() if line.strip())
    return f"event: {name}\n{lines}{id_line}\n".encode()
