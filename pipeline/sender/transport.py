"""How a POST is sent: the interface that `Sender` uses, and the choice between two implementations.

`pipeline.sender.compat` uses private parts of aiohttp. It is several times as fast, and limits everything that a hostile server
can do, but only works with the releases in `CHECKED_WITH`. With any other release, or with ``sender_speedups`` off, POSTs use
aiohttp's public `ClientSession`: `pipeline.sender.session_transport`, whose docstring says which limits it cannot enforce.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from time import perf_counter
from typing import Any, Final, Protocol

import aiohttp
from yarl import URL

from pipeline.core.exchange import Request
from pipeline.ops.logs import logger
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.dialler import GuardedResolver, Resolve, guarded_socket_factory
from pipeline.sender.limits import SenderLimits
from pipeline.sender.tunnels import Tunnels, tunnelled_url

log = logger(__name__)

CHECKED_WITH: Final = frozenset({"3.14.5"})
"""The releases of aiohttp that `pipeline.sender.compat` was checked with: the sender's suites in tests/contract run with both
implementations.
"""

_DNS_SECONDS: Final = 10
# Shorter than the five seconds after which common servers close an idle connection: a POST on a closing connection fails, and we
# cannot tell whether the endpoint has seen it.
_IDLE_SECONDS: Final = 4.0
PIECE_BYTES: Final = 65536
"""A larger body is sent in pieces, as fast as the endpoint reads it: otherwise TLS would encrypt all of it at once."""


class PartialResponse:
    """The part of an answer that has arrived so far."""

    __slots__ = ("chunks", "first_byte_at", "headers", "is_connected", "status")

    def __init__(self) -> None:
        self.is_connected = False
        """There was a connection, so something may have been sent."""
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.chunks: list[bytes] = []
        self.first_byte_at = 0.0
        """When status and headers were complete, by `perf_counter`."""

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Status and headers of the final response are complete."""
        self.first_byte_at = perf_counter()
        self.status = status
        self.headers = headers


class TransportRoute(Protocol):
    """The route to one URL."""

    async def exchange(self, request: Request, answer: PartialResponse) -> bool:
        """POST, and fill in the answer as it arrives. Returns whether its body was read to the end.

        If the task is cancelled, no connection stays in use. Raises the errors that `pipeline.sender.failures` explains.
        """


class Transport(Protocol):
    """Routes to URLs, over one pool of connections. Open it in the event loop that uses it."""

    def route(self, url: URL, context: ssl.SSLContext | None = None) -> TransportRoute:
        """The route to a URL, used for all POSTs there. ``context``: its TLS context, with a client certificate."""

    @property
    def idle_connections(self) -> int:
        """How many connections are kept open for further requests, as far as the library tells."""

    def close_idle(self) -> None:
        """Release the descriptors of idle connections, as far as possible."""

    async def close(self) -> None:
        """Close all connections."""


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """What both implementations share: limits, addresses, TLS. ``reached`` is called with the host of each new connection and answer."""

    limits: SenderLimits
    guard: AddressGuard
    resolve: Resolve
    ssl: ssl.SSLContext | bool
    user_agent: str
    reached: Callable[[str], None]
    tunnels: Tunnels | None = None
    """With an egress proxy: how all connections are made."""

    @property
    def timeout(self) -> aiohttp.ClientTimeout:
        """The timeout for connecting. There is no total timeout: the sender has its own, which includes the answer."""
        return aiohttp.ClientTimeout(total=None, connect=self.limits.connect_timeout, ceil_threshold=float("inf"))

    @property
    def idle_seconds(self) -> float:
        """How long a connection may be idle."""
        return _IDLE_SECONDS

    @property
    def read_bufsize(self) -> int:
        """How much of a body is read ahead."""
        return max(self.limits.response_bytes, 1024)

    def dialled(self, url: URL) -> tuple[URL, str | None]:
        """The URL for aiohttp; and, if its host is a stand-in for a literal address, the host that TLS must verify."""
        return (url, None) if self.tunnels is None else tunnelled_url(url)

    def connector_options(self) -> dict[str, Any]:
        """The arguments of a `TCPConnector`."""
        options: dict[str, Any] = {
            "limit": 0,  # The sender limits connections: in the connector's queue, a request would use up its own timeout.
            "keepalive_timeout": self.idle_seconds,
            "ssl": self.ssl,
        }
        if self.tunnels is not None:  # the resolver is asked when a connection is opened
            return options | {"resolver": self.tunnels, "socket_factory": self.tunnels.make_socket, "use_dns_cache": False}
        return options | {
            "resolver": GuardedResolver(self.guard, self.resolve),
            "socket_factory": guarded_socket_factory(self.guard),
            "ttl_dns_cache": _DNS_SECONDS,
        }


def open_transport(dialling: TransportOptions, *, speedups: bool) -> Transport:
    """The fast implementation if the setting and the installed release allow it, otherwise the public one."""
    why = _why_plain(version("aiohttp"), speedups=speedups)
    if why is None:
        from pipeline.sender.compat import CompatTransport  # noqa: PLC0415 - imports what other releases may not have

        return CompatTransport(dialling)
    from pipeline.sender.session_transport import SessionTransport  # noqa: PLC0415 - imports this module

    log.info("webhooks are sent without speed-ups; that takes more CPU time, and some limits are higher", reason=why)
    return SessionTransport(dialling)


def _why_plain(installed: str, *, speedups: bool) -> str | None:
    if not speedups:
        return "sender_speedups is off"
    if installed not in CHECKED_WITH:
        return f"they were checked with aiohttp {', '.join(sorted(CHECKED_WITH))}, and {installed} is installed"
    return None


async def read_body(content: aiohttp.StreamReader, limit: int, chunks: list[bytes]) -> bool:
    """Read to the end, or until there are more than `limit` bytes. Returns whether the end was reached."""
    if content.is_eof():  # A short answer that arrived in one piece: nothing to wait for.
        chunks.append(content.read_nowait())
        return True
    size = 0
    while size <= limit:
        chunk = await content.readany()
        if not chunk:
            return True
        chunks.append(chunk)
        size += len(chunk)
    return False
