"""The POST: one HTTP request to an endpoint, whatever the endpoint does.

Bounded in every direction: connections, time, response bytes, header sizes, interim responses, bytes on the wire. No redirects, no
cookies, no decompression, no proxies from the environment. Only addresses that the `AddressGuard` lets pass are
dialled.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from time import perf_counter
from typing import Final, Self

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http_parser import RawResponseMessage

from pipeline.core.exchange import MAX_DETAIL, Exchange, Failure, NoResponse, Request, Response, bounded_headers
from pipeline.core.own_faults import NotSent, OwnFault
from pipeline.ops import metrics
from pipeline.sender.blame import Judge
from pipeline.sender.deadlines import TimeLimit
from pipeline.sender.dial import GuardedResolver, Lookups, Resolve, guarded_socket_factory, resolve_apart, resolve_host
from pipeline.sender.failures import Endpoint, Explanation, explain
from pipeline.sender.guard import AddressGuard, describe_refusal
from pipeline.sender.surroundings import PROBE_NAME, NetworkWatch, ResolverWatch
from pipeline.sender.target import TargetUrlError, parse_target_url, refuse_odd_address
from pipeline.sender.transport import BoundedConnector, Route, read_head, release, send

_log = logging.getLogger(__name__)

USER_AGENT: Final = f"oms-webhooks/{version('oms-webhooks')}"
_CACHED_TARGETS: Final = 8192
_DNS_SECONDS: Final = 10
# Shorter than the five seconds after which common servers close an idle connection: a POST that meets a closing
# connection fails, and it is not for us to say whether the endpoint has seen it.
_IDLE_SECONDS: Final = 4.0
_TELL_EVERY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class SenderLimits:
    """Bounds of all exchanges together (`connections`, and `idle` ones kept open) and of each (seconds, bytes of the body kept)."""

    connections: int = 512
    total_timeout: float = 15.0
    connect_timeout: float = 5.0
    response_bytes: int = 16384
    idle: int = 512

    def __post_init__(self) -> None:
        if self.connections < 1 or self.response_bytes < 0:
            raise ValueError("connections must be at least 1 and response_bytes at least 0")
        if not 0 < self.connect_timeout < self.total_timeout:
            raise ValueError("connect_timeout must be above 0 and below total_timeout")


@dataclass(frozen=True, slots=True)
class _Target:
    route: Route
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class _Undiallable:
    failure: Failure
    detail: str


class Sender:
    """POSTs requests. `start` it in the event loop that uses it; `close` it when no exchange is under way."""

    def __init__(
        self,
        limits: SenderLimits,
        guard: AddressGuard,
        *,
        ssl_context: ssl.SSLContext | None = None,
        user_agent: str = USER_AGENT,
        resolve: Resolve = resolve_host,
        probe_name: str = PROBE_NAME,
    ) -> None:
        """``probe_name`` is asked for when no endpoint's name resolves, to learn whether the resolver works."""
        if ssl_context is not None and not (ssl_context.check_hostname and ssl_context.verify_mode == ssl.CERT_REQUIRED):
            raise ValueError("ssl_context must verify certificates and host names")
        self._limits = limits
        self._guard = guard
        self._lookups = Lookups(resolve)
        self._network = NetworkWatch()
        # Past the look-ups that are under way, which may all wait for a resolver or a domain that is silent.
        asked = resolve_apart if resolve is resolve_host else resolve
        self._judge = Judge(self._lookups, ResolverWatch(self._lookups, asked, probe_name), self._network)
        self._ssl = ssl_context or True
        self._user_agent = user_agent
        self._slots = asyncio.Semaphore(limits.connections)
        self._under_way = 0
        self._told_unexpected_at = float("-inf")
        self._connector: BoundedConnector | None = None
        # Without a total: that one covers the answer too, and the exchange itself watches it.
        self._connect_timeout = aiohttp.ClientTimeout(total=None, connect=limits.connect_timeout, ceil_threshold=float("inf"))
        self._time_limit = TimeLimit(limits.total_timeout)
        self._read_bufsize = max(limits.response_bytes, 1024)
        self._target = functools.lru_cache(maxsize=_CACHED_TARGETS)(self._read_target)

    async def start(self) -> None:
        """Open the connection pool. Connections are opened by exchanges."""
        metrics.IN_FLIGHT.set_function(lambda: self._under_way)  # a gauge that is told of each has a lock to take
        self._connector = BoundedConnector(
            limit=0,  # Bounded by the slots: in the connector's queue a request would use up its own timeout.
            most_idle=self._limits.idle,
            resolver=GuardedResolver(self._guard, self._lookups),
            socket_factory=guarded_socket_factory(self._guard),
            ttl_dns_cache=_DNS_SECONDS,
            keepalive_timeout=_IDLE_SECONDS,
            ssl=self._ssl,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._connector is not None:
            await self._connector.close()
            self._connector = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def post(self, request: Request, on_start: Callable[[], None] | None = None) -> Exchange | NotSent:
        """Send a request once and tell what came of it; or that nothing was sent, through a fault of ours.

        Never raises because of the endpoint or the network; what it waits for a free connection is not counted. ``on_start`` is
        called when that wait is over.
        """
        async with self._slots:
            if on_start is not None:
                on_start()
            started = perf_counter()
            try:
                target = self._target(request.url)
            except Exception as error:  # noqa: BLE001 - a bug of ours, in what nobody has foreseen
                return self._unexpected_target(error, started)
            if isinstance(target, _Undiallable):
                return NoResponse(target.failure, target.detail, _milliseconds_since(started))
            self._under_way += 1
            try:
                return await self._exchange(request, target, started)
            finally:
                self._under_way -= 1

    async def _exchange(self, request: Request, target: _Target, started: float) -> Exchange | NotSent:
        if self._connector is None:
            raise RuntimeError("the sender is not started; call start() first")
        limit = self._limits.response_bytes
        chunks: list[bytes] = []
        connection: Connection | None = None
        message: RawResponseMessage | None = None
        try:
            head = target.route.head(request.headers, len(request.body))
            with self._time_limit.begin():
                connection = await self._connect(self._connector, target.route)
                protocol = send(connection, head, request.body, read_bufsize=self._read_bufsize)
                message, content = await read_head(protocol)
                first_byte_ms = _milliseconds_since(started)
                complete = await _read_body(content, limit, chunks)
            if content.is_eof():  # Even one whose end is not kept.
                release(connection)
        except Exception as error:  # noqa: BLE001
            if connection is None:  # nothing can have been sent
                return await self._not_connected(error, target.endpoint, started)
            return self._no_response(_loss_of(connection, message) or error, target.endpoint, started, message, chunks)
        finally:
            # A connection that was not released ends with its exchange.
            if connection is not None:
                connection.close()
        body = b"".join(chunks)
        return Response(
            message.code,
            bounded_headers(message.headers.items()),
            body if len(body) <= limit else body[:limit],
            not complete or len(body) > limit,
            _milliseconds_since(started),
            first_byte_ms,
        )

    async def _connect(self, connector: BoundedConnector, route: Route) -> Connection:
        try:
            connection = await connector.connect(route, [], self._connect_timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        self._network.reached(route.connection_key.host)
        return connection

    async def _not_connected(self, error: Exception, endpoint: Endpoint, started: float) -> Exchange | NotSent:
        explanation = explain(error, endpoint)
        words = explanation or _unexpected(error, endpoint.name)
        otherwise = NoResponse(words.failure, words.detail, _milliseconds_since(started))
        own = await self._judge.own_fault(error, endpoint, otherwise, is_known=explanation is not None)
        if own is not None and own.fault is OwnFault.UNEXPECTED:
            self._tell_unexpected(error, endpoint.name)
        if own is not None and own.fault is OwnFault.DESCRIPTORS and self._connector is not None:
            self._connector.close_idle()  # whoever comes next has their descriptors
        return otherwise if own is None else own

    def _no_response(
        self,
        error: Exception,
        endpoint: Endpoint,
        started: float,
        message: RawResponseMessage | None,
        chunks: list[bytes],
    ) -> NoResponse:
        duration_ms = _milliseconds_since(started)
        explanation = explain(error, endpoint)
        if explanation is None:
            self._tell_unexpected(error, endpoint.name)
            explanation = _unexpected(error, endpoint.name)
        if message is None:
            return NoResponse(explanation.failure, explanation.detail, duration_ms, explanation.status)
        return NoResponse(
            explanation.failure,
            explanation.detail,
            duration_ms,
            message.code,
            bounded_headers(message.headers.items()),
            b"".join(chunks)[: self._limits.response_bytes],
        )

    def _unexpected_target(self, error: Exception, started: float) -> NotSent:
        self._tell_unexpected(error, "a target_url")
        words = _unexpected(error, "The target_url")
        otherwise = NoResponse(Failure.INVALID_TARGET, words.detail, _milliseconds_since(started))
        return NotSent(OwnFault.UNEXPECTED, f"{type(error).__name__} in the sender; its traceback is in the log.", otherwise)

    def _tell_unexpected(self, error: Exception, name: str) -> None:
        """Log the traceback of a bug, once a minute: it may come with every delivery."""
        if (now := perf_counter()) - self._told_unexpected_at >= _TELL_EVERY_SECONDS:
            self._told_unexpected_at = now
            _log.error("unexpected error in an HTTP exchange with %s", name, exc_info=error)

    def _read_target(self, url: str) -> _Target | _Undiallable:
        try:
            target = parse_target_url(url)
            if target.address is not None:
                if refusal := self._guard.refusal(target.address):
                    clause = describe_refusal(target.host, target.address, refusal)
                    return _Undiallable(Failure.BLOCKED_ADDRESS, f"{clause}; webhooks are not sent there.")
                refuse_odd_address(target)
        except TargetUrlError as error:
            return _Undiallable(Failure.INVALID_TARGET, str(error)[:MAX_DETAIL])
        name = target.url.host_port_subcomponent or target.host
        limits = self._limits
        endpoint = Endpoint(target.host, name, limits.connect_timeout, limits.total_timeout)
        return _Target(Route(target.url, self._user_agent), endpoint)


async def _read_body(content: aiohttp.StreamReader, limit: int, chunks: list[bytes]) -> bool:
    """Read until the end, or until there is more than `limit` bytes. Returns whether the end was reached."""
    if content.is_eof():  # A short answer, which came in one piece: nothing to wait for.
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


def _loss_of(connection: Connection | None, message: RawResponseMessage | None) -> Exception | None:
    """The system's error that ended the connection, if one did: the reader of the body only hears of missing bytes."""
    protocol = None if connection is None or message is None else connection.protocol
    error = None if protocol is None else protocol.exception()
    return error if isinstance(error, OSError) else None


def _unexpected(error: Exception, name: str) -> Explanation:
    return Explanation(Failure.CONNECTION, f"{name}: {type(error).__name__} in the sender.")


def _milliseconds_since(started: float) -> float:
    return (perf_counter() - started) * 1000.0
