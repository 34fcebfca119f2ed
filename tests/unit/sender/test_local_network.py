"""Whose fault it is that a name does not resolve, if even the check of our resolver fails."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.core.egress_proxy import EgressProxy, ProxyFault
from pipeline.core.local_faults import RecentNames
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.dialler import Lookups
from pipeline.sender.local_network import FaultOwner, ResolverWatch
from pipeline.sender.proxy_watch import ProxyWatch
from pipeline.sender.tunnels import Tunnels


async def without_threads(host: str) -> Sequence[str]:
    raise RuntimeError("can't start new thread")


async def test_a_resolver_that_cannot_be_checked_leaves_a_doubt() -> None:
    watch = ResolverWatch(Lookups(without_threads), without_threads)
    assert await watch.blame("hooks.example.com") is FaultOwner.IN_DOUBT
    assert await watch.blame("hooks.example.com") is FaultOwner.IN_DOUBT


@pytest.mark.parametrize("fault", [ProxyFault.SILENT, ProxyFault.NO_TARGET])
async def test_an_egress_proxy_that_cannot_be_checked_leaves_a_doubt(fault: ProxyFault) -> None:
    tunnels = Tunnels(EgressProxy("proxy.invalid", 3128), AddressGuard(), without_threads, 1.0)
    assert await ProxyWatch(RecentNames(), "example.com").blame(tunnels, fault, "hooks.example.com") is FaultOwner.IN_DOUBT
