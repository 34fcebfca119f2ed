"""The sender with names and addresses that must not be dialled: it makes no connection."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence

import pytest

from pipeline.core.exchange import Failure, Request
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.client import Sender
from pipeline.sender.target_url import check_target_url
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
)

pytestmark = pytest.mark.usefixtures("each_wire")


@contextlib.contextmanager
def untouched_listener() -> Iterator[int]:
    """Provide a listening socket; fails the test if anything connected to it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.05)
        yield listener.getsockname()[1]
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "\uff11\uff12\uff17.0.0.1",
    ],
)
@on_each_loop
async def test_loopback_is_not_dialled(host: str) -> None:
    with untouched_listener() as port:
        outcome = await post(f"http://{host}:{port}/", guard=AddressGuard())
        failed(outcome, Failure.BLOCKED_ADDRESS, "webhooks are not sent there")


@on_each_loop
async def test_private_address_of_a_name_is_reported() -> None:
    async def resolve(host: str) -> Sequence[str]:
        return ["10.0.0.5"]

    outcome = await post("http://hooks.example.com/", guard=AddressGuard(), resolve=resolve)
    assert failed(outcome, Failure.BLOCKED_ADDRESS).detail == (
        "hooks.example.com resolves to 10.0.0.5, which is a private address (10.0.0.0/8); webhooks are not sent there."
    )


@on_each_loop
async def test_rebinding_name_is_not_dialled() -> None:
    answers = iter([["93.184.216.34"], ["127.0.0.1"], ["::ffff:127.0.0.1"]])

    async def rebind(host: str) -> Sequence[str]:
        return next(answers)

    with untouched_listener() as port:
        url = f"http://rebind.example.com:{port}/"
        await check_target_url(url, AddressGuard(), resolve=rebind)
        async with Sender(PATIENT, AddressGuard(), resolve=rebind) as sender:
            for _ in range(2):
                outcome = await sender.post(Request(url, {}, b""))
                failed(outcome, Failure.BLOCKED_ADDRESS, "rebind.example.com", "127.0.0.1")


@on_each_loop
async def test_guard_checks_again_when_dialling(monkeypatch: pytest.MonkeyPatch) -> None:
    class FickleGuard(AddressGuard):
        """Accepts an address once: stands for any gap between resolving and dialling."""

        passed = False

        def refusal(self, address: str) -> str | None:
            if not self.passed:
                self.passed = True
                return None
            return super().refusal(address)

    with untouched_listener() as port:
        outcome = await post(f"http://hooks.example.com:{port}/", guard=FickleGuard(), resolve=loopback)
        failed(outcome, Failure.BLOCKED_ADDRESS, "127.0.0.1")


@on_each_loop
async def test_resolver_that_answers_with_a_name_is_not_trusted() -> None:
    async def resolve(host: str) -> Sequence[str]:
        return ["localhost"]

    with untouched_listener() as port:
        outcome = await post(f"http://hooks.example.com:{port}/", guard=LOOPBACK, resolve=resolve)
        failed(outcome, Failure.BLOCKED_ADDRESS, "not an IP address")


@on_each_loop
async def test_forbidden_addresses_of_a_name_are_left_out() -> None:
    async def resolve(host: str) -> Sequence[str]:
        return ["10.0.0.5", "::1", "169.254.169.254", "127.0.0.1", "192.168.0.1"]

    async with serving(answering(EMPTY_OK)) as endpoint:
        started = time.perf_counter()
        answered(await post(endpoint.url(host="hooks.example.com"), resolve=resolve))
        assert time.perf_counter() - started < 2
