"""HTTP endpoints on loopback with every behaviour, for the contract tests of the sender."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any

import pytest
import trustme
import uvloop

from pipeline.core.exchange import MAX_DETAIL, Exchange, Failure, NoResponse, Request, Response
from pipeline.core.local_faults import LocalFault, NotSent
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.client import Sender
from pipeline.sender.limits import SenderLimits

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Scenario = Callable[..., Coroutine[Any, Any, None]]

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
LOOPBACK = AddressGuard([ip_network("127.0.0.0/8")])
QUICK = SenderLimits(connections=8, total_timeout=0.8, connect_timeout=0.4)
PATIENT = SenderLimits(connections=8, total_timeout=60.0, connect_timeout=50.0)
OK = b"HTTP/1.1 200 OK\r\n"
EMPTY_OK = OK + b"Content-Length: 0\r\n\r\n"


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return a client context that trusts this authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def on_each_loop(scenario: Scenario) -> Callable[..., None]:
    """Run an async test on the plain asyncio loop and on uvloop."""

    def run(loop: str, **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(asyncio.wait_for(scenario(**arguments), 120))

    functools.update_wrapper(run, scenario)
    parameters = [inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += inspect.signature(scenario).parameters.values()
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    parametrized: Callable[..., None] = pytest.mark.parametrize("loop", LOOPS)(run)
    return parametrized


class Endpoint:
    """A TCP server on loopback that does what a test says, and remembers what it saw."""

    def __init__(self, behave: Behaviour) -> None:
        self._behave = behave
        self._conversations: list[asyncio.Task[None]] = []
        self._hang_ups = asyncio.Semaphore(0)
        self.connections = 0
        self.port = 0
        self.scheme = "http"

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._conversations.append(asyncio.create_task(self._converse(reader, writer)))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._behave(reader, writer)
            while await reader.read(65536):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # The sender hung up in the middle, as in many of these tests.
        finally:
            self._hang_ups.release()
            writer.transport.abort()

    async def until_hung_up(self) -> None:
        """Wait until the sender has closed a connection; fails if it does not."""
        async with asyncio.timeout(60):
            await self._hang_ups.acquire()

    async def finish(self) -> None:
        for conversation in self._conversations:
            conversation.cancel()
        for outcome in await asyncio.gather(*self._conversations, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


@contextlib.asynccontextmanager
async def serving(behave: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(behave)
    server = await asyncio.start_server(endpoint.accept, "127.0.0.1", 0, ssl=tls)
    endpoint.port = server.sockets[0].getsockname()[1]
    endpoint.scheme = "https" if tls else "http"
    try:
        yield endpoint
    finally:
        server.close()
        await endpoint.finish()
        await server.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> tuple[list[str], bytes]:
    """Return the lines of the head, and the body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    length = next(int(line.split(": ")[1]) for line in head if line.startswith("Content-Length: "))
    return head, await reader.readexactly(length)


def answering(*answers: bytes) -> Behaviour:
    """Answers each request; repeats the last answer."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served = 0
        while True:
            await read_request(reader)
            writer.write(answers[min(served, len(answers) - 1)])
            await writer.drain()
            served += 1

    return behave


def then_closing(answer: bytes) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()
        writer.close()

    return behave


def then_resetting(answer: bytes) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()
        await asyncio.sleep(0.05)  # data not yet read is lost with a RST
        reset(writer)

    return behave


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST instead of a FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def dripping(start: bytes, drop: bytes, seconds: float = 0.02) -> Behaviour:
    """Sends one piece after another, forever."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(start)
        while True:
            await asyncio.sleep(seconds)
            await writer.drain()  # Fails once the connection is closed; a write to a closed one is another error.
            writer.write(drop)
            await writer.drain()

    return behave


async def post(
    url: str,
    body: bytes = b"{}",
    headers: Mapping[str, str] = MappingProxyType({}),
    *,
    limits: SenderLimits = PATIENT,
    **options: Any,
) -> Exchange | NotSent:
    async with Sender(limits, options.pop("guard", LOOPBACK), **options) as sender:
        return await sender.post(Request(url, headers, body))


async def post_to(behave: Behaviour, *, limits: SenderLimits = PATIENT) -> Exchange | NotSent:
    async with serving(behave) as endpoint:
        return await post(endpoint.url(), limits=limits)


def failed(outcome: Exchange | NotSent, failure: Failure, *words: str) -> NoResponse:
    assert isinstance(outcome, NoResponse), outcome
    assert outcome.failure is failure, outcome
    assert len(outcome.detail) <= MAX_DETAIL
    assert outcome.detail.endswith(".")
    for word in words:
        assert word in outcome.detail
    return outcome


def answered(outcome: Exchange | NotSent, status: int = 200) -> Response:
    assert isinstance(outcome, Response), outcome
    assert outcome.status == status
    assert 0 < outcome.first_byte_ms <= outcome.duration_ms
    return outcome


def exchanged(outcome: Exchange | NotSent) -> Exchange:
    assert not isinstance(outcome, NotSent), outcome
    return outcome


def not_sent(outcome: Exchange | NotSent, fault: LocalFault) -> NotSent:
    assert isinstance(outcome, NotSent), outcome
    assert outcome.fault is fault, outcome
    assert outcome.detail.endswith(".")
    return outcome


async def loopback(host: str) -> Sequence[str]:
    return ["127.0.0.1"]
