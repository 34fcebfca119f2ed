"""The sender's TLS: it is always verified, and problems are reported."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from typing import Any

import pytest
import trustme

from pipeline.core.exchange import Failure, Request
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.client import Sender
from pipeline.sender.limits import SenderLimits
from tests.contract.http_endpoint import (
    EMPTY_OK,
    LOOPBACK,
    PATIENT,
    answered,
    answering,
    failed,
    loopback,
    on_each_loop,
    post,
    serving,
    trusting,
)

pytestmark = pytest.mark.usefixtures("each_wire")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def identity(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


@on_each_loop
async def test_https(authority: trustme.CA) -> None:
    tls = identity(authority, "hooks.example.com", "127.0.0.1")
    async with serving(answering(EMPTY_OK), tls) as endpoint:
        trust = trusting(authority)
        async with Sender(PATIENT, LOOPBACK, ssl_context=trust, resolve=loopback) as sender:
            for host in ("127.0.0.1", "hooks.example.com", "hooks.example.com.", "HOOKS.example.COM"):
                answered(await sender.post(Request(endpoint.url(host=host), {}, b"")))


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (["other.example.com"], {}, "another host name"),
        (["hooks.example.com"], {"not_after": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "expired"),
    ],
)
@on_each_loop
async def test_wrong_certificate(authority: trustme.CA, names: list[str], options: dict[str, Any], words: str) -> None:
    async with serving(answering(EMPTY_OK), identity(authority, *names, **options)) as endpoint:
        outcome = await post(endpoint.url(host="hooks.example.com"), ssl_context=trusting(authority), resolve=loopback)
        failed(outcome, Failure.TLS, words, "hooks.example.com")


@on_each_loop
async def test_certificate_of_an_unknown_authority(authority: trustme.CA) -> None:
    async with serving(answering(EMPTY_OK), identity(trustme.CA(), "127.0.0.1")) as endpoint:
        for trust in (trusting(authority), None):  # None: the authorities of this machine.
            failed(await post(endpoint.url(), ssl_context=trust), Failure.TLS, "unknown authority")


@on_each_loop
async def test_certificate_for_another_address(authority: trustme.CA) -> None:
    async with serving(answering(EMPTY_OK), identity(authority, "hooks.example.com")) as endpoint:
        failed(await post(endpoint.url(), ssl_context=trusting(authority)), Failure.TLS, "IP address")


@on_each_loop
async def test_port_that_does_not_speak_tls() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(plain) as endpoint:
        url = endpoint.url().replace("http:", "https:")
        failed(await post(url), Failure.TLS, "does not speak TLS")


@on_each_loop
async def test_connection_that_ends_in_the_handshake() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with serving(behave) as endpoint:
        outcome = await post(endpoint.url().replace("http:", "https:"))
        failed(outcome, Failure.CONNECTION_RESET, "TLS handshake")


@pytest.mark.parametrize(
    ("alert", "words"),
    [(70, "TLS 1.2 or newer"), (40, "refused the TLS handshake"), (112, "no certificate for this host"), (80, "alert")],
)
@on_each_loop
async def test_handshake_that_the_server_refuses(alert: int, words: str) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(bytes([21, 3, 3, 0, 2, 2, alert]))  # A TLS record: a fatal alert.

    async with serving(refuse) as endpoint:
        failed(await post(endpoint.url().replace("http:", "https:")), Failure.TLS, words)


def test_verification_cannot_be_switched_off() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(ValueError, match="verify"):
        Sender(SenderLimits(), AddressGuard(), ssl_context=context)
