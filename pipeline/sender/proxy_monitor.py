"""Decides whose fault it is that the egress proxy opened no tunnel.

The rule: If we cannot connect to the proxy, or it refuses our credentials, the fault is certainly ours. If it reports that it
cannot reach the target, or does not answer, either the target or the proxy may be at fault. It is the target's if the proxy has
reached another host within the last 30 seconds, or reaches one now: the probe name of the settings. Otherwise it is ours, in doubt.

Doubt is limited in time: see `pipeline.delivery.delivery_service`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from pipeline.core.egress_proxy import ProxyFault
from pipeline.core.local_faults import Evidence, NameHistory
from pipeline.ops.logs import logger
from pipeline.sender.local_network import FaultOwner
from pipeline.sender.tunnels import Tunnels

log = logger(__name__)

PROBE_PORT: Final = 443
_PROBE_KEPT_SECONDS: Final = 10.0


class ProxyMonitor:
    """Decides whose fault a missing tunnel is. ``witnesses``: the hosts that the proxy reached, and those that it did not."""

    def __init__(self, witnesses: NameHistory, probe_name: str) -> None:
        self._witnesses = witnesses
        self._probe_name = probe_name
        self._probing: asyncio.Task[None] | None = None
        self._probed_at = float("-inf")

    async def fault_owner(self, tunnels: Tunnels, fault: ProxyFault, host: str) -> FaultOwner:
        """Whose fault it is. ``tunnels``: how to ask the proxy for the probe name; the result goes to the witnesses."""
        if fault in {ProxyFault.SILENT, ProxyFault.NO_TARGET} and self._evidence(host) is not Evidence.OTHERS_WORK:
            await self._probe(tunnels)
        return proxy_fault_owner(fault, self._evidence(host))

    def _evidence(self, host: str) -> Evidence:
        return self._witnesses.evidence(host, time.monotonic())

    async def _probe(self, tunnels: Tunnels) -> None:
        """Concurrent and slightly later callers share the result."""
        now = time.monotonic()
        if self._probing is None or (self._probing.done() and now - self._probed_at > _PROBE_KEPT_SECONDS):
            self._probed_at = now
            self._probing = asyncio.create_task(_ask(tunnels, self._probe_name))
        await asyncio.shield(self._probing)

    async def close(self) -> None:
        """Cancel a probe that is in progress."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
            self._probing = None


async def _ask(tunnels: Tunnels, name: str) -> None:
    try:
        await tunnels.probe(name, PROBE_PORT)
    except OSError:
        pass  # the witnesses get the result
    except RuntimeError as error:  # no thread can be started
        log.warning("the egress proxy cannot be checked", error=str(error))


def proxy_fault_owner(fault: ProxyFault, evidence: Evidence) -> FaultOwner:
    """Whose fault it is that there is no tunnel. ``evidence``: whether the proxy's tunnels to other hosts work."""
    match fault:
        case ProxyFault.TARGET_SPOKE_FIRST:
            return FaultOwner.THEIRS
        case ProxyFault.AWAY | ProxyFault.CREDENTIALS:
            return FaultOwner.OURS
        case ProxyFault.REFUSED:  # perhaps only for this port or address; then it must not be parked for ever
            return FaultOwner.IN_DOUBT
        case ProxyFault.SILENT | ProxyFault.NO_TARGET:
            return FaultOwner.THEIRS if evidence is Evidence.OTHERS_WORK else FaultOwner.IN_DOUBT
