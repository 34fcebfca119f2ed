"""Checks the local resolver and the local network if a name does not resolve, or if there is no route to a host.

The rule for names: "No such name" is an answer (RFC 8020), so the resolver works and the fault is the endpoint's. "Try again"
(EAI_AGAIN, RFC 3493 section 6.1) and silence may be caused by the domain's name servers or by our resolver. The fault is the
endpoint's if the resolver answered for another name within the last 30 seconds, or answers for one now: for the names that last
resolved and, because there may be none, for the probe name of the settings. Names in /etc/hosts say nothing about a resolver. If
no name is answered, the fault is ours: for certain if three names fail, and in doubt if fewer do.

The rule for routes: "Unreachable" is the endpoint's fault if another host was reached within the last 30 seconds. Otherwise it is
ours: for certain if there is no route to any public address (a connected UDP socket consults the routing table and sends nothing)
and three hosts fail; in doubt if there is no route, or if three hosts fail.

Doubt is limited in time: see `pipeline.delivery.delivery_service`.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import functools
import ipaddress
import socket
import time
from collections.abc import Callable
from typing import Final

from pipeline.core.local_faults import Evidence, NameHistory
from pipeline.ops.logs import logger
from pipeline.sender.dialler import Lookups, Resolve, is_answer

log = logger(__name__)

PROBE_NAME: Final = "example.com"
_ASKED: Final = 3
_PROBE_SECONDS: Final = 3.0
_PROBE_KEPT_SECONDS: Final = 10.0
# From the documentation networks (RFC 5737, RFC 3849): routed like any public address, and nothing is sent there.
_ANYWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


class FaultOwner(enum.Enum):
    THEIRS = enum.auto()
    OURS = enum.auto()
    IN_DOUBT = enum.auto()
    """Ours, unless it lasts so long that it must be the endpoint's."""


class ResolverMonitor:
    """Judges failed look-ups, and probes this machine's resolver if needed."""

    def __init__(self, lookups: Lookups, resolve: Resolve, probe_name: str = PROBE_NAME) -> None:
        self._lookups = lookups
        self._resolve = resolve
        self._probe_name = probe_name
        self._probing: asyncio.Task[frozenset[str]] | None = None
        self._probed_at = float("-inf")

    async def fault_owner(self, name: str) -> FaultOwner:
        """Whose fault it is that a name does not resolve."""
        witnesses = self._lookups.witnesses
        witnesses.failed(name)
        if witnesses.evidence(name, time.monotonic()) is Evidence.OTHERS_WORK:
            return FaultOwner.THEIRS
        if await self._probe() - {name}:
            return FaultOwner.THEIRS
        return FaultOwner.OURS if witnesses.evidence(name, time.monotonic()) is Evidence.SEVERAL_FAIL else FaultOwner.IN_DOUBT

    async def _probe(self) -> frozenset[str]:
        """Which names are answered now. Concurrent and slightly later callers share the result."""
        now = time.monotonic()
        if self._probing is None or now - self._probed_at > _PROBE_KEPT_SECONDS:
            self._probed_at = now
            self._probing = asyncio.create_task(self._ask())
        return await asyncio.shield(self._probing)

    async def close(self) -> None:
        """Cancel a probe that is in progress."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
            self._probing = None

    async def _ask(self) -> frozenset[str]:
        names = list(dict.fromkeys([*self._lookups.witnesses.latest(_ASKED), self._probe_name]))
        answers = await asyncio.gather(*(self._is_answered(name) for name in names))
        return frozenset(name for name, answered in zip(names, answers, strict=True) if answered)

    async def _is_answered(self, name: str) -> bool:
        try:
            await asyncio.wait_for(self._resolve(name), _PROBE_SECONDS)
        except socket.gaierror as error:
            return is_answer(error)
        except OSError:  # TimeoutError is one
            return False
        except RuntimeError as error:  # no thread can be started
            log.warning("the resolver of this machine cannot be checked", error=str(error))
            return False
        return True


def has_route(family: socket.AddressFamily, address: str) -> bool:
    """Whether the routing table has a route to an address. Nothing is sent."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError as error:
        return error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}  # nothing was learned
    return True


def has_any_route() -> bool:
    """Whether the routing table has a route to any public address."""
    return any(has_route(family, address) for family, address in _ANYWHERE)


class NetworkMonitor:
    """Judges missing routes."""

    def __init__(self, has_any_route: Callable[[], bool] = has_any_route) -> None:
        self._has_any_route = has_any_route
        self._witnesses = NameHistory()

    def reached(self, host: str) -> None:
        """A connection to a host was established. A connection to this machine says nothing about the network."""
        if not _is_loopback(host):
            self._witnesses.worked(host, time.monotonic())

    def fault_owner(self, host: str) -> FaultOwner:
        """Whose fault it is that there is no route to a host."""
        self._witnesses.failed(host)
        evidence = self._witnesses.evidence(host, time.monotonic())
        if evidence is Evidence.OTHERS_WORK:
            return FaultOwner.THEIRS
        is_cut_off, several = not self._has_any_route(), evidence is Evidence.SEVERAL_FAIL
        if is_cut_off and several:
            return FaultOwner.OURS
        return FaultOwner.IN_DOUBT if is_cut_off or several else FaultOwner.THEIRS


@functools.lru_cache(maxsize=8192)  # called for every exchange
def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
