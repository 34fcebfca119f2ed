"""Our own faults are not the endpoint's (promise 9): each is produced with real parts, and the sender classifies it.

Tests with many endpoints take a second: a process starts and sends 600 requests.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.exchange import Failure, NoResponse, Request
from pipeline.core.local_faults import LocalFault
from pipeline.sender import local_network
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.client import EgressRoute, Sender
from tests.contract.http_endpoint import (
    EMPTY_OK,
    LOOPBACK,
    PATIENT,
    QUICK,
    answered,
    failed,
    not_sent,
    on_each_loop,
    post,
    read_request,
    serving,
)

pytestmark = pytest.mark.usefixtures("each_wire")

ROOT = Path(__file__).parent.parent.parent
ANYWHERE = AddressGuard()


async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request after a moment, so that many are in progress at once."""
    while True:
        await read_request(reader)
        await asyncio.sleep(0.02)
        writer.write(EMPTY_OK)


# Descriptors


async def outcomes(*, endpoints: int, descriptors: int, connections: int, idle: int, wire: str) -> dict[str, int]:
    server = await asyncio.start_server(_converse, "0.0.0.0", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    arguments = map(str, (port, endpoints, descriptors, connections, idle, int(wire == "fast")))
    command = (sys.executable, "-m", "tests.contract.many_endpoints", *arguments)
    try:
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
        printed, _ = await process.communicate()
    finally:
        server.close()
    found: dict[str, int] = json.loads(printed)
    return found


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await slowly(reader, writer)
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.transport.abort()


async def test_too_many_open_files_fail_no_endpoint(each_wire: str) -> None:
    found = await outcomes(endpoints=300, descriptors=128, connections=256, idle=256, wire=each_wire)
    assert set(found) == {"200", LocalFault.DESCRIPTORS.value}
    assert sum(found.values()) == 600


async def test_idle_connections_of_many_endpoints_do_not_use_up_the_descriptors(each_wire: str) -> None:
    found = await outcomes(endpoints=300, descriptors=128, connections=32, idle=32, wire=each_wire)
    if each_wire == "plain":  # their number has no bound there; see pipeline.sender.session_transport
        assert set(found) <= {"200", LocalFault.DESCRIPTORS.value}
    else:
        assert found == {"200": 600}


# The resolver


def resolver(answers: Callable[[str], Sequence[str]]) -> Callable[[str], Awaitable[Sequence[str]]]:
    async def resolve(host: str) -> Sequence[str]:
        return answers(host)

    return resolve


def try_again(host: str) -> Sequence[str]:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


@on_each_loop
async def test_a_resolver_that_fails_for_all_names_is_our_fault() -> None:
    async with Sender(PATIENT, LOOPBACK, resolve=resolver(try_again)) as sender:
        for host in ("a.test", "b.test"):
            outcome = not_sent(await sender.post(Request(f"http://{host}/", {}, b"{}")), LocalFault.RESOLVER)
            assert outcome.otherwise is not None  # it may still be the domains' fault: there are only two
            assert outcome.otherwise.failure is Failure.DNS
        assert not_sent(await sender.post(Request("http://c.test/", {}, b"{}")), LocalFault.RESOLVER).otherwise is None


@on_each_loop
async def test_a_silent_resolver_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_network, "_PROBE_SECONDS", 0.2)

    async def hang(host: str) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    not_sent(await post("http://hooks.example.net/", limits=QUICK, resolve=hang), LocalFault.RESOLVER)


@on_each_loop
async def test_a_domains_failing_servers_are_the_endpoints_fault_if_another_name_resolves() -> None:
    def answers(host: str) -> Sequence[str]:
        return ["127.0.0.1"] if host == "good.test" else try_again(host)

    async with serving(slowly) as endpoint, Sender(PATIENT, LOOPBACK, resolve=resolver(answers)) as sender:
        answered(await sender.post(Request(endpoint.url(host="good.test"), {}, b"{}")))
        for _ in range(5):
            failed(await sender.post(Request("http://bad.test/", {}, b"{}")), Failure.DNS, "bad.test")


@pytest.mark.parametrize("code", [None, socket.EAI_NONAME], ids=["resolves", "no such name"])
@on_each_loop
async def test_a_domains_failing_servers_are_the_endpoints_fault_if_the_probe_is_answered(code: int | None) -> None:
    def answers(host: str) -> Sequence[str]:
        if host != "probe.test":
            return try_again(host)
        if code is not None:
            raise socket.gaierror(code, "Name or service not known")
        return ["127.0.0.1"]

    outcome = await post("http://bad.test/", resolve=resolver(answers), egress=EgressRoute(probe_name="probe.test"))
    failed(outcome, Failure.DNS, "bad.test")


@on_each_loop
async def test_the_resolver_is_probed_once_for_many_names_that_fail_together() -> None:
    asked: list[str] = []

    def answers(host: str) -> Sequence[str]:
        asked.append(host)
        return try_again(host)

    async with Sender(PATIENT, LOOPBACK, resolve=resolver(answers), egress=EgressRoute(probe_name="probe.test")) as sender:
        await asyncio.gather(*(sender.post(Request(f"http://{number}.test/", {}, b"{}")) for number in range(8)))
    assert asked.count("probe.test") == 1


# The network


@pytest.fixture
def cut_off() -> tuple[str, ...]:
    """Return the start of a command that runs without a network."""
    prefix = ("unshare", "--map-root-user", "--net")
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not make a network namespace")
    return prefix


_WITHOUT_NETWORK = """
import asyncio
from pipeline.core.exchange import Request
from pipeline.sender.client import Sender
from pipeline.sender.limits import SenderLimits
from pipeline.sender.address_guard import AddressGuard

async def main():
    async with Sender(SenderLimits(), AddressGuard()) as sender:
        for url in ("http://8.8.8.8/", "http://8.8.4.4/", "http://1.1.1.1/", "http://hooks.example.net/"):
            outcome = await sender.post(Request(url, {}, b"{}"))
            print(outcome.fault, outcome.otherwise is None)

asyncio.run(main())
"""


def test_a_machine_without_a_network_is_our_fault(cut_off: tuple[str, ...]) -> None:
    command = (*cut_off, sys.executable, "-c", _WITHOUT_NETWORK)
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    assert printed == ["network_down False", "network_down False", "network_down True", "resolver_down False"]


# Memory and bugs


@on_each_loop
async def test_lack_of_memory_is_our_fault() -> None:
    def answers(host: str) -> Sequence[str]:
        raise MemoryError

    assert not_sent(await post("http://hooks.example.net/", resolve=resolver(answers)), LocalFault.MEMORY).otherwise is None


@on_each_loop
async def test_an_unexpected_error_is_our_fault_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    headers: Any = {"X-Count": 5}
    async with serving(slowly) as endpoint, Sender(PATIENT, LOOPBACK) as sender:
        for _ in range(10):
            outcome = not_sent(await sender.post(Request(endpoint.url("/?key=hush"), headers, b"{}")), LocalFault.UNEXPECTED)
            assert "TypeError" in outcome.detail
            assert isinstance(outcome.otherwise, NoResponse)
    assert caplog.text.count("unexpected error") == 1
    assert "hush" not in caplog.text
