"""Decides whether it is our fault that a request was not sent (promise 9)."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator
from typing import Final

import aiohttp

from pipeline.core.exchange import NoResponse
from pipeline.core.local_faults import LocalFault, NotSent
from pipeline.sender.dialler import Lookups, is_answer, waits_for_a_thread
from pipeline.sender.failures import FailureContext
from pipeline.sender.local_network import FaultOwner, NetworkMonitor, ResolverMonitor, has_route
from pipeline.sender.proxy_monitor import ProxyMonitor
from pipeline.sender.tunnels import EgressProxyError, Tunnels

_SHORTAGES: Final = {
    errno.EMFILE: LocalFault.DESCRIPTORS,
    errno.ENFILE: LocalFault.DESCRIPTORS,
    errno.ENOMEM: LocalFault.MEMORY,
    errno.ENOBUFS: LocalFault.MEMORY,
}
_NO_ROUTE: Final = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH})
_NO_THREAD: Final = "can't start new thread"
_NO_PORT: Final = "There is no free local port for another connection: too many were closed within the last minute."
# aiohappyeyeballs reports several addresses in one error without a number.
_NUMBERS: Final = re.compile(r"\[Errno (\d+)\]")


class FaultAttribution:
    """Judges the errors of exchanges in which nothing was sent. One per sender."""

    def __init__(self, lookups: Lookups, resolver: ResolverMonitor, network: NetworkMonitor, proxy: ProxyMonitor) -> None:
        self._lookups = lookups
        self._resolver = resolver
        self._network = network
        self._proxy = proxy
        self.tunnels: Tunnels | None = None
        """With an egress proxy: how to ask the proxy itself."""

    async def close(self) -> None:
        """Cancel probes that are in progress."""
        await self._resolver.close()
        await self._proxy.close()

    async def own_fault(
        self, error: Exception, endpoint: FailureContext, otherwise: NoResponse, *, is_known: bool
    ) -> NotSent | None:
        """Why nothing was sent, if that was our fault; None if it was the endpoint's.

        ``otherwise`` is the outcome in the latter case. ``is_known``: a network or server can cause such an error.
        """
        causes = list(_causes(error))
        if shortage := _shortage(causes):
            return shortage
        if proxy := next((cause for cause in causes if isinstance(cause, EgressProxyError)), None):
            return await self._judge_proxy(proxy, endpoint, otherwise)
        return await self._judge_connection(error, endpoint, otherwise, is_known=is_known)

    async def _judge_connection(
        self, error: Exception, endpoint: FailureContext, otherwise: NoResponse, *, is_known: bool
    ) -> NotSent | None:
        causes = list(_causes(error))
        if any(map(_is_no_answer, causes)) or self._was_resolving(error, endpoint):
            return await self._judge_resolver(endpoint, otherwise)
        numbers = {number for cause in causes for number in _numbers(cause)}
        if errno.EADDRNOTAVAIL in numbers and not _lacks_ipv6(endpoint):
            return NotSent(LocalFault.PORTS, _NO_PORT, otherwise)
        if numbers and numbers <= _NO_ROUTE:
            owner = self._network.fault_owner(endpoint.host)
            return _not_sent(LocalFault.NETWORK, f"There is no route to any host ({_words(max(numbers))}).", owner, otherwise)
        if not is_known:
            return NotSent(
                LocalFault.UNEXPECTED, f"{type(error).__name__} in the sender; its traceback is in the log.", otherwise
            )
        return None

    def _was_resolving(self, error: Exception, endpoint: FailureContext) -> bool:
        return isinstance(error, aiohttp.ConnectionTimeoutError) and self._lookups.is_under_way(endpoint.host)

    async def _judge_proxy(self, error: EgressProxyError, endpoint: FailureContext, otherwise: NoResponse) -> NotSent | None:
        if error.errno == errno.EADDRNOTAVAIL:
            return NotSent(LocalFault.PORTS, f"{_NO_PORT} It was for the egress proxy.")
        if self.tunnels is None:
            raise RuntimeError("there is no egress proxy")
        owner = await self._proxy.fault_owner(self.tunnels, error.fault, endpoint.host)
        return _not_sent(LocalFault.EGRESS_PROXY, error.message, owner, otherwise)

    async def _judge_resolver(self, endpoint: FailureContext, otherwise: NoResponse) -> NotSent | None:
        if waits_for_a_thread(endpoint.host):
            detail = "All threads for DNS look-ups are busy: the resolver is slow, or does not answer for many names."
            return NotSent(LocalFault.RESOLVER, detail, otherwise)
        owner = await self._resolver.fault_owner(endpoint.host)
        detail = "The resolver of this machine answers for no host name; check /etc/resolv.conf and its name servers."
        return _not_sent(LocalFault.RESOLVER, detail, owner, otherwise)


def _not_sent(fault: LocalFault, detail: str, owner: FaultOwner, otherwise: NoResponse) -> NotSent | None:
    if owner is FaultOwner.THEIRS:
        return None
    return NotSent(fault, detail, otherwise if owner is FaultOwner.IN_DOUBT else None)


def _shortage(causes: list[BaseException]) -> NotSent | None:
    for cause in causes:
        if isinstance(cause, MemoryError) or (isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_MEMORY):
            return NotSent(LocalFault.MEMORY, "There is no memory left for this process.")
        if isinstance(cause, RuntimeError) and _NO_THREAD in str(cause):
            return NotSent(
                LocalFault.MEMORY, "No further thread can be started: a limit of this process or its container is reached."
            )
        for number in _numbers(cause):
            if fault := _SHORTAGES.get(number):
                return NotSent(fault, f"This process is short of resources: {_words(number)}.")
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _numbers(error: BaseException) -> frozenset[int]:
    """The system's error numbers. A resolver's errors are left out: their numbers mean something else."""
    if not isinstance(error, OSError) or isinstance(error, socket.gaierror):
        return frozenset()
    if error.errno is not None:
        return frozenset({error.errno})
    return frozenset(map(int, _NUMBERS.findall(str(error))))


def _is_no_answer(error: BaseException) -> bool:
    return isinstance(error, socket.gaierror) and not is_answer(error)


def _lacks_ipv6(endpoint: FailureContext) -> bool:
    """Whether the endpoint is an IPv6 address and this machine has no IPv6 address to dial from."""
    return ":" in endpoint.host and not has_route(socket.AF_INET6, endpoint.host)


def _words(number: int) -> str:
    return os.strerror(number).lower()
