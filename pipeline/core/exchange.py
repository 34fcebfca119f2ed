"""One HTTP exchange with an endpoint, as plain data: what was sent, and what came of it.

An `Exchange` says what happened, not whether that was good: which statuses acknowledge a notification is decided
by whoever reads it. Times are milliseconds, sizes are bytes.
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


@dataclass(slots=True)  # one each delivery, and a frozen one takes three times as long to make
class Request:
    """A request to be made: a POST, but for a handshake. Headers and body stay out of the repr, as they carry tokens and signatures."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    identity: ClientIdentity | None = None
    """The client certificate that is shown in the TLS handshake."""
    method: str = "POST"


@dataclass(slots=True)  # one each delivery, and a frozen one takes three times as long to make
class Response:
    """A complete answer, or its beginning when `body_truncated`.

    `first_byte_ms` is the time until status and headers were there, `duration_ms` until the body was read;
    both count from the start of the exchange, connecting included.
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

    When a status line had arrived, `status`, `headers` and the `body` up to there are kept.
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

    Bytes that are not UTF-8, which HTTP libraries hand over as lone surrogates, become U+FFFD, so that the result
    can always be encoded. Names become plain strings: aiohttp has a type of its own for them.
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
