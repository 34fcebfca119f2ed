"""Sends one HTTP request to an endpoint, with limits that hold whatever the endpoint does.

Limited are connections, time, response bytes, header sizes, interim responses, and bytes on the wire. No redirects, no cookies, no
decompression, no proxies from the environment. Only addresses that the `AddressGuard` allows are dialled, also through the egress
proxy of the settings.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from time import monotonic, perf_counter
from typing import Final, Self

import aiohttp

from pipeline.core.egress_proxy import EgressProxy
from pipeline.core.exchange import MAX_DETAIL, Exchange, Failure, NoResponse, Request, Response, bounded_headers
from pipeline.core.local_faults import LocalFault, NameHistory, NotSent
from pipeline.ops import metrics
from pipeline.sender.address_guard import AddressGuard, describe_refusal
from pipeline.sender.client_identities import ClientContexts
from pipeline.sender.deadlines import LATE_SECONDS, TimeLimit
from pipeline.sender.dialler import Lookups, Resolve, resolve_host, resolve_in_probe_thread
from pipeline.sender.failures import Explanation, FailureContext, explain
from pipeline.sender.fault_attribution import FaultAttribution
from pipeline.sender.limits import SenderLimits
from pipeline.sender.local_network import PROBE_NAME, NetworkMonitor, ResolverMonitor
from pipeline.sender.proxy_monitor import ProxyMonitor
from pipeline.sender.target_url import TargetUrlError, parse_target_url, require_dotted_quad
from pipeline.sender.transport import PartialResponse, Transport, TransportOptions, TransportRoute, open_transport
from pipeline.sender.tunnels import Tunnels

_log = logging.getLogger(__name__)

USER_AGENT: Final = f"oms-webhooks/{version('oms-webhooks')}"
_CACHED_TARGETS: Final = 8192
_LOG_EVERY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Target:
    route: TransportRoute
    endpoint: FailureContext


@dataclass(frozen=True, slots=True)
class _InvalidTarget:
    failure: Failure
    detail: str


@dataclass(frozen=True, slots=True)
class EgressRoute:
    """How requests leave this network: through ``proxy``; without one, endpoints are dialled directly. ``probe_name`` is looked up when
    no endpoint's name resolves, to learn whether the resolver works.
    """

    proxy: EgressProxy | None = None
    probe_name: str = PROBE_NAME


class Sender:
    """POSTs requests. `start` it in the event loop that uses it; `close` it when no exchange is in progress."""

    def __init__(
        self,
        limits: SenderLimits,
        guard: AddressGuard,
        egress: EgressRoute | None = None,
        *,
        ssl_context: ssl.SSLContext | None = None,
        resolve: Resolve = resolve_host,
        speedups: bool = True,
    ) -> None:
        """``speedups``: whether private parts of aiohttp may be used (see `pipeline.sender.transport`)."""
        if ssl_context is not None and not (ssl_context.check_hostname and ssl_context.verify_mode == ssl.CERT_REQUIRED):
            raise ValueError("ssl_context must verify certificates and host names")
        self._limits = limits
        self._guard = guard
        self._lookups = Lookups(resolve)
        self._network = NetworkMonitor()
        egress = egress or EgressRoute()
        self._proxy = egress.proxy
        self._tunnelled = NameHistory()
        self._tunnels: Tunnels | None = None
        # Bypasses the look-ups in progress, which may all wait for a resolver or a domain that does not answer.
        asked = resolve_in_probe_thread if resolve is resolve_host else resolve
        resolver, proxy = (
            ResolverMonitor(self._lookups, asked, egress.probe_name),
            ProxyMonitor(self._tunnelled, egress.probe_name),
        )
        self._judge = FaultAttribution(self._lookups, resolver, self._network, proxy)
        self._ssl = ssl_context or True
        self._with_certificate = ClientContexts(self._ssl, self._targets)
        self._slots = asyncio.Semaphore(limits.connections)
        self._under_way = 0
        self._logged_unexpected_at = float("-inf")
        self._speedups = speedups
        self._transport: Transport | None = None
        self._time_limit = TimeLimit(limits.total_timeout)
        self._target = self._targets(None)

    async def start(self) -> None:
        """Create the connection pool. Connections are opened by exchanges."""
        metrics.IN_FLIGHT.set_function(lambda: self._under_way)  # incrementing a gauge would take a lock for each request
        proxy, limits = self._proxy, self._limits
        tunnels = Tunnels(proxy, self._guard, self._lookups, limits.connect_timeout, self._tunnelled) if proxy else None
        self._tunnels = self._judge.tunnels = tunnels
        reached = self._network.reached if proxy is None else self._reached_by_proxy
        dialling = TransportOptions(limits, self._guard, self._lookups, self._ssl, USER_AGENT, reached, tunnels)
        self._transport = open_transport(dialling, speedups=self._speedups)

    def _reached_by_proxy(self, host: str) -> None:
        self._tunnelled.worked(host, monotonic())

    async def close(self) -> None:
        """Close all connections."""
        await self._judge.close()
        if self._transport is not None:
            await self._transport.close()
            self._transport = None
            self._target = self._targets(None)  # cached routes belong to the closed transport
            self._with_certificate.close()
        if self._tunnels is not None:
            await self._tunnels.close()
            self._tunnels = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def connections(self) -> int:
        """How many connections to endpoints are open, about."""
        return self._under_way + (self._transport.idle_connections if self._transport is not None else 0)

    async def post(self, request: Request, on_start: Callable[[], None] | None = None) -> Exchange | NotSent:
        """Send a request once. Returns the exchange, or `NotSent` if nothing was sent because of a fault on our side.

        Never raises because of the endpoint or the network. The wait for a free connection is not part of the duration;
        ``on_start`` is called when that wait is over.
        """
        if self._transport is None:
            raise RuntimeError("the sender is not started; call start() first")
        async with self._slots:
            if on_start is not None:
                on_start()
            started = perf_counter()
            try:
                target = self._target(request.url) if request.identity is None else await self._identified(request)
            except Exception as error:  # noqa: BLE001 - a bug of ours
                return self._unexpected_target(error, started)
            if isinstance(target, _InvalidTarget):
                return NoResponse(target.failure, target.detail, _milliseconds_since(started))
            self._under_way += 1
            try:
                return await self._exchange(request, target, started)
            finally:
                self._under_way -= 1

    async def _exchange(self, request: Request, target: _Target, started: float) -> Exchange | NotSent:
        limit = self._limits.response_bytes
        answer = PartialResponse()
        try:
            with self._time_limit.begin():
                complete = await self._exchanged(target.route, request, answer, started)
        except Exception as error:  # noqa: BLE001
            if not answer.is_connected:  # nothing can have been sent
                return await self._not_connected(error, target.endpoint, started)
            return self._no_response(error, target.endpoint, started, answer)
        body = b"".join(answer.chunks)
        return Response(
            answer.status or 0,
            bounded_headers(answer.headers.items()),
            body if len(body) <= limit else body[:limit],
            not complete or len(body) > limit,
            _milliseconds_since(started),
            (answer.first_byte_at - started) * 1000.0,
        )

    async def _exchanged(self, route: TransportRoute, request: Request, answer: PartialResponse, started: float) -> bool:
        """If this process was frozen while it connected, the timeout says nothing about the endpoint: connect once more."""
        try:
            return await route.exchange(request, answer)
        except aiohttp.ConnectionTimeoutError:
            was_frozen = perf_counter() - started >= self._limits.connect_timeout + LATE_SECONDS
            if answer.is_connected or not was_frozen:
                raise
        return await route.exchange(request, answer)

    async def _not_connected(self, error: Exception, endpoint: FailureContext, started: float) -> Exchange | NotSent:
        explanation = explain(error, endpoint)
        words = explanation or _unexpected(error, endpoint.name)
        otherwise = NoResponse(words.failure, words.detail, _milliseconds_since(started))
        own = await self._judge.own_fault(error, endpoint, otherwise, is_known=explanation is not None)
        if own is not None and own.fault is LocalFault.UNEXPECTED:
            self._log_unexpected(error, endpoint.name)
        if own is not None and own.fault is LocalFault.DESCRIPTORS and self._transport is not None:
            self._transport.close_idle()  # frees their descriptors for the next requests
        return otherwise if own is None else own

    def _no_response(self, error: Exception, endpoint: FailureContext, started: float, answer: PartialResponse) -> NoResponse:
        duration_ms = _milliseconds_since(started)
        explanation = explain(error, endpoint)
        if explanation is None:
            self._log_unexpected(error, endpoint.name)
            explanation = _unexpected(error, endpoint.name)
        if answer.status is None:
            return NoResponse(explanation.failure, explanation.detail, duration_ms, explanation.status)
        return NoResponse(
            explanation.failure,
            explanation.detail,
            duration_ms,
            answer.status,
            bounded_headers(answer.headers.items()),
            b"".join(answer.chunks)[: self._limits.response_bytes],
        )

    def _unexpected_target(self, error: Exception, started: float) -> NotSent:
        self._log_unexpected(error, "a target_url")
        words = _unexpected(error, "The target_url")
        otherwise = NoResponse(Failure.INVALID_TARGET, words.detail, _milliseconds_since(started))
        return NotSent(LocalFault.UNEXPECTED, f"{type(error).__name__} in the sender; its traceback is in the log.", otherwise)

    def _log_unexpected(self, error: Exception, name: str) -> None:
        """Log the traceback of a bug, at most once a minute: it may occur with every delivery."""
        if (now := perf_counter()) - self._logged_unexpected_at >= _LOG_EVERY_SECONDS:
            self._logged_unexpected_at = now
            _log.error("unexpected error in an HTTP exchange with %s", name, exc_info=error)

    async def _identified(self, request: Request) -> _Target | _InvalidTarget:
        if request.identity is None:
            return self._target(request.url)
        try:
            target = await self._with_certificate.of(request.identity)
        except ssl.SSLError:
            return _InvalidTarget(Failure.TLS, "The endpoint's client certificate cannot be used; set it again.")
        return target(request.url)

    def _targets(self, context: ssl.SSLContext | None) -> Callable[[str], _Target | _InvalidTarget]:
        """A cached function from URLs to targets that use this context, and keep it alive."""
        return functools.lru_cache(maxsize=_CACHED_TARGETS)(functools.partial(self._read_target, context=context))

    def _read_target(self, url: str, context: ssl.SSLContext | None = None) -> _Target | _InvalidTarget:
        try:
            target = parse_target_url(url)
            if target.address is not None:
                if refusal := self._guard.refusal(target.address):
                    clause = describe_refusal(target.host, target.address, refusal)
                    return _InvalidTarget(Failure.BLOCKED_ADDRESS, f"{clause}; webhooks are not sent there.")
                require_dotted_quad(target)
        except TargetUrlError as error:
            return _InvalidTarget(Failure.INVALID_TARGET, str(error)[:MAX_DETAIL])
        name = target.url.host_port_subcomponent or target.host
        limits = self._limits
        endpoint = FailureContext(target.host, name, limits.connect_timeout, limits.total_timeout)
        if self._transport is None:
            raise RuntimeError("the sender was closed meanwhile")
        return _Target(self._transport.route(target.url, context), endpoint)


def _unexpected(error: Exception, name: str) -> Explanation:
    return Explanation(Failure.CONNECTION, f"{name}: {type(error).__name__} in the sender.")


def _milliseconds_since(started: float) -> float:
    return (perf_counter() - started) * 1000.0
