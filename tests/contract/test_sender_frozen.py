"""The sender in a process that is frozen (SIGSTOP, a suspended machine, no CPU time): that is no failure of the endpoint."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from pipeline.core.exchange import Exchange, Failure, Request
from pipeline.core.local_faults import NotSent
from pipeline.sender.client import Sender
from pipeline.sender.limits import SenderLimits
from tests.contract.http_endpoint import EMPTY_OK, LOOPBACK, answered, answering, failed, on_each_loop, post, serving

pytestmark = pytest.mark.usefixtures("each_wire")

LIMITS = SenderLimits(connections=8, total_timeout=2.0, connect_timeout=1.0)
FROZEN_S = 2.7


@contextmanager
def answering_in_a_thread(answers: threading.Event) -> Iterator[tuple[int, threading.Event]]:
    """A server that is not frozen with the sender. It answers a request when it is told to; its port, and when it has read one."""
    has_read = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                received = b""
                while not received.endswith(b"\r\n\r\n{}"):
                    received += connection.recv(65536)
                has_read.set()
                answers.wait(60)
                connection.sendall(EMPTY_OK)
                connection.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], has_read
        thread.join(60)


async def posted_while_frozen(port: int, has_read: threading.Event, answers: threading.Event | None = None) -> Exchange | NotSent:
    """POST, and freeze when the server has read the request. ``answers``: set it first, so that the server answers meanwhile."""
    async with Sender(LIMITS, LOOPBACK) as sender:
        posting = asyncio.create_task(sender.post(Request(f"http://127.0.0.1:{port}/hook", {}, b"{}")))
        await asyncio.to_thread(has_read.wait, 60)
        if answers is not None:
            answers.set()
        time.sleep(FROZEN_S)  # noqa: ASYNC251 - it is frozen
        return await posting


@on_each_loop
async def test_an_answer_that_arrived_while_this_process_was_frozen_counts() -> None:
    frozen = threading.Event()
    with answering_in_a_thread(frozen) as (port, has_read):
        answered(await posted_while_frozen(port, has_read, frozen))


@on_each_loop
async def test_it_connects_again_if_it_was_frozen_while_connecting() -> None:
    asked: list[str] = []

    async def freezing(host: str) -> Sequence[str]:
        asked.append(host)
        if len(asked) == 1:
            time.sleep(1.8)  # noqa: ASYNC251 - it is frozen, longer than it may connect
        return ["127.0.0.1"]

    async with serving(answering(EMPTY_OK)) as endpoint:
        answered(await post(endpoint.url(host="endpoint.example"), limits=LIMITS, resolve=freezing))


@on_each_loop
async def test_an_endpoint_that_stays_silent_fails_soon_after() -> None:
    never = threading.Event()
    with answering_in_a_thread(never) as (port, has_read):
        failed(await posted_while_frozen(port, has_read), Failure.TIMEOUT, "2 s")
        never.set()
