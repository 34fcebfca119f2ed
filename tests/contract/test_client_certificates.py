"""Mutual TLS with the sender that delivers: certificates are shown, refused, replaced, and never mixed up between endpoints."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
from cryptography import x509

from pipeline.core.client_certificate import ClientIdentity
from pipeline.core.exchange import Exchange, Failure, NoResponse, Request, Response
from pipeline.core.local_faults import NotSent
from pipeline.sender import client_identities, transport
from pipeline.sender.client import Sender
from tests.contract.http_endpoint import EMPTY_OK, LOOPBACK, PATIENT, on_each_loop, read_request, trusting
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("each_wire")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def identity(authority: trustme.CA, name: str, **options: Any) -> ClientIdentity:
    issued = authority.issue_cert(name, **options)
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    return ClientIdentity(chain.decode(), issued.private_key_pem.bytes().decode())


@asynccontextmanager
async def receiver(authority: trustme.CA, seen: list[str], *, asks: bool = True) -> AsyncIterator[str]:
    """A server that requires a certificate of the authority, and records whose it was; "-" for none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_OPTIONAL
    tasks: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            while True:
                await read_request(reader)
                seen.append(_name(shown) if shown else "-")
                writer.write(EMPTY_OK)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(converse(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _name(der: bytes) -> str:
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return str(names.value.get_values_for_type(x509.DNSName)[0])


def request(url: str, shown: ClientIdentity | None) -> Request:
    return Request(url, {}, b"{}", shown)


def status(exchange: Exchange | NotSent) -> int | None:
    assert isinstance(exchange, Response), exchange
    return exchange.status


def refused(exchange: Exchange | NotSent, *words: str) -> None:
    assert isinstance(exchange, NoResponse), exchange
    # In TLS 1.3 the client may send before the server has checked its certificate: a reset may arrive before the alert.
    assert exchange.failure in {Failure.TLS, Failure.CONNECTION_RESET}, exchange
    if exchange.failure is Failure.TLS:
        assert any(word in exchange.detail for word in words), exchange.detail


@on_each_loop
async def test_each_endpoint_gets_its_own_certificate(authority: trustme.CA) -> None:
    seen: list[str] = []
    first, second = identity(authority, "first.example.com"), identity(authority, "second.example.com")
    async with (
        receiver(authority, seen, asks=False) as url,
        Sender(PATIENT, LOOPBACK, ssl_context=trusting(authority)) as sender,
    ):
        for shown in (first, second, None, first):
            assert status(await sender.post(request(url, shown))) == 200
    assert seen == ["first.example.com", "second.example.com", "-", "first.example.com"]


@on_each_loop
async def test_a_receiver_that_requires_a_certificate_gets_it_or_refuses(authority: trustme.CA) -> None:
    seen: list[str] = []
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    async with receiver(authority, seen) as url, Sender(PATIENT, LOOPBACK, ssl_context=trusting(authority)) as sender:
        assert status(await sender.post(request(url, identity(authority, "oms.example.com")))) == 200
        refused(await sender.post(request(url, None)), "requires a client certificate")
        expired = identity(authority, "old.example.com", not_after=past)
        refused(await sender.post(request(url, expired)), "has expired")
        other = identity(trustme.CA(), "other.example.com")
        refused(await sender.post(request(url, other)), "does not trust the authority")
        # A replaced certificate is not shown again, though it has an open connection.
        assert status(await sender.post(request(url, identity(authority, "new.example.com")))) == 200
    assert seen == ["oms.example.com", "new.example.com"]


@on_each_loop
async def test_the_server_is_still_verified(authority: trustme.CA) -> None:
    seen: list[str] = []
    shown = identity(authority, "oms.example.com")
    async with receiver(authority, seen) as url, Sender(PATIENT, LOOPBACK, ssl_context=trusting(trustme.CA())) as sender:
        exchange = await sender.post(request(url, shown))
        assert isinstance(exchange, NoResponse)
        assert exchange.failure is Failure.TLS
        assert "certificate" in exchange.detail
    assert not seen


@on_each_loop
async def test_a_key_that_does_not_match_is_reported_and_sends_nothing(authority: trustme.CA) -> None:
    seen: list[str] = []
    first, second = identity(authority, "first.example.com"), identity(authority, "second.example.com")
    async with receiver(authority, seen) as url, Sender(PATIENT, LOOPBACK, ssl_context=trusting(authority)) as sender:
        exchange = await sender.post(request(url, ClientIdentity(first.certificate, second.private_key)))
    assert isinstance(exchange, NoResponse)
    assert (exchange.failure, exchange.detail) == (
        Failure.TLS,
        "The endpoint's client certificate cannot be used; set it again.",
    )


async def test_contexts_of_many_certificates_are_evicted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes most of a megabyte. The routes to URLs, which hold them, used to keep 8,192.

    It takes a second or two: contexts are counted among all objects.
    """
    monkeypatch.setattr(client_identities, "_MOST", 2)
    monkeypatch.setattr(transport, "_IDLE_SECONDS", 0.2)  # an idle connection holds its context
    shown = [identity(authority, f"{number}.example.com") for number in range(8)]
    seen: list[str] = []
    async with (
        receiver(authority, seen, asks=False) as url,
        Sender(PATIENT, LOOPBACK, ssl_context=trusting(authority)) as sender,
    ):
        before = contexts()
        for one in shown:
            assert status(await sender.post(request(url, one))) == 200
        await until(lambda: contexts() <= before + 2)
        assert status(await sender.post(request(url, shown[0]))) == 200
    assert len(seen) == 9


def contexts() -> int:
    gc.collect()
    return sum(isinstance(one, ssl.SSLContext) for one in gc.get_objects())
