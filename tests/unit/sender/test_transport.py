"""Which transport sends POSTs: the fast one only with a release of aiohttp that it was tested with."""

from __future__ import annotations

from importlib.metadata import version
from typing import cast

import pytest

from pipeline.core.exchange import Request
from pipeline.sender import transport
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.client import Sender
from pipeline.sender.compat import CompatTransport
from pipeline.sender.limits import SenderLimits
from pipeline.sender.session_transport import SessionTransport


async def wire_of(*, speedups: bool) -> object:
    async with Sender(SenderLimits(), AddressGuard(), speedups=speedups) as sender:
        return sender._transport


def test_the_locked_release_was_tested() -> None:
    assert version("aiohttp") in transport.CHECKED_WITH


async def test_the_fast_transport_is_used_with_a_tested_release(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(await wire_of(speedups=True), CompatTransport)
    assert "without speed-ups" not in capsys.readouterr().err


async def test_when_switched_off_the_public_api_sends_and_the_log_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(await wire_of(speedups=False), SessionTransport)
    said = capsys.readouterr().err
    assert said.count("without speed-ups") == 1
    assert "sender_speedups is off" in said


async def test_with_an_unknown_release_the_public_api_sends_and_the_log_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "version", lambda _: "5.0.0")
    assert isinstance(await wire_of(speedups=True), SessionTransport)
    assert "and 5.0.0 is installed" in capsys.readouterr().err


@pytest.mark.parametrize("headers", [{"X-A": "a\nb"}, {"X-A\r": "b"}, {"X-A": cast("str", 5)}])
async def test_an_invalid_header_is_found_before_connecting(headers: dict[str, str]) -> None:
    asked: list[str] = []

    async def resolve(host: str) -> list[str]:
        asked.append(host)
        return []

    async with Sender(SenderLimits(), AddressGuard(), speedups=False, resolve=resolve) as sender:
        await sender.post(Request("http://hooks.example.com/", headers, b""))
    assert "hooks.example.com" not in asked
