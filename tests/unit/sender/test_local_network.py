"""The checks of our resolver and of the egress proxy: what remains in doubt if they fail, and how they end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest

from pipeline.core.egress_proxy import EgressProxy, ProxyFault
from pipeline.core.exchange import Request
from pipeline.core.local_faults import NameHistory
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.client import Sender
from pipeline.sender.dialler import Lookups
from pipeline.sender.limits import SenderLimits
from pipeline.sender.local_network import PROBE_NAME, FaultOwner, ResolverMonitor
from pipeline.sender.proxy_monitor import ProxyMonitor
from pipeline.sender.tunnels import Tunnels


async def without_threads(host: str) -> Sequence[str]:
    raise RuntimeError("can't start new thread")


async def test_a_resolver_that_cannot_be_checked_leaves_a_doubt() -> None:
    watch = ResolverMonitor(Lookups(without_threads), without_threads)
    assert await watch.fault_owner("hooks.example.com") is FaultOwner.IN_DOUBT
    assert await watch.fault_owner("hooks.example.com") is FaultOwner.IN_DOUBT


@pytest.mark.parametrize("fault", [ProxyFault.SILENT, ProxyFault.NO_TARGET])
async def test_an_egress_proxy_that_cannot_be_checked_leaves_a_doubt(fault: ProxyFault) -> None:
    tunnels = Tunnels(EgressProxy("proxy.invalid", 3128), AddressGuard(), without_threads, 1.0)
    assert (
        await ProxyMonitor(NameHistory(), "example.com").fault_owner(tunnels, fault, "hooks.example.com") is FaultOwner.IN_DOUBT
    )


async def test_a_closed_sender_leaves_no_check_behind() -> None:
    asked = asyncio.Event()

    async def hang(host: str) -> Sequence[str]:
        if host == PROBE_NAME:
            asked.set()
            await asyncio.Event().wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Try again")

    before = asyncio.all_tasks()
    sender = Sender(SenderLimits(1), AddressGuard(), resolve=hang)
    await sender.start()
    sending = asyncio.create_task(sender.post(Request("https://hooks.example.com/", {}, b"")))
    await asyncio.wait_for(asked.wait(), 60)
    sending.cancel()  # the check continues: others may wait for it
    await asyncio.gather(sending, return_exceptions=True)
    await sender.close()
    assert asyncio.all_tasks() == before
