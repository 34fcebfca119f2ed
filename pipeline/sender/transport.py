"""The wire of an exchange: aiohttp's connection pool and parser, without its session, request and response.

Those three layers cost more than all the rest of a POST. What is left of aiohttp here is the connector (pool, DNS, TLS,
dialling), the protocol with its parser, and the serializer of headers. BoundedProtocol bounds what hostile and broken
servers can do.

This module alone relies on the insides of aiohttp (3.14): what the connector asks a request, its protocol factory, the
protocol's payload and message queue. tests/contract/test_sender.py has a server for each of its rules.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
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

_MAX_INTERIM_RESPONSES: Final = 16
_JOINED_BYTES: Final = 65536


class Route(aiohttp.ClientRequest):
    """Where POSTs to one URL go: what the connector asks about them, and what their heads have in common.

    Build it in the event loop. It is used for all POSTs to the URL, and never sent itself.
    """

    def __init__(self, url: URL, user_agent: str) -> None:
        super().__init__("POST", url, loop=asyncio.get_running_loop())
        self._key = super().connection_key
        self._request_line = f"POST {url.raw_path_qs} HTTP/1.1"
        self._common = CIMultiDict({"Host": self.headers["Host"], "User-Agent": user_agent})

    @property
    def connection_key(self) -> ConnectionKey:
        """Connections with the same key are interchangeable."""
        return self._key

    def head(self, headers: Mapping[str, str], length: int) -> bytes:
        """Request line and headers. Raises ValueError for a control character in a header.

        How the body is framed is not the caller's to say.
        """
        combined = self._common.copy()
        combined.update(headers)
        combined.pop("Transfer-Encoding", None)
        combined["Content-Length"] = str(length)
        return _serialize_headers(self._request_line, combined)


def send(connection: Connection, head: bytes, body: bytes, *, read_bufsize: int) -> ResponseHandler:
    """Hand a request to the connection and expect the answer. Raises what ended the connection, if it has ended.

    There is nothing to wait for: the body is in memory anyway, and a server may answer before it has read all of it.
    """
    protocol = connection.protocol
    if protocol is None or protocol.transport is None:
        raise (None if protocol is None else protocol.exception()) or aiohttp.ServerDisconnectedError()
    protocol.set_response_params(
        read_until_eof=True,
        auto_decompress=False,
        read_bufsize=read_bufsize,
        max_line_size=8190,
        max_field_size=8190,
        max_headers=128,
    )
    if len(body) <= _JOINED_BYTES:
        protocol.transport.write(head + body)
    else:
        protocol.transport.write(head)
        protocol.transport.write(body)
    return protocol


async def read_head(protocol: ResponseHandler) -> tuple[RawResponseMessage, StreamReader]:
    """The final response's status and headers, and its body to be read. Interim responses are skipped."""
    while True:
        message, body = await protocol.read()
        if message.code >= 200 or message.code == 101 or message.code < 100:
            return message, body


def release(connection: Connection) -> None:
    """Give back a connection whose answer was read to the end. It closes when it cannot be used again."""
    transport = connection.transport
    if transport is None or transport.get_write_buffer_size():  # The server answered without reading the request.
        connection.close()
    else:
        connection.release()


class BoundedProtocol(ResponseHandler):
    """One connection."""

    _interim_responses = 0

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Take a response from the parser. Gives up on a server that sends 1xx responses without end."""
        if data[0].code >= 200 or data[0].code == 101:
            self._interim_responses = 0
        elif self._interim_responses < _MAX_INTERIM_RESPONSES:
            self._interim_responses += 1
        else:
            if self.exception() is None:
                self.set_exception(BadHttpMessage(f"more than {_MAX_INTERIM_RESPONSES} interim responses"))
                if self.transport is not None:
                    self.transport.abort()
            return
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Fail the exchange. A parser's error reaches the reader of the body too, which would wait in vain."""
        cause = exc if exc_cause is None else exc_cause  # An exception that is its own cause has none, for aiohttp.
        if isinstance(exc, HttpProcessingError):
            if cause is not exc:
                exc.__cause__ = cause
            if self._payload is not None:
                self._payload.set_exception(exc, cause)
        super().set_exception(exc, cause)

    def is_connected(self) -> bool:
        """Whether the connection can be used (again).

        Not when an answer came that no request had asked for: the next request would take it for its own.
        """
        return super().is_connected() and not self.should_close

    def close(self) -> None:
        """Drop the connection at once.

        A transport that closes first sends what is unsent, and waits for the farewell of TLS: a server that has stopped
        reading would hold the socket and the body.
        """
        self.abort()


class BoundedConnector(aiohttp.TCPConnector):
    """A connection pool of `BoundedProtocol`s."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        protocol: type[ResponseHandler] = BoundedProtocol
        self._factory = functools.partial(protocol, loop=self._loop)
