"""POSTs with aiohttp's public `ClientSession`, for releases of aiohttp that `pipeline.sender.compat` was not checked with.

The same guarantees hold here: the address guard on the dialled address, TLS, no redirects, no cookies, no decompression, no
proxies from the environment, the limits on time, on connections in use, on the size and number of headers, and on the kept body,
large bodies in pieces, and the names of failures. aiohttp has no public way to limit the following:

- Interim responses, chunk extensions and other bytes around a body are limited by the total time, not by number.
- Idle connections are limited to four seconds, not by number. What a server sends on one in that time is parsed and kept. Such an
  unrequested answer is not mistaken for the next one: the next exchange fails as ``invalid_response`` and closes the connection,
  and the delivery is retried.
- An endpoint that does not read keeps the socket, and up to 64 KiB of a body beside the system's buffers, for the total timeout
  after its exchange (Linux: TCP_USER_TIMEOUT; elsewhere until the system gives up).
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from types import SimpleNamespace
from typing import Final

import aiohttp
from aiohttp import AddrInfoType
from multidict import CIMultiDict
from yarl import URL

from pipeline.core.exchange import Request
from pipeline.sender.failures import InvalidAnswerError
from pipeline.sender.transport import PIECE_BYTES, PartialResponse, TransportOptions, read_body

_CONTROL_CHARACTERS: Final = re.compile(r"[\r\n\x00]")
_OF_AIOHTTP: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_RECEIVED_BYTES: Final = 8192
_RESET: Final = "ConnectionResetError"


class _Watched:
    """The traced state of an exchange."""

    __slots__ = ("answer", "has_turned", "is_reused")

    def __init__(self, answer: PartialResponse) -> None:
        self.answer = answer
        self.is_reused = False
        self.has_turned = False
        """The event loop has run since the head was sent, so an answer may belong to this request."""

    def turn(self) -> None:
        self.has_turned = True


class SessionTransport:
    """See `pipeline.sender.transport.Transport`."""

    def __init__(self, dialling: TransportOptions) -> None:
        self.dialling = dialling
        options = dialling.connector_options()
        options["socket_factory"] = _bounded(options["socket_factory"], dialling.limits.total_timeout)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(**options),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_OF_AIOHTTP,
            auto_decompress=False,
            timeout=dialling.timeout,
            read_bufsize=dialling.read_bufsize,
            trace_configs=[_tracing()],
        )

    def route(self, url: URL, context: ssl.SSLContext | None = None) -> SessionRoute:
        return SessionRoute(self, url, context)

    @property
    def idle_connections(self) -> int:
        """0: aiohttp's public API does not tell."""
        return 0

    def close_idle(self) -> None:
        """Does nothing: idle connections close by themselves within seconds."""

    async def close(self) -> None:
        await self.session.close()


class SessionRoute:
    """See `pipeline.sender.transport.TransportRoute`."""

    __slots__ = ("_dialled", "_host", "_ssl", "_transport", "_url", "_verified")

    def __init__(self, transport: SessionTransport, url: URL, context: ssl.SSLContext | None) -> None:
        self._ssl: ssl.SSLContext | bool = True if context is None else context
        self._transport = transport
        self._url = url
        self._host = url.host_port_subcomponent or ""
        self._dialled, self._verified = transport.dialling.dialled(url)

    async def exchange(self, request: Request, answer: PartialResponse) -> bool:
        dialling = self._transport.dialling
        headers = _head(dialling.user_agent, {"Host": self._host, **request.headers}, len(request.body))
        watched = _Watched(answer)
        try:
            response = await self._transport.session.request(
                request.method,
                self._dialled,
                data=request.body if len(request.body) <= PIECE_BYTES else _pieces(request.body),
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=watched,
                ssl=self._ssl,
                server_hostname=self._verified,
            )
        finally:
            if answer.is_connected and not watched.is_reused:
                dialling.reached(self._url.raw_host or "")
        try:
            _check(response, watched)
            answer.begin(response.status, response.headers)
            dialling.reached(self._url.raw_host or "")
            return await read_body(response.content, dialling.limits.response_bytes, answer.chunks)
        except aiohttp.ClientPayloadError as error:
            if _RESET in str(error):  # only the message distinguishes a reset from an answer that ended early
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None
            raise
        finally:
            _leave(response)


def _head(user_agent: str, headers: Mapping[str, str], length: int) -> CIMultiDict[str]:
    """The headers of a request. Checked here, because aiohttp checks them only after it has opened a connection.

    Raises:
        ValueError: a header contains a control character, which would split the request.
    """
    combined = CIMultiDict({"User-Agent": user_agent})
    combined.update(headers)
    combined.pop("Transfer-Encoding", None)
    combined["Content-Length"] = str(length)
    for name, value in combined.items():
        if _CONTROL_CHARACTERS.search(name) or _CONTROL_CHARACTERS.search(value):
            raise ValueError("a header has a line break or another control character")
    return combined


def _leave(response: aiohttp.ClientResponse) -> None:
    """Close the connection immediately, unless it was released because the answer was read to its end.

    An orderly end would wait for a TLS closing message.
    """
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()


def _check(response: aiohttp.ClientResponse, watched: _Watched) -> None:
    if watched.is_reused and not watched.has_turned:
        raise InvalidAnswerError("it came before the request")
    if response.status < 100:
        raise InvalidAnswerError(f"a status code of {response.status:03}")


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(view), PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])


def _tracing() -> aiohttp.TraceConfig:
    """Records whether there was a connection, and whether an answer arrived before the request was sent."""
    tracing = aiohttp.TraceConfig()

    async def created(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.answer.is_connected = True

    async def reused(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.answer.is_connected = True
        context.trace_request_ctx.is_reused = True

    async def sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        # If the answer belongs to this request, the loop wakes the waiting task only after this.
        asyncio.get_running_loop().call_soon(context.trace_request_ctx.turn)

    tracing.on_connection_create_end.append(created)
    tracing.on_connection_reuseconn.append(reused)
    tracing.on_request_headers_sent.append(sent)
    return tracing


def _bounded(make: Callable[[AddrInfoType], socket.socket], seconds: float) -> Callable[[AddrInfoType], socket.socket]:
    """Sockets with a small receive buffer: aiohttp parses everything that has arrived at once, which would block the loop for
    thousands of interim responses, for example. They also fail if the other side accepts no data for ``seconds``, because aiohttp
    closes a connection only when everything is sent.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)

    def make_socket(info: AddrInfoType) -> socket.socket:
        sock = make(info)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVED_BYTES)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, round(seconds * 1000))
        return sock

    return make_socket
