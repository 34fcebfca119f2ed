"""No webhook reaches a forbidden target: more than 300 targets, real look-ups, and traps on loopback.

The operating system's own resolver resolves the names; it asks a DNS server on loopback. Connections are detected twice: by the traps,
which are listening sockets, and by Python's audit event of every connect(), whatever its target.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from typing import Any

import pytest

from pipeline.core.exchange import Exchange, Failure, Request
from pipeline.sender import transport
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.client import Sender
from pipeline.sender.dialler import resolve_host
from pipeline.sender.target_url import TargetUrlError, check_target_url
from tests.contract import ssrf_targets
from tests.contract.dns_server import DnsServer, answering_names
from tests.contract.http_endpoint import (
    EMPTY_OK,
    PATIENT,
    answered,
    answering,
    exchanged,
    failed,
    on_each_loop,
    serving,
    then_closing,
)
from tests.unit.web.endpoint_requests import INVALID, PATH, request, wrapped
from tests.unit.web.service import running_service
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("each_wire")

PUBLIC_ONLY = AddressGuard()
# Stands in for a public address, as tests use loopback only: 127.0.0.1 may be dialled, 127.0.0.2 and ::1 may not.
STAND_IN = AddressGuard([ip_network("127.0.0.1/32")])

REFUSED: dict[str, Sequence[str]] = {
    **ssrf_targets.ADDRESSES,
    **ssrf_targets.UNREADABLE,
    "names": ssrf_targets.refused_names(),
}

_dialled: list[Any] | None = None


def _note_connect(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _dialled is not None:
        _dialled.append(arguments[1])


sys.addaudithook(_note_connect)  # An audit hook cannot be removed; it does nothing outside `dialling`.


@contextlib.contextmanager
def dialling() -> Iterator[list[Any]]:
    """Collect the addresses that this process asks the operating system to connect to."""
    global _dialled  # noqa: PLW0603
    _dialled = []
    try:
        yield _dialled
    finally:
        _dialled = None


class Traps:
    """Listening sockets on one port of several loopback addresses."""

    def __init__(self) -> None:
        self.port = 0
        self._sockets: list[socket.socket] = []
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2"), (socket.AF_INET6, "::1")):
            trap = socket.socket(family)
            trap.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trap.bind((address, self.port))
            trap.listen()
            trap.setblocking(False)
            self.port = trap.getsockname()[1]
            self._sockets.append(trap)

    def connections(self) -> int:
        """Return how many there were since the last call. The kernel has accepted a connection before connect() returns."""
        count = 0
        for trap in self._sockets:
            with contextlib.suppress(BlockingIOError):
                while True:
                    trap.accept()[0].close()
                    count += 1
        return count

    def close(self) -> None:
        for trap in self._sockets:
            trap.close()


@pytest.fixture
def traps() -> Iterator[Traps]:
    """Provide the traps; fails the test if anything has connected to one of them."""
    try:
        made = Traps()
    except OSError:
        made = Traps()  # The port was in use on one of the addresses: try another one.
    try:
        yield made
        assert made.connections() == 0
    finally:
        made.close()


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[DnsServer]:
    with answering_names(ssrf_targets.zone(), monkeypatch) as server:
        yield server


def at(port: int, url: str) -> str:
    return url.replace("{port}", str(port))


async def delivered(url: str, guard: AddressGuard) -> Exchange:
    async with Sender(PATIENT, guard) as sender:
        return exchanged(await sender.post(Request(url, {}, b"{}")))


def test_the_corpus_is_long_and_has_no_duplicates() -> None:
    targets = [url for urls in REFUSED.values() for url in urls]
    targets += [f"http://{name}/" for name in ssrf_targets.REBINDING | ssrf_targets.MIXED]
    assert len(targets) >= 300
    assert len(set(targets)) == len(targets)


# The traps work


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://127.0.0.2:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://a.loopback.test:{port}/",
        "http://loopback6.test:{port}/",
        "http://alias.test:{port}/",
        "http://mapped.test:{port}/",
        "http://b\u00fccher.test:{port}/",
    ],
)
@on_each_loop
async def test_the_traps_are_reached_if_loopback_is_allowed(url: str, traps: Traps, dns: DnsServer) -> None:
    guard = AddressGuard([ip_network("127.0.0.0/8"), ip_network("::1/128"), ip_network("0.0.0.0/32")])
    with dialling() as dialled:
        exchange = asyncio.ensure_future(delivered(at(traps.port, url), guard))
        await until(lambda: exchange.done() or traps.connections())
        assert not exchange.done(), exchange.result()
        exchange.cancel()
        await asyncio.gather(exchange, return_exceptions=True)
    assert dialled
    assert traps.connections() == 0


# Registration


@pytest.mark.parametrize("kind", [*REFUSED, "mixed"])
async def test_the_api_refuses_to_register_forbidden_targets(kind: str, dns: DnsServer, traps: Traps) -> None:
    urls = REFUSED.get(kind) or [f"http://{name}:{{port}}/" for name in ssrf_targets.MIXED]
    async with running_service(PUBLIC_ONLY) as service:
        registered = await service.create("https://8.8.8.8/")
        written = len(service.kafka.written)
        for method, path in (("POST", PATH), ("PATCH", f"{PATH}/{registered}")):
            for url in urls:
                fields = wrapped(target_url=at(traps.port, url), events=["order_completed"])
                status, body = await request(service, method, path, **fields)
                assert (status, body["error"]) == (422, INVALID), (url, body)
                (sentence,) = body["errors"].pop("target_url")
                assert not body["errors"]
                assert sentence.startswith(("target_url must ", "target_url has an invalid ")), (
                    url,
                    sentence,
                )
                assert sentence.endswith(".")
                assert sentence.isprintable()
        assert len(service.kafka.written) == written


# TransportOptions


@pytest.mark.parametrize("kind", [*ssrf_targets.ADDRESSES, "names"])
@on_each_loop
async def test_forbidden_address_is_not_dialled(kind: str, traps: Traps, dns: DnsServer) -> None:
    with dialling() as dialled:
        async with Sender(PATIENT, PUBLIC_ONLY) as sender:
            for url in REFUSED[kind]:
                outcome = await sender.post(Request(at(traps.port, url), {}, b"{}"))
                failed(outcome, Failure.BLOCKED_ADDRESS, "webhooks are not sent there")
                assert traps.connections() == 0, url
    assert dialled == []


@pytest.mark.parametrize("kind", ssrf_targets.UNREADABLE)
@on_each_loop
async def test_ambiguous_url_is_not_dialled(kind: str, traps: Traps, dns: DnsServer) -> None:
    with dialling() as dialled:
        for guard in (PUBLIC_ONLY, AddressGuard([ip_network("0.0.0.0/0"), ip_network("::/0")])):
            async with Sender(PATIENT, guard) as sender:
                for url in REFUSED[kind]:
                    failed(await sender.post(Request(at(traps.port, url), {}, b"{}")), Failure.INVALID_TARGET, "target_url")
                    assert traps.connections() == 0, url
    assert dialled == []
    assert dns.asked == []


@pytest.mark.parametrize("name", ssrf_targets.REBINDING)
@on_each_loop
async def test_rebinding_name_is_registered_and_not_dialled(name: str, traps: Traps, dns: DnsServer) -> None:
    url = f"http://{name}:{traps.port}/"
    with dialling() as dialled:
        await check_target_url(url, PUBLIC_ONLY)
        failed(await delivered(url, PUBLIC_ONLY), Failure.BLOCKED_ADDRESS, name)
    assert dialled == []
    assert dns.asked.count((name, "A")) == dns.asked.count((name, "AAAA")) == 2


@on_each_loop
async def test_name_that_becomes_private_between_deliveries(monkeypatch: pytest.MonkeyPatch, traps: Traps) -> None:
    monkeypatch.setattr(transport, "_DNS_SECONDS", 0)
    names = {"turning.test": (("127.0.0.1",), ("127.0.0.2",), ("::1",))}
    closing = then_closing(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    with answering_names(names, monkeypatch), dialling() as dialled:
        async with serving(closing) as endpoint, Sender(PATIENT, STAND_IN) as sender:
            answered(await sender.post(Request(endpoint.url(host="turning.test"), {}, b"{}")))
            for address in ("127.0.0.2", "::1"):
                outcome = await sender.post(Request(f"http://turning.test:{traps.port}/", {}, b"{}"))
                failed(outcome, Failure.BLOCKED_ADDRESS, address)
    assert [address[0] for address in dialled] == ["127.0.0.1"]


@pytest.mark.parametrize("others", [("127.0.0.2",), ("::1",), ("10.0.0.5", "127.0.0.2", "::1", "::ffff:127.0.0.2", "fd00::1")])
@on_each_loop
async def test_only_the_public_address_of_a_mixed_name_is_dialled(
    others: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, traps: Traps
) -> None:
    names = {"mixed.test": ((*others, "127.0.0.1"),)}
    with answering_names(names, monkeypatch), dialling() as dialled:
        with pytest.raises(TargetUrlError, match=r"mixed\.test resolves to "):
            await check_target_url("http://mixed.test/", STAND_IN)
        assert set(await resolve_host("mixed.test")) == {*others, "127.0.0.1"}
        async with serving(answering(EMPTY_OK)) as endpoint:
            answered(await delivered(endpoint.url(host="mixed.test"), STAND_IN))
        # Nothing listens there any more: the private addresses are no alternative.
        failed(await delivered(endpoint.url(host="mixed.test"), STAND_IN), Failure.CONNECTION_REFUSED)
    assert {address[0] for address in dialled} == {"127.0.0.1"}


@on_each_loop
async def test_names_that_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"circle.test": (("circle2.test",),), "circle2.test": (("circle.test",),), "empty.test": ((),)}
    with answering_names(names, monkeypatch), dialling() as dialled:
        for name in (*names, "unknown.test"):
            failed(await delivered(f"http://{name}/", PUBLIC_ONLY), Failure.DNS, name)
    assert dialled == []


# Redirects


@pytest.mark.parametrize(
    "header",
    [
        "Location: http://127.0.0.2:{port}/",
        "Location: //127.0.0.2:{port}/",
        "Location: http://[::1]:{port}/",
        "Location: http://loopback2.test:{port}/",
        "Location: http://169.254.169.254/latest/meta-data/",
        "Location: gopher://127.0.0.2:{port}/",
        "Location: http://127.0.0.2:{port}/\r\nLocation: http://[::1]:{port}/",
        "Refresh: 0; url=http://127.0.0.2:{port}/",
        "Content-Location: http://127.0.0.2:{port}/",
        'Alt-Svc: http/1.1="127.0.0.2:{port}"; ma=86400',
        "Link: <http://127.0.0.2:{port}/>; rel=preload",
    ],
)
@on_each_loop
async def test_redirect_is_only_an_answer(header: str, traps: Traps, dns: DnsServer) -> None:
    fields = at(traps.port, header).encode() + b"\r\nContent-Length: 0\r\n\r\n"
    with dialling() as dialled:
        for status in (103, 201, 300, 301, 302, 303, 305, 307, 308, 421):
            interim = b"HTTP/1.1 103 Early Hints\r\n" + fields.replace(b"Content-Length: 0\r\n", b"") if status == 103 else b""
            final = 200 if status == 103 else status
            async with serving(answering(interim + b"HTTP/1.1 %d Elsewhere\r\n" % final + fields)) as endpoint:
                answered(await delivered(endpoint.url(), STAND_IN), final)
                assert set(dialled) == {("127.0.0.1", endpoint.port)}
            dialled.clear()
    assert dns.asked == []
