"""Tickets and names of the tunnels through an egress proxy; tests/contract/test_sender_egress.py has a proxy."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest
from yarl import URL

from pipeline.core.egress_proxy import EgressProxy, ProxyFault
from pipeline.core.local_faults import Evidence
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.dialler import BlockedAddressError
from pipeline.sender.local_network import FaultOwner
from pipeline.sender.proxy_monitor import proxy_fault_owner
from pipeline.sender.tunnels import Tunnels, tunnelled_url


async def nowhere(host: str) -> Sequence[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def tunnels() -> Tunnels:
    return Tunnels(EgressProxy("proxy.invalid", 3128), AddressGuard(), nowhere, 1.0)


@pytest.mark.parametrize("address", ["93.184.216.34", "0.0.0.1", "[::1]", "[2606:2800:220:1::1]", "[::ffff:10.0.0.1]"])
def test_a_literal_address_gets_its_own_name(address: str) -> None:
    url, verified = tunnelled_url(URL(f"https://{address}:8443/a%2Fb?c=d"))
    assert verified == URL(f"https://{address}").raw_host
    assert (url.port, url.raw_path_qs) == (8443, "/a%2Fb?c=d")
    assert url.raw_host is not None
    assert url.raw_host.endswith(".invalid")
    assert url != tunnelled_url(URL("https://1.2.3.4:8443/a%2Fb?c=d"))[0]


def test_a_name_is_kept() -> None:
    assert tunnelled_url(URL("https://hooks.example.com/a")) == (URL("https://hooks.example.com/a"), None)


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]", "[::ffff:169.254.169.254]", "[fe80::1]"])
async def test_a_forbidden_literal_address(address: str) -> None:
    with pytest.raises(BlockedAddressError):
        await tunnels().resolve(tunnelled_url(URL(f"http://{address}/"))[0].raw_host or "", 80)


@pytest.mark.parametrize("address", ["93.184.216.34", "0.0.0.1", "127.0.0.1"])
def test_nothing_is_dialled_without_a_ticket(address: str) -> None:
    with pytest.raises(OSError, match="no tunnel"):
        tunnels().make_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 443)))


async def test_an_invalid_generated_name_is_an_ordinary_name() -> None:
    with pytest.raises(socket.gaierror):
        await tunnels().resolve("v4-7f000001.0123456789abcdef0123456789abcdef.invalid", 80)


async def test_a_look_up_whose_caller_is_gone_is_no_error() -> None:
    asked = asyncio.Event()

    async def slow(host: str) -> Sequence[str]:
        asked.set()
        await asyncio.sleep(0)
        raise socket.gaierror(socket.EAI_AGAIN, "Try again")

    waiting = asyncio.create_task(Tunnels(EgressProxy("p", 1), AddressGuard(), slow, 1.0).resolve("a.example.com", 80))
    await asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("fault", "others_work", "several_fail", "none"),
    [
        (ProxyFault.AWAY, FaultOwner.OURS, FaultOwner.OURS, FaultOwner.OURS),
        (ProxyFault.CREDENTIALS, FaultOwner.OURS, FaultOwner.OURS, FaultOwner.OURS),
        (ProxyFault.REFUSED, FaultOwner.IN_DOUBT, FaultOwner.IN_DOUBT, FaultOwner.IN_DOUBT),
        (ProxyFault.SILENT, FaultOwner.THEIRS, FaultOwner.IN_DOUBT, FaultOwner.IN_DOUBT),
        (ProxyFault.NO_TARGET, FaultOwner.THEIRS, FaultOwner.IN_DOUBT, FaultOwner.IN_DOUBT),
        (ProxyFault.TARGET_SPOKE_FIRST, FaultOwner.THEIRS, FaultOwner.THEIRS, FaultOwner.THEIRS),
    ],
)
def test_whose_fault_it_is(fault: ProxyFault, others_work: FaultOwner, several_fail: FaultOwner, none: FaultOwner) -> None:
    assert proxy_fault_owner(fault, Evidence.OTHERS_WORK) is others_work
    assert proxy_fault_owner(fault, Evidence.SEVERAL_FAIL) is several_fail
    assert proxy_fault_owner(fault, Evidence.NONE) is none
