"""What aiohttp's client does not do by its options: no headers of its own, and bounds for hostile and broken servers.

This module alone relies on the insides of aiohttp (3.14): the request's automatic headers, the connector's protocol
factory, the protocol's payload and message queue. tests/contract/test_sender.py has a server for each of its rules.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDict

_MAX_INTERIM_RESPONSES: Final = 16


class BareRequest(aiohttp.ClientRequest):
    """A request without the headers that aiohttp adds of its own accord (Accept, Accept-Encoding, Content-Type)."""

    _NO_CONTENT_TYPE: Final[CIMultiDict[None]] = CIMultiDict({aiohttp.hdrs.CONTENT_TYPE: None})

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:  # noqa: ARG002
        """Add nothing. aiohttp builds two mappings for this, for every request."""
        self._skip_auto_headers = self._NO_CONTENT_TYPE


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
