"""POSTs by aiohttp's public `ClientSession`, for releases of aiohttp that `pipeline.sender.compat` was not checked with.

What holds here as it does there: the address guard on the dialled address, TLS, no redirects, no cookies, no decompression, no proxies, the
bounds of time, of connections under way, of each header and their number, of the body that is kept, large bodies in pieces, and the names of
failures. What aiohttp has no public way to bound:

- Interim responses, chunk extensions and other bytes around a body are bounded by the total time, not by number.
- Connections that are kept open without a request are bounded by four seconds, not by number. What a server sends on one meanwhile is
  parsed and kept until then. Such an answer, which nobody had asked for, is not taken for the next one's: that exchange fails as
  ``invalid_response`` and ends the connection, and the delivery is retried.
- An endpoint that does not read keeps the socket, and up to 64 KiB of a body beside what the system buffers, for as long as the total
  timeout beyond its exchange (Linux: TCP_USER_TIMEOUT; elsewhere until the system gives up).
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
from pipeline.sender.transport import PIECE_BYTES, Dialling, PartialResponse, read_body

_CONTROL_CHARACTERS: Final = re.compile(r"[\r\n\x00]")
_OF_AIOHTTP: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_RECEIVED_BYTES: Final = 8192
_RESET: Final = "ConnectionResetError"


class _Watched:
    """An exchange as it is traced."""

    __slots__ = ("answer", "has_turned", "is_reused")

    def __init__(self, answer: PartialResponse) -> None:
        self.answer = answer
        self.is_reused = False
        self.has_turned = False
        """The event loop has turned since the head was sent: an answer may have come of it."""

    def turn(self) -> None:
        self.has_turned = True


class SessionTransport:
    """See `pipeline.sender.transport.Wire`."""

    def __init__(self, dialling: Dialling) -> None:
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

    def way(self, url: URL, context: ssl.SSLContext | None = None) -> SessionRoute:
        return SessionRoute(self, url, context)

    def close_idle(self) -> None:
        """They close by themselves, within seconds."""

    async def close(self) -> None:
        await self.session.close()


class SessionRoute:
    """See `pipeline.sender.transport.Way`."""

    __slots__ = ("_dialled", "_host", "_ssl", "_url", "_verified", "_wire")

    def __init__(self, wire: SessionTransport, url: URL, context: ssl.SSLContext | None) -> None:
        self._ssl: ssl.SSLContext | bool = True if context is None else context
        self._wire = wire
        self._url = url
        self._host = url.host_port_subcomponent or ""
        self._dialled, self._verified = wire.dialling.dialled(url)

    async def exchange(self, request: Request, answer: PartialResponse) -> bool:
        dialling = self._wire.dialling
        headers = _head(dialling.user_agent, {"Host": self._host, **request.headers}, len(request.body))
        watched = _Watched(answer)
        try:
            response = await self._wire.session.request(
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
            if answer.is_connected:
                dialling.reached(self._url.raw_host or "")
        try:
            _check(response, watched)
            answer.begin(response.status, response.headers)
            return await read_body(response.content, dialling.limits.response_bytes, answer.chunks)
        except aiohttp.ClientPayloadError as error:
            if _RESET in str(error):  # aiohttp names it there only; without that, the answer is one that broke off
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None
            raise
        finally:
            _leave(response)


def _head(user_agent: str, headers: Mapping[str, str], length: int) -> CIMultiDict[str]:
    """The headers of a request. aiohttp looks at them when there is a connection already; here none is made for what is not sent.

    Raises:
        ValueError: a control character, which would split the request.
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
    """End the connection, unless the answer was read to its end, and so has given it back. At once: TLS would wait for a farewell."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()


def _check(response: aiohttp.ClientResponse, watched: _Watched) -> None:
    if watched.is_reused and not watched.has_turned:
        raise InvalidAnswerError("it came before it was asked for")
    if response.status < 100:
        raise InvalidAnswerError(f"a status code of {response.status:03}")


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(view), PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])


def _tracing() -> aiohttp.TraceConfig:
    """Tells whether there was a connection, and whether an answer stood there before the request."""
    tracing = aiohttp.TraceConfig()

    async def created(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.answer.is_connected = True

    async def reused(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.answer.is_connected = True
        context.trace_request_ctx.is_reused = True

    async def sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        # Whoever waits for the answer is woken by the loop after this, if the answer comes of the request.
        asyncio.get_running_loop().call_soon(context.trace_request_ctx.turn)

    tracing.on_connection_create_end.append(created)
    tracing.on_connection_reuseconn.append(reused)
    tracing.on_request_headers_sent.append(sent)
    return tracing


def _bounded(make: Callable[[AddrInfoType], socket.socket], seconds: float) -> Callable[[AddrInfoType], socket.socket]:
    """Sockets that hand over little at a time, as aiohttp parses all that came at once, and the loop waits for it: thousands of interim
    responses, say. And they end when the other side has not taken what was sent for so long: aiohttp closes a connection when all is sent.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)

    def make_socket(info: AddrInfoType) -> socket.socket:
        made = make(info)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVED_BYTES)
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, round(seconds * 1000))
        return made

    return make_socket
