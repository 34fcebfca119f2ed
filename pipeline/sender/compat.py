"""The fast transport, and the only module that uses private parts of aiohttp; see `pipeline.sender.transport`.

aiohttp's session, request, response and pool cost more than the rest of a POST. So only these parts of aiohttp are used here: the
connector (DNS, TLS, dialling), the protocol with its parser, and the serializer of headers. A connection stays acquired from the
connector until it is closed; in between, `IdleConnections` keeps it. `BoundedProtocol` limits what hostile and broken servers can do.

The module relies on the attributes of a request that the connector reads, on the connector's protocol factory, and on the
protocol's payload and message queue. tests/contract/test_sender.py has a server for each of its rules.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.http_writer import _serialize_headers
from aiohttp.streams import StreamReader
from multidict import CIMultiDict
from yarl import URL

from pipeline.core.exchange import Request
from pipeline.sender.idle_connections import IdleConnections
from pipeline.sender.transport import PIECE_BYTES, PartialResponse, TransportOptions, read_body

_MAX_INTERIM_RESPONSES: Final = 16
# How many bytes an answer may take on the wire: this many for its heads, plus this multiple of the part of its body that is read (a
# chunk of one byte takes six). Otherwise servers could keep the parser busy with invisible bytes, such as chunk extensions.
_MAX_HEAD_BYTES: Final = 256 * 1024
_MAX_FRAMING: Final = 8
# The parser gets an answer in pieces of this size, because it parses everything in a piece at once, even thousands of answers.
_PARSED_BYTES: Final = 2048
_WITHOUT_BODY: Final = frozenset({b"204", b"304"})
"""Statuses of answers that have no body (RFC 9110, section 6.4.1)."""


class CompatTransport:
    """See `pipeline.sender.transport.Transport`."""

    def __init__(self, dialling: TransportOptions) -> None:
        self.dialling = dialling
        self.connector = BoundedConnector(**dialling.connector_options())
        self.idle: IdleConnections[Connection] = IdleConnections(dialling.limits.idle, dialling.idle_seconds)
        self.timeout = dialling.timeout

    def route(self, url: URL, context: ssl.SSLContext | None = None) -> CompatRoute:
        dialled, verified = self.dialling.dialled(url)
        return CompatRoute(self, PooledRoute(url, self.dialling.user_agent, context, dialled=dialled, verified=verified))

    @property
    def idle_connections(self) -> int:
        return len(self.idle)

    def close_idle(self) -> None:
        self.idle.close()

    async def close(self) -> None:
        self.idle.close()
        await self.connector.close()


class CompatRoute:
    """See `pipeline.sender.transport.TransportRoute`."""

    __slots__ = ("_idle", "_limit", "_read_bufsize", "_route", "_transport")

    def __init__(self, transport: CompatTransport, route: PooledRoute) -> None:
        self._transport = transport
        self._route = route
        self._idle = transport.idle.queue(route.connection_key)
        self._limit = transport.dialling.limits.response_bytes
        self._read_bufsize = transport.dialling.read_bufsize

    async def exchange(self, request: Request, answer: PartialResponse) -> bool:
        head = self._route.head(request.headers, len(request.body), request.method)
        connection = self._idle_connection() or await self._connect()
        answer.is_connected = True
        is_reusable = False
        try:
            protocol = send(connection, head, request.body, read_bufsize=self._read_bufsize)
            message, content = await read_head(protocol)
            answer.begin(message.code, message.headers)
            self._transport.dialling.reached(self._route.host_name)
            complete = await read_body(content, self._limit, answer.chunks)
            # At the end also if the end of the body was read but is not kept.
            is_reusable = content.is_eof() and protocol.finish()
        except Exception:
            if (loss := _loss_of(connection, answer)) is not None:
                raise loss from loss.__cause__
            raise
        finally:
            if not is_reusable:
                connection.close()
        self._keep(connection, protocol)
        return complete

    def _idle_connection(self) -> Connection | None:
        while (connection := self._transport.idle.take(self._idle)) is not None:
            protocol = connection.protocol
            if isinstance(protocol, BoundedProtocol) and protocol.is_connected():
                protocol.on_lost = None
                return connection
            connection.close()
        return None

    def _keep(self, connection: Connection, protocol: BoundedProtocol) -> None:
        self._transport.idle.add(self._idle, connection)
        protocol.on_lost = functools.partial(self._lost, connection)

    def _lost(self, connection: Connection) -> None:
        self._transport.idle.remove(connection)
        connection.close()

    async def _connect(self) -> Connection:
        try:
            connection = await self._transport.connector.connect(self._route, [], self._transport.timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        self._transport.dialling.reached(self._route.host_name)
        return connection


def _loss_of(connection: Connection, answer: PartialResponse) -> Exception | None:
    """The system error that ended the connection, if there is one: the reader of the body only learns that bytes are missing."""
    protocol = connection.protocol if answer.status is not None else None
    error = None if protocol is None else protocol.exception()
    return error if isinstance(error, OSError) else None


class PooledRoute(aiohttp.ClientRequest):
    """The route to one URL: what the connector needs to know about requests, and the common part of their heads.

    Create it in the event loop. It is used for all POSTs to the URL, and is never sent itself.
    """

    def __init__(
        self,
        url: URL,
        user_agent: str,
        context: ssl.SSLContext | None = None,
        *,
        dialled: URL | None = None,
        verified: str | None = None,
    ) -> None:
        """``dialled``: the URL for the connector, and ``verified``: the host that TLS verifies, if they differ from ``url``."""
        super().__init__(
            "POST",
            url if dialled is None else dialled,
            headers={"Host": url.host_port_subcomponent or ""},
            loop=asyncio.get_running_loop(),
            ssl=True if context is None else context,
            server_hostname=verified,
        )
        self.host_name = url.raw_host or ""
        self._key = super().connection_key
        self._rest_of_line = f" {url.raw_path_qs} HTTP/1.1"
        self._request_line = f"POST{self._rest_of_line}"
        self._common = CIMultiDict({"Host": self.headers["Host"], "User-Agent": user_agent})

    @property
    def connection_key(self) -> ConnectionKey:
        """Connections with the same key are interchangeable."""
        return self._key

    def head(self, headers: Mapping[str, str], length: int, method: str = "POST") -> bytes:
        """Request line and headers. Raises ValueError for a control character in a header.

        Headers of the caller that frame the body are replaced.
        """
        combined = self._common.copy()
        combined.update(headers)
        combined.pop("Transfer-Encoding", None)
        combined["Content-Length"] = str(length)
        line = self._request_line if method == "POST" else f"{method}{self._rest_of_line}"
        return _serialize_headers(line, combined)


def send(connection: Connection, head: bytes, body: bytes, *, read_bufsize: int) -> BoundedProtocol:
    """Write a request to the connection and expect the answer. If the connection has ended, raises the error that ended it.

    It does not wait: a large body is sent while the answer is awaited, because a server may answer before it has read everything.
    """
    protocol = connection.protocol
    if protocol is None or protocol.transport is None:
        raise (None if protocol is None else protocol.exception()) or aiohttp.ServerDisconnectedError()
    if not isinstance(protocol, BoundedProtocol):
        raise TypeError("the connection is not one of a BoundedConnector")
    protocol.expect_answer(_MAX_HEAD_BYTES + _MAX_FRAMING * read_bufsize)
    protocol.set_response_params(
        read_until_eof=True,
        auto_decompress=False,
        read_bufsize=read_bufsize,
        max_line_size=8190,
        max_field_size=8190,
        max_headers=128,
    )
    if len(body) <= PIECE_BYTES:
        protocol.transport.write(head + body)
    else:
        protocol.transport.write(head)
        protocol.send_in_pieces(body)
    return protocol


async def read_head(protocol: ResponseHandler) -> tuple[RawResponseMessage, StreamReader]:
    """The status and headers of the final response, and the reader of its body. Interim responses are skipped.

    Raises BadHttpMessage for a status below 100 (RFC 9110, section 15, allows 100 to 599; up to 999 is accepted).
    """
    while True:
        message, body = await protocol.read()
        if message.code < 100:
            raise BadHttpMessage(f"a status code of {message.code:03}")
        if _is_final(message):
            return message, body


def _is_final(message: RawResponseMessage) -> bool:
    return message.code >= 200 or message.code == 101 or message.code < 100


class BoundedProtocol(ResponseHandler):
    """One connection."""

    _interim_responses = 0
    _answered = False
    # How many more bytes may arrive. None before the first request: what arrives then waits for the parser, up to its buffer size.
    _allowance: int | None = None
    _sending: asyncio.Task[None] | None = None
    on_lost: Callable[[], None] | None = None
    """Called when the connection ends while it is idle."""

    def expect_answer(self, most_bytes: int) -> None:
        """A request is about to be sent; its answer may take `most_bytes` on the wire."""
        self._answered = False
        self._interim_responses = 0
        self._allowance = most_bytes

    def finish(self) -> bool:
        """The answer was read. Returns whether the connection can be reused: not if the server has not read the request.

        From now on until the next request, the server may send nothing.
        """
        self._allowance = 0
        is_sent = self._sending is None or self._sending.done()
        return is_sent and self.is_connected() and self.transport is not None and not self.transport.get_write_buffer_size()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def send_in_pieces(self, body: bytes) -> None:
        """Send a large body as fast as the endpoint reads it.

        Otherwise TLS would encrypt all of it at once, and keep it in memory twice if the endpoint does not read.
        """
        if self.transport is not None:
            self.transport.set_write_buffer_limits(high=PIECE_BYTES)
        self._sending = self._loop.create_task(self._send_pieces(body))

    async def _send_pieces(self, body: bytes) -> None:
        view = memoryview(body)
        for start in range(0, len(view), PIECE_BYTES):
            if self.transport is None:
                return
            self.transport.write(view[start : start + PIECE_BYTES])
            try:
                await self._drain_helper()
            except ConnectionError:  # The reader of the answer gets the error.
                return

    def data_received(self, data: bytes) -> None:
        """Take bytes from the connection. Gives up on a server that sends too many, or sends any without a request."""
        if self._allowance is not None:
            self._allowance -= len(data)
            if self._allowance < 0:
                self._give_up("too many bytes around the body, or after it")
                return
        start, end = 0, self._end_of_piece(data, 0)
        while end < len(data) and not self._reading_paused:
            super().data_received(data[start:end])
            if self.exception() is not None or self._is_complete():
                self.force_close()  # There are bytes after the end of the answer.
                return
            start, end = end, self._end_of_piece(data, end)
        super().data_received(data[start:] if start else data)

    def _end_of_piece(self, data: bytes, start: int) -> int:
        """Where the next piece for the parser ends. After the head of a 204: if a body follows, the parser would give up on all of it."""
        end = start + _PARSED_BYTES
        if start == 0 and not self._answered and data[9:12] in _WITHOUT_BODY:
            head = data.find(b"\r\n\r\n", 0, end)
            return head + 4 if head >= 0 else end
        return end

    def _is_complete(self) -> bool:
        """Whether the parser has read the whole answer."""
        return self._answered and (self._payload is None or self._payload.is_eof())

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take a response from the parser. Gives up on a server that sends endless 1xx responses."""
        if self._answered:  # The parser found more than one response in its bytes: the first counts.
            self.force_close()
        elif _is_final(data[0]):
            self._answered = True
            super().feed_data(data, size)
        elif self._interim_responses < _MAX_INTERIM_RESPONSES:
            self._interim_responses += 1
            super().feed_data(data, size)
        else:
            self._give_up(f"more than {_MAX_INTERIM_RESPONSES} interim responses")

    def _give_up(self, problem: str) -> None:
        if self.exception() is None:
            self.set_exception(BadHttpMessage(problem))
            if self.transport is not None:
                self.transport.abort()

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Fail the exchange. The reader of the body gets a parser's error too: it would wait for ever."""
        cause = exc if exc_cause is None else exc_cause  # For aiohttp, an exception that is its own cause has no cause.
        if isinstance(exc, HttpProcessingError):
            if cause is not exc:
                exc.__cause__ = cause
            if self._payload is not None:
                self._payload.set_exception(exc, cause)
        super().set_exception(exc, cause)

    def is_connected(self) -> bool:
        """Whether the connection can be used (again).

        Not after an answer without a request: the next request would take it for its own.
        """
        return super().is_connected() and not self.should_close

    def close(self) -> None:
        """Drop the connection immediately.

        Closing the transport would first send the rest, and wait for the TLS closing message: a server that has stopped reading
        would keep the socket and the body.
        """
        if self._sending is not None:
            self._sending.cancel()
        self.abort()


class BoundedConnector(aiohttp.TCPConnector):
    """Opens connections of `BoundedProtocol`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = functools.partial(self._make_protocol)

    def _make_protocol(self) -> ResponseHandler:
        return BoundedProtocol(loop=self._loop)
