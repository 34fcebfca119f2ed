"""The sender with slow, broken or hostile endpoints: each request soon fails with a clear message.

Tests of slow endpoints take a second or two, until a time limit ends the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.core.exchange import Failure, NoResponse, Request
from pipeline.sender.client import Sender
from pipeline.sender.limits import SenderLimits
from pipeline.sender.local_network import NetworkMonitor
from tests.contract.http_endpoint import (
    EMPTY_OK,
    LOOPBACK,
    OK,
    QUICK,
    answered,
    answering,
    dripping,
    exchanged,
    failed,
    on_each_loop,
    post,
    post_to,
    read_request,
    reset,
    serving,
    then_closing,
    then_resetting,
)
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("each_wire")

DRIPPED_ON = SenderLimits(connections=8, total_timeout=1.5, connect_timeout=1.4)
"""A busy machine may need half a second to connect to itself: the timeout must hit the slow answer, not the connecting."""


@on_each_loop
async def test_no_answer_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with serving(silent) as endpoint:
        outcome = failed(await post(endpoint.url(), limits=QUICK), Failure.TIMEOUT, "0.8 s")
        assert outcome.status is None
        assert 700 < outcome.duration_ms < 3000
        await endpoint.until_hung_up()


@pytest.mark.parametrize("drop", [b"X", b"X: y\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
@on_each_loop
async def test_slow_headers_time_out(drop: bytes) -> None:
    start = b"" if drop.startswith(b"HTTP") else OK + b"X"
    outcome = failed(await post_to(dripping(start, drop, 0.1), limits=DRIPPED_ON), Failure.TIMEOUT)
    assert outcome.duration_ms < 3000


@on_each_loop
async def test_slow_body_times_out_with_the_part_that_had_arrived() -> None:
    answer = b"HTTP/1.1 202 Accepted\r\nX-A: b\r\nContent-Length: 1000\r\n\r\n"
    async with serving(dripping(answer, b"y")) as endpoint:
        outcome = failed(await post(endpoint.url(), limits=DRIPPED_ON), Failure.TIMEOUT)
        assert outcome.status == 202
        assert outcome.headers[0] == ("X-A", "b")
        assert outcome.body
        assert set(outcome.body) == {ord("y")}
        await endpoint.until_hung_up()


@on_each_loop
async def test_server_that_does_not_read_holds_no_connection() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        async with Sender(QUICK, LOOPBACK) as sender:
            for _ in range(2):
                # Larger than the sockets' buffers, so that most of it is never sent.
                failed(await sender.post(Request(url, {}, bytes(32 << 20))), Failure.TIMEOUT)
            # aiohttp's public API releases it somewhat later; see pipeline.sender.session_transport
            await until(lambda: connections_to(listener.getsockname()) == 0)


def is_connected(one: socket.socket) -> bool:
    try:
        one.getpeername()
    except OSError:
        return False
    return True


def connections_to(address: tuple[str, int]) -> int:
    """Return how many sockets of this process are connected to an address."""
    count = 0
    for descriptor in Path("/dev/fd").iterdir():
        try:
            if not str(descriptor.readlink()).startswith("socket:"):
                continue
        except OSError:  # the descriptor used to read the directory
            continue
        with socket.fromfd(int(descriptor.name), socket.AF_INET, socket.SOCK_STREAM) as connected, contextlib.suppress(OSError):
            count += connected.getpeername() == address  # OSError: it is not connected
    return count


@on_each_loop
async def test_name_server_of_the_endpoint_that_does_not_answer() -> None:
    async def hang(host: str) -> Sequence[str]:
        await asyncio.sleep(60 if host == "hooks.example.net" else 0)
        return []

    outcome = await post("http://hooks.example.net/", limits=QUICK, resolve=hang)
    assert failed(outcome, Failure.CONNECT_TIMEOUT, "hooks.example.net", "0.4 s").duration_ms < 3000


@on_each_loop
async def test_tls_handshake_that_does_not_end() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with serving(silent) as endpoint:
        outcome = await post(endpoint.url().replace("http:", "https:"), limits=QUICK)
        failed(outcome, Failure.CONNECT_TIMEOUT)
        await endpoint.until_hung_up()


@on_each_loop
async def test_host_that_does_not_accept_the_connection() -> None:
    with socket.socket() as listener, contextlib.ExitStack() as pending:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [pending.enter_context(socket.socket()) for _ in range(8)]
        for one in waiting:  # Fill the queue of connections that are not accepted.
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        await until(lambda: any(is_connected(one) for one in waiting))
        outcome = await post(f"http://127.0.0.1:{listener.getsockname()[1]}/", limits=QUICK)
    failed(outcome, Failure.CONNECT_TIMEOUT)


@on_each_loop
async def test_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        failed(await post(f"http://127.0.0.1:{port}/"), Failure.CONNECTION_REFUSED, f"127.0.0.1:{port}")


@on_each_loop
async def test_all_addresses_of_a_name_are_tried() -> None:
    async def resolve(host: str) -> Sequence[str]:
        return ["127.0.0.2", "127.0.0.3", "127.0.0.1"]

    async with serving(answering(EMPTY_OK)) as endpoint:
        answered(await post(endpoint.url(host="hooks.example.com"), resolve=resolve))


@on_each_loop
async def test_reset_at_once() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    failed(await post_to(behave), Failure.CONNECTION_RESET)


@on_each_loop
async def test_reset_before_the_answer() -> None:
    failed(await post_to(then_resetting(b"")), Failure.CONNECTION_RESET)


@on_each_loop
async def test_closed_without_an_answer() -> None:
    failed(await post_to(then_closing(b"")), Failure.CONNECTION_RESET, "closed without a response")


@on_each_loop
async def test_reset_in_the_body() -> None:
    answer = b"HTTP/1.1 500 Oops\r\nContent-Length: 10\r\n\r\nabc"
    outcome = failed(await post_to(then_resetting(answer)), Failure.CONNECTION_RESET)
    assert (outcome.status, outcome.body) == (500, b"abc")


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"X-A: b\r\nContent-Length: 10\r\n\r\nabc",
        OK + b"X-A: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        OK + b"X-A: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\n",
    ],
)
@on_each_loop
async def test_truncated_body(answer: bytes) -> None:
    outcome = failed(await post_to(then_closing(answer)), Failure.TRUNCATED)
    assert (outcome.status, outcome.headers[0], outcome.body) == (200, ("X-A", "b"), b"abc")


@pytest.mark.parametrize(("answer", "status"), [(OK + b"X-A: b\r\nX", 200), (b"HTTP/1.1 2", None), (b"HTT", None)])
@on_each_loop
async def test_truncated_headers(answer: bytes, status: int | None) -> None:
    assert failed(await post_to(then_closing(answer)), Failure.TRUNCATED).status == status


@pytest.mark.parametrize(
    "answer",
    [
        b"hello world\r\n",  # HTTP/0.9
        b"<html>hello</html>",
        b"\x15\x03\x01\x00\x02\x02\x46",  # A TLS alert
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 2xx OK\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 20_000 + b"\r\n\r\n",
        OK + b"X: " + b"x" * 20_000 + b"\r\n\r\n",
        OK + b"X" * 20_000 + b": x\r\n\r\n",
        OK + b"".join(b"X-%d: x\r\n" % number for number in range(500)) + b"\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        OK + b"Content-Length: -1\r\n\r\nab",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\nab",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
@on_each_loop
async def test_answer_that_is_not_http(answer: bytes) -> None:
    outcome = failed(await post_to(answering(answer)), Failure.INVALID_RESPONSE)
    assert outcome.duration_ms < 3000
    assert outcome.detail.isprintable()
    assert "xxx" not in outcome.detail


@on_each_loop
async def test_body_that_stops_being_http(each_wire: str) -> None:
    start = b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    behave = dripping(start, b"zz\r\n", 0.05)
    if each_wire == "plain":  # aiohttp does not notify the reader of the body
        outcome = failed(await post_to(behave, limits=QUICK), Failure.TIMEOUT)
    else:
        outcome = failed(await post_to(behave), Failure.INVALID_RESPONSE)
    assert outcome.duration_ms < 3000
    assert (outcome.status, outcome.body) == (202, b"abc")


@pytest.mark.parametrize("header", [b"X: y\r\n" * 1000, b"x" * 8192], ids=["many", "one"])
@on_each_loop
async def test_endless_headers(header: bytes) -> None:
    outcome = failed(await post_to(dripping(OK + b"A: ", header, 0)), Failure.INVALID_RESPONSE)
    assert outcome.duration_ms < 3000


@on_each_loop
async def test_endless_interim_responses(each_wire: str) -> None:
    async with serving(dripping(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000, 0)) as endpoint:
        if each_wire == "plain":  # their number has no bound there, but their time has
            outcome = failed(await post(endpoint.url(), limits=QUICK), Failure.TIMEOUT)
        else:
            outcome = failed(await post(endpoint.url()), Failure.INVALID_RESPONSE, "interim")
        assert outcome.duration_ms < 3000
        await endpoint.until_hung_up()


@on_each_loop
async def test_endless_trailers_and_chunk_extensions() -> None:
    start = OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    failed(await post_to(dripping(start + b"0\r\n", b"X: y\r\n" * 100, 0)), Failure.INVALID_RESPONSE)
    failed(await post_to(dripping(start + b"1;", b"x" * 1000, 0.01), limits=QUICK), Failure.TIMEOUT)


@on_each_loop
async def test_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, *_: object, **__: object) -> list[object]:
        assert host == "hooks.invalid"
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    failed(await post("http://hooks.invalid/a"), Failure.DNS, "hooks.invalid", "Name or service not known")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://", "http://a b/", "http://u:secret@127.0.0.1/", "nonsense", ""])
@on_each_loop
async def test_url_that_cannot_be_a_target(url: str) -> None:
    assert "secret" not in failed(await post(url), Failure.INVALID_TARGET, "target_url").detail


@on_each_loop
async def test_details_do_not_contain_path_or_query() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    for behave in (silent, then_closing(b""), then_resetting(b""), then_closing(OK + b"X"), answering(b"nonsense")):
        async with serving(behave) as endpoint:
            url = endpoint.url("/hush?key=hush")
            outcome = await post(url, b"hush", {"Authorization": "Bearer hush"}, limits=QUICK)
            assert isinstance(outcome, NoResponse)
            assert "hush" not in outcome.detail


@on_each_loop
async def test_a_reused_connection_proves_that_the_network_works_only_once_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[int] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (EMPTY_OK, EMPTY_OK, b""):  # the third request gets none
            await read_request(reader)
            requests.append(len(reached))
            writer.write(answer)
            await writer.drain()
        writer.close()

    reached: list[str] = []
    monkeypatch.setattr(NetworkMonitor, "reached", lambda _, host: reached.append(host))
    async with serving(behave) as endpoint, Sender(SenderLimits(), LOOPBACK) as sender:
        request = Request(endpoint.url(), {}, b"")
        answered(exchanged(await sender.post(request)))
        answered(exchanged(await sender.post(request)))
        failed(exchanged(await sender.post(request)), Failure.CONNECTION_RESET)
    assert requests[1:] == [2, 3]  # connected, first answer, second answer
    assert len(reached) == 3
