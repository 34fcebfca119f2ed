"""One HTTP exchange with an endpoint, as plain data: what was sent, and the answer or failure.

An `Exchange` says what happened, not whether that was good: its reader decides which statuses acknowledge a notification. Times
are milliseconds, sizes are bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from pipeline.core.client_certificate import ClientIdentity

MAX_DETAIL: Final = 500
MAX_HEADERS: Final = 64
MAX_HEADER_BYTES: Final = 8192

Headers: TypeAlias = tuple[tuple[str, str], ...]


class Failure(enum.StrEnum):
    """Why there was no usable answer; these words appear in metrics, in ClickHouse and on the dashboard."""

    TIMEOUT = "timeout"
    CONNECT_TIMEOUT = "connect_timeout"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_RESET = "connection_reset"
    DNS = "dns"
    TLS = "tls"
    TRUNCATED = "truncated_response"
    INVALID_RESPONSE = "invalid_response"
    BLOCKED_ADDRESS = "blocked_address"
    INVALID_TARGET = "invalid_target"
    CONNECTION = "connection_error"
    TOKEN_ENDPOINT = "token_endpoint"


@dataclass(slots=True)  # one per delivery; a frozen dataclass takes three times as long to create
class Request:
    """A request to make: a POST, except for a handshake. The repr omits headers and body: they contain tokens and signatures."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    identity: ClientIdentity | None = None
    """The client certificate for the TLS handshake."""
    method: str = "POST"


@dataclass(slots=True)  # one per delivery; a frozen dataclass takes three times as long to create
class Response:
    """A complete answer, or its beginning if `body_truncated`.

    `first_byte_ms` is the time until status and headers had arrived, `duration_ms` until the body was read. Both count from the
    start of the exchange, including connecting.
    """

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    body_truncated: bool
    duration_ms: float
    first_byte_ms: float


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No usable answer. `detail` is one sentence for the integrator, at most `MAX_DETAIL` characters.

    If a status line arrived, `status`, `headers` and the `body` so far are kept.
    """

    failure: Failure
    detail: str
    duration_ms: float
    status: int | None = None
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)


Exchange: TypeAlias = Response | NoResponse


def bounded_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """The first headers, in order: at most `MAX_HEADERS` of them and `MAX_HEADER_BYTES` in all.

    Bytes that are not UTF-8, which HTTP libraries return as lone surrogates, become U+FFFD, so that the result can always be
    encoded. Names become plain strings: aiohttp uses a special type for them.
    """
    kept: list[tuple[str, str]] = []
    room = MAX_HEADER_BYTES
    for name, value in headers:
        readable = value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        room -= len(name) + (len(readable) if readable.isascii() else len(readable.encode()))
        if room < 0 or len(kept) == MAX_HEADERS:
            break
        kept.append((str(name), readable))
    return tuple(kept)
