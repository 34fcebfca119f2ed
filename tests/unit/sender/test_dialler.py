from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from pipeline.ops.daemon_threads import DaemonThreads
from pipeline.sender import dialler
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.dialler import (
    BlockedAddressError,
    GuardedResolver,
    guarded_socket_factory,
    resolve_host,
    waits_for_a_thread,
)


def resolver(*addresses: str) -> GuardedResolver:
    async def resolve(host: str) -> Sequence[str]:
        return addresses

    return GuardedResolver(AddressGuard(), resolve)


async def test_forbidden_addresses_are_dropped_and_the_order_is_kept() -> None:
    results = await resolver("10.0.0.5", "2606:4700::1", "8.8.8.8", "::1", "1.1.1.1").resolve("hooks.example.com", 443)
    assert [(result["host"], result["port"], result["family"]) for result in results] == [
        ("2606:4700::1", 443, socket.AF_INET6),
        ("8.8.8.8", 443, socket.AF_INET),
        ("1.1.1.1", 443, socket.AF_INET),
    ]


async def test_only_a_few_addresses_of_each_family_are_dialled() -> None:
    addresses = [f"8.8.8.{number}" for number in range(200)] + [f"2606:4700::{number}" for number in range(1, 200)]
    results = await resolver(*addresses).resolve("many.example.com", 443)
    assert [result["host"] for result in results] == [*addresses[:3], *addresses[200:203]]


async def test_family_is_respected() -> None:
    results = await resolver("8.8.8.8", "2606:4700::1").resolve("hooks.example.com", 443, socket.AF_INET6)
    assert [result["host"] for result in results] == ["2606:4700::1"]


async def test_name_with_only_forbidden_addresses_is_blocked() -> None:
    with pytest.raises(BlockedAddressError) as blocked:
        await resolver("10.0.0.5", "::1").resolve("hooks.example.com", 443)
    assert (blocked.value.address, blocked.value.refusal) == ("10.0.0.5", "a private address (10.0.0.0/8)")


async def test_name_without_addresses_does_not_resolve() -> None:
    with pytest.raises(socket.gaierror):
        await resolver().resolve("hooks.example.com", 443)


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (socket.AF_INET, ("127.0.0.1", 80)),
        (socket.AF_INET, ("localhost", 80)),
        (socket.AF_INET6, ("::1", 80, 0, 0)),
        (socket.AF_INET6, ("fe80::1%lo", 80, 0, 1)),
    ],
)
def test_no_socket_for_a_refused_address(
    family: socket.AddressFamily, address: tuple[str, int] | tuple[str, int, int, int]
) -> None:
    factory = guarded_socket_factory(AddressGuard())
    with pytest.raises(BlockedAddressError):
        factory((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address))


def test_socket_for_an_allowed_address() -> None:
    factory = guarded_socket_factory(AddressGuard([ip_network("127.0.0.0/8")]))
    with factory((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 80))) as made:
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_STREAM)


async def test_system_resolver_gives_each_address_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        row = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 0))
        return [row, (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2606:4700::1", 0, 0, 0)), row]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert await resolve_host("hooks.example.com") == ["8.8.8.8", "2606:4700::1"]


async def test_name_that_cannot_be_encoded_does_not_resolve() -> None:
    with pytest.raises(socket.gaierror):
        await resolve_host(f"{'a' * 64}.example.com")


async def test_a_look_up_is_queued_only_if_none_for_the_name_is_running(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client asks once for each port, and the second look-up may be queued while the first one hangs."""
    is_asked, release = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[tuple[object, ...]]:
        is_asked.set()
        release.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(dialler, "_LOOKUP_THREADS", DaemonThreads(1, "one"))
    asked = [asyncio.create_task(resolve_host("hanging.example.com"))]
    await asyncio.to_thread(is_asked.wait, 60)
    asked += [asyncio.create_task(resolve_host(host)) for host in ("hanging.example.com", "queued.example.com")]
    await asyncio.sleep(0)
    assert not waits_for_a_thread("hanging.example.com")
    assert waits_for_a_thread("queued.example.com")

    release.set()
    await asyncio.gather(*asked)
    assert not dialler._lookups_under_way


_ENDS_DURING_A_LOOK_UP = """
import asyncio, socket, threading

hanging = threading.Event()

def hang(*_, **__):
    hanging.set()
    threading.Event().wait()

socket.getaddrinfo = hang

from pipeline.sender.dialler import resolve_in_probe_thread, resolve_host

async def ask():
    asked = [asyncio.ensure_future(resolve(f"{number}.example")) for number in range(50) for resolve in (resolve_host, resolve_in_probe_thread)]
    await asyncio.get_running_loop().run_in_executor(None, hanging.wait)
    for one in asked:
        one.cancel()
    await asyncio.gather(*asked, return_exceptions=True)

asyncio.run(ask())
"""


def test_a_process_exits_without_waiting_for_look_ups() -> None:
    """An unreachable resolver delays each look-up by half a minute: a restart would take as long."""
    subprocess.run([sys.executable, "-c", _ENDS_DURING_A_LOOK_UP], check=True, timeout=60)
