"""Limits the connections to our own port: their number, and the time for sending a request and for reading the answer.

aiohttp's server waits for the head of a request without a time limit, on as many connections as there are file descriptors. So each
of aiohttp's protocols sits behind one of ours, which sees the same bytes; a middleware reports when a head is complete. When there
are too many connections, the one that has waited longest for a request is closed first. Clients that have sent a request are served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pipeline.ops import metrics
from pipeline.sender.deadlines import Deadlines

_REASONS: Final = ("head", "body", "idle", "reading", "shed", "refused")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Connections at once, and seconds: for a whole head, a whole body, between requests, and for reading part of an answer."""

    most: int = 512
    head_seconds: float = 10.0
    body_seconds: float = 60.0
    idle_seconds: float = 75.0
    reading_seconds: float = 60.0


class ConnectionGuard:
    """All connections of one server. It is called for each new one. ``make`` creates aiohttp's protocol for it."""

    def __init__(self, make: Callable[[], asyncio.Protocol], limits: ConnectionLimits) -> None:
        self._make = make
        self._limits = limits
        self._connections: dict[asyncio.BaseTransport, GuardedConnection] = {}
        self._waiting: dict[GuardedConnection, None] = {}
        """Connections without a complete request, those that have waited longest first."""
        self.heads = Deadlines(limits.head_seconds, _ending("head"))
        self.bodies = Deadlines(limits.body_seconds, _ending("body"))
        self.idle = Deadlines(limits.idle_seconds, self._is_idle)
        self.reading = Deadlines(limits.reading_seconds, _ending("reading"))
        for reason in _REASONS:
            metrics.HTTP_CLOSED.labels(reason)

    def __call__(self) -> GuardedConnection:
        """The protocol of a new connection."""
        return GuardedConnection(self, self._make())

    def middleware(self) -> Middleware:
        """A middleware that reports complete heads and complete answers. It must be the outermost one."""

        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            visitor = None if request.transport is None else self._connections.get(request.transport)
            if visitor is None:
                return await handler(request)
            self._begin(visitor, has_body=not request.content.is_eof())
            try:
                return await handler(request)
            finally:
                self._end(visitor)

        return middleware

    def opened(self, visitor: GuardedConnection, transport: asyncio.Transport) -> bool:
        """Admit a connection. If there are too many, another one is closed for it; False if none can be closed."""
        if len(self._connections) >= self._limits.most and not self._close_waiting():
            metrics.HTTP_CLOSED.labels("refused").inc()
            return False
        self._connections[transport] = visitor
        self._waiting[visitor] = None
        self.heads.add(visitor)
        metrics.HTTP_CONNECTIONS.set(len(self._connections))
        return True

    def closed(self, visitor: GuardedConnection, transport: asyncio.BaseTransport) -> None:
        """Forget a connection."""
        self._connections.pop(transport, None)
        self._waiting.pop(visitor, None)
        for deadlines in (self.heads, self.bodies, self.idle, self.reading):
            deadlines.remove(visitor)
        metrics.HTTP_CONNECTIONS.set(len(self._connections))

    def head_started(self, visitor: GuardedConnection) -> None:
        """Bytes arrived between two requests: a head starts."""
        self.idle.remove(visitor)
        self.heads.add(visitor)

    def _begin(self, visitor: GuardedConnection, *, has_body: bool) -> None:
        visitor.is_idle = False
        self._waiting.pop(visitor, None)
        self.heads.remove(visitor)
        self.idle.remove(visitor)
        if has_body:
            self.bodies.add(visitor)

    def _end(self, visitor: GuardedConnection) -> None:
        self.bodies.remove(visitor)
        if visitor.transport in self._connections:
            visitor.is_idle = True
            self._waiting[visitor] = None
            self.idle.add(visitor)

    def _is_idle(self, visitor: GuardedConnection) -> None:
        """No request came in time. If the last answer is still being sent, wait again."""
        if visitor.is_writing:
            self.idle.add(visitor)
        else:
            visitor.end("idle")

    def _close_waiting(self) -> bool:
        for visitor in self._waiting:
            if not visitor.is_writing:
                visitor.end("shed")
                self._forget(visitor)
                return True
        return False

    def _forget(self, visitor: GuardedConnection) -> None:
        """Do not wait until the transport reports the end: new connections come faster than that."""
        if visitor.transport is not None:
            self.closed(visitor, visitor.transport)


class GuardedConnection(asyncio.Protocol):
    """One connection, in front of aiohttp's own protocol."""

    def __init__(self, visitors: ConnectionGuard, inner: asyncio.Protocol) -> None:
        self._visitors = visitors
        self._inner = inner
        self.transport: asyncio.Transport | None = None
        self.is_idle = False
        """Whether it is between two requests."""
        self.is_writing = False
        """Whether an answer is waiting for the client to read it."""
        self._is_admitted = False

    def end(self, reason: str) -> None:
        """Close at once, without an answer: a client that does not send will not read either."""
        metrics.HTTP_CLOSED.labels(reason).inc()
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's class is not a subclass of it
        self._is_admitted = self._visitors.opened(self, self.transport)
        if self._is_admitted:
            self._inner.connection_made(transport)
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self._is_admitted:
            return
        if self.is_idle:
            self.is_idle = False
            self._visitors.head_started(self)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """The client will send nothing more."""
        return self._inner.eof_received() if self._is_admitted else None

    def pause_writing(self) -> None:
        """The client does not read what is written."""
        self.is_writing = True
        self._visitors.reading.add(self)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """It has read some of it."""
        self.is_writing = False
        self._visitors.reading.remove(self)
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_admitted and self.transport is not None:
            self._visitors.closed(self, self.transport)
            self._inner.connection_lost(exc)


def _ending(reason: str) -> Callable[[GuardedConnection], None]:
    return lambda visitor: visitor.end(reason)
