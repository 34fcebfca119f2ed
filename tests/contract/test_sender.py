"""The sender with real sockets on loopback: what it sends, and how it handles every kind of answer."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from types import MappingProxyType
from typing import Any

import pytest

from pipeline.core.exchange import MAX_HEADER_BYTES, MAX_HEADERS, Failure, Request, Response
from pipeline.core.handshake import handshake_request, judge_handshake
from pipeline.ops import metrics
from pipeline.sender.client import USER_AGENT, Sender
from pipeline.sender.limits import SenderLimits
from tests.contract.http_endpoint import (
    EMPTY_OK,
    LOOPBACK,
    OK,
    PATIENT,
    answered,
    answering,
    dripping,
    failed,
    on_each_loop,
    post,
    post_to,
    read_request,
    serving,
    then_closing,
)

pytestmark = pytest.mark.usefixtures("each_wire")

# Requests


@on_each_loop
async def test_exactly_the_given_headers_and_bytes_are_sent() -> None:
    received: list[tuple[list[str], bytes]] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await read_request(reader))
        writer.write(EMPTY_OK)

    body = bytes(range(256)) * 3 + b'{"\xc3\xa9": 1.0}'
    headers = MappingProxyType({"Content-Type": "application/json", "webhook-id": "msg_1", "X-Note": "caf\u00e9"})
    async with serving(behave) as endpoint:
        answered(await post(endpoint.url("/a/%20b?x=1&y=%C3%BC"), body, headers))
        head, sent = received[0]
        assert sent == body
        assert head[0] == "POST /a/%20b?x=1&y=%C3%BC HTTP/1.1"
        assert sorted(head[1:]) == sorted(
            [
                f"Host: 127.0.0.1:{endpoint.port}",
                f"User-Agent: {USER_AGENT}",
                "Content-Type: application/json",
                "webhook-id: msg_1",
                "X-Note: caf\u00c3\u00a9",  # UTF-8, decoded as latin-1.
                f"Content-Length: {len(body)}",
            ]
        )


@on_each_loop
async def test_nothing_is_added_to_a_bare_request() -> None:
    received: list[tuple[list[str], bytes]] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await read_request(reader))
        writer.write(EMPTY_OK)

    async with serving(behave) as endpoint:
        answered(await post(endpoint.url(), b"", {"user-agent": "mine"}))
        head, sent = received[0]
        assert sent == b""
        names = [line.split(": ")[0].lower() for line in head[1:]]
        assert sorted(names) == ["content-length", "host", "user-agent"]
        assert "user-agent: mine" in [line.lower() for line in head]


@on_each_loop
async def test_a_handshake_uses_options() -> None:
    received: list[tuple[list[str], bytes]] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            received.append(await read_request(reader))
            writer.write(OK + b"WebHook-Allowed-Origin: *\r\nContent-Length: 0\r\n\r\n")

    async with serving(behave) as endpoint, Sender(PATIENT, LOOPBACK) as sender:
        response = answered(await sender.post(handshake_request(endpoint.url("/hook?a=b"), "hooks.example.com")))
        answered(await sender.post(Request(endpoint.url("/hook?a=b"), {}, b"{}")))
    assert judge_handshake(response, "hooks.example.com").problem == ""
    (head, body), (after, _) = received
    assert (head[0], body) == ("OPTIONS /hook?a=b HTTP/1.1", b"")
    assert "webhook-request-origin: hooks.example.com" in head
    assert after[0] == "POST /hook?a=b HTTP/1.1"
    assert endpoint.connections == 1


@on_each_loop
async def test_large_body_is_sent_whole() -> None:
    received: list[bytes] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append((await read_request(reader))[1])
        writer.write(EMPTY_OK)

    body = bytes(range(256)) * 3000
    async with serving(behave) as endpoint:
        answered(await post(endpoint.url(), body))
    assert received == [body]


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer a\r\nX-Evil: secret"},
        {"Authorization": "Bearer a\nX-Evil: secret"},
        {"Authorization": "Bearer a\rX-Evil: secret"},
        {"Authorization": "Bearer a\x00secret"},
        {"X-A: b\r\nX-Evil": "secret"},
        {"User-Agent": "mine\r\n\r\nsecret"},
    ],
)
@on_each_loop
async def test_header_that_would_split_the_request_is_not_sent(headers: dict[str, str]) -> None:
    async with serving(answering(EMPTY_OK)) as endpoint:
        outcome = await post(endpoint.url(), headers=headers)
        assert "secret" not in failed(outcome, Failure.INVALID_TARGET, "header").detail
        assert endpoint.connections == 0


@on_each_loop
async def test_callers_cannot_set_the_framing_of_the_body() -> None:
    received: list[tuple[list[str], bytes]] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await read_request(reader))
        writer.write(EMPTY_OK)

    async with serving(behave) as endpoint:
        answered(await post(endpoint.url(), b"body", {"content-length": "0", "transfer-encoding": "chunked"}))
    head, sent = received[0]
    assert sent == b"body"
    assert [line for line in head if line.lower().startswith(("content-length", "transfer"))] == ["Content-Length: 4"]


@on_each_loop
async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(EMPTY_OK)) as endpoint:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
        answered(await post(endpoint.url()))


# Answers


@pytest.mark.parametrize(
    "status", [200, 201, 202, 203, 204, 206, 301, 302, 303, 304, 307, 308, 400, 404, 410, 429, 500, 503, 599]
)
@on_each_loop
async def test_every_status_is_a_response(status: int) -> None:
    body = b"" if status in (204, 304) else b"answer"
    length = b"" if status in (204, 304) else b"Content-Length: 6\r\n"
    answer = b"HTTP/1.1 %d Whatever\r\nLocation: /elsewhere\r\nRetry-After: 7\r\n%s\r\n%s" % (status, length, body)
    async with serving(answering(answer)) as endpoint:
        response = answered(await post(endpoint.url()), status)
        assert endpoint.connections == 1
    assert response.body == body
    assert not response.body_truncated
    assert ("Retry-After", "7") in response.headers


@on_each_loop
async def test_redirects_are_not_followed_and_cookies_are_not_kept() -> None:
    heads: list[str] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await read_request(reader)
            heads.append("\n".join(head))
            writer.write(b"HTTP/1.1 307 Moved\r\nLocation: /b\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")

    async with serving(behave) as endpoint, Sender(PATIENT, LOOPBACK) as sender:
        for _ in range(3):
            response = answered(await sender.post(Request(endpoint.url("/a"), {}, b"")), 307)
            assert ("Set-Cookie", "a=b; Path=/") in response.headers
    assert len(heads) == 3
    assert all(head.startswith("POST /a ") and "cookie" not in head.lower() for head in heads)


@on_each_loop
async def test_interim_responses_are_skipped() -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + OK + b"Content-Length: 2\r\n\r\nhi"
    assert answered(await post_to(answering(answer))).body == b"hi"


@pytest.mark.parametrize("head", [b"", b"Content-Length: 5\r\n", b"Connection: close\r\n"])
@pytest.mark.parametrize("status", [204, 304])
@on_each_loop
async def test_a_body_where_there_must_be_none_is_dropped(each_wire: str, status: int, head: bytes) -> None:
    """Servers such as Python's http.server send what they are told to. The receiver has answered, and must not get it again."""
    answer = b"HTTP/1.1 %d Word\r\n%s\r\nhello" % (status, head)
    async with serving(answering(answer)) as endpoint, Sender(PATIENT, LOOPBACK) as sender:
        for _ in range(2):
            outcome = await sender.post(Request(endpoint.url(), {}, b"{}"))
            if each_wire == "fast":
                assert answered(outcome, status).body == b""
            else:  # aiohttp gives up on the whole answer if it arrives at once
                failed(outcome, Failure.INVALID_RESPONSE)
        assert endpoint.connections == 2


@on_each_loop
async def test_gzip_bomb_stays_compressed() -> None:
    bomb = gzip.compress(bytes(10_000_000))
    assert len(bomb) < PATIENT.response_bytes
    answer = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb
    response = answered(await post_to(answering(answer)))
    assert response.body == bomb
    assert ("Content-Encoding", "gzip") in response.headers


@pytest.mark.parametrize(("size", "truncated"), [(0, False), (99, False), (100, False), (101, True), (5000, True)])
@pytest.mark.parametrize("framing", ["length", "chunked", "until-close"])
@on_each_loop
async def test_body_is_kept_up_to_the_limit(size: int, truncated: bool, framing: str) -> None:
    body = bytes(index % 251 for index in range(size))
    if framing == "length":
        behave = answering(OK + b"Content-Length: %d\r\n\r\n" % size + body)
    elif framing == "chunked":
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        behave = answering(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    else:
        behave = then_closing(OK + b"\r\n" + body)
    limits = SenderLimits(total_timeout=60, connect_timeout=50, response_bytes=100)
    response = answered(await post_to(behave, limits=limits))
    assert response.body == body[:100]
    assert response.body_truncated is truncated


@on_each_loop
async def test_endless_body_is_cut_off() -> None:
    async with serving(dripping(OK + b"\r\n", b"x" * 65536, 0)) as endpoint:
        tracemalloc.start()
        try:
            response = answered(await post(endpoint.url()))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert response.body == b"x" * PATIENT.response_bytes
        assert response.body_truncated
        assert peak < 4_000_000  # Includes the server's own buffers.
        await endpoint.until_hung_up()


@on_each_loop
async def test_headers_are_kept_within_bounds() -> None:
    many = b"".join(b"X-%d: v\r\n" % number for number in range(100))
    response = answered(await post_to(answering(OK + many + b"Content-Length: 0\r\n\r\n")))
    assert response.headers == tuple((f"X-{number}", "v") for number in range(MAX_HEADERS))

    long = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 3000) for number in range(5))
    response = answered(await post_to(answering(OK + long + b"Content-Length: 0\r\n\r\n")))
    assert [name for name, _ in response.headers] == ["X-0", "X-1"]
    assert sum(len(name) + len(value) for name, value in response.headers) <= MAX_HEADER_BYTES


@on_each_loop
async def test_headers_that_are_not_utf8_can_be_encoded() -> None:
    response = answered(await post_to(answering(OK + b"X-Name: caf\xe9 \xff\r\nContent-Length: 0\r\n\r\n")))
    assert response.headers[0] == ("X-Name", "caf\ufffd \ufffd")


# Connections


@pytest.mark.parametrize(
    "answer",
    [
        EMPTY_OK,
        OK + b"Content-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
    ],
)
@on_each_loop
async def test_connections_are_reused(answer: bytes) -> None:
    async with serving(answering(answer)) as endpoint, Sender(PATIENT, LOOPBACK) as sender:
        for _ in range(5):
            assert isinstance(await sender.post(Request(endpoint.url(), {}, b"{}")), Response)
        assert endpoint.connections == 1


@on_each_loop
async def test_connection_closed_by_the_server_is_not_reused() -> None:
    closing = OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(closing)) as endpoint, Sender(PATIENT, LOOPBACK) as sender:
        for _ in range(3):
            answered(await sender.post(Request(endpoint.url(), {}, b"{}")))
        assert endpoint.connections == 3


@on_each_loop
async def test_unrequested_answer_is_not_taken_for_the_next_one(each_wire: str) -> None:
    is_over = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        await is_over.wait()
        writer.write(EMPTY_OK)

    async with serving(behave) as endpoint, Sender(PATIENT, LOOPBACK) as sender:
        answered(await sender.post(Request(endpoint.url(), {}, b"{}")), 503)
        is_over.set()
        if each_wire == "fast":
            await endpoint.until_hung_up()
        else:  # aiohttp keeps the connection, so the next exchange is lost with it
            await asyncio.sleep(0.1)  # until the answer has arrived; aiohttp does not notify anyone
            outcome = await sender.post(Request(endpoint.url(), {}, b"{}"))
            failed(outcome, Failure.INVALID_RESPONSE, "before the request")
        is_over.clear()
        answered(await sender.post(Request(endpoint.url(), {}, b"{}")), 503)
        assert endpoint.connections == 2


@on_each_loop
async def test_answer_before_the_body_was_read_counts_and_closes_the_connection() -> None:
    answer, is_over = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig", asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await is_over.wait()  # Reads nothing more until after the exchange.

    async with serving(behave) as endpoint, Sender(PATIENT, LOOPBACK) as sender:
        for _ in range(2):
            response = answered(await sender.post(Request(endpoint.url(), {}, bytes(32 << 20))), 413)
            assert response.body == b"big"
        assert endpoint.connections == 2
        is_over.set()
        await endpoint.until_hung_up()


@on_each_loop
async def test_connections_are_bounded_and_waiting_does_not_count() -> None:
    """It takes three seconds: it waits for a slot for longer than a request may take."""
    busy = peak = 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal busy, peak
        while True:
            await read_request(reader)
            busy += 1
            peak = max(peak, busy)
            await asyncio.sleep(0.6)  # a connection's five requests take longer than the timeout of one
            busy -= 1
            writer.write(EMPTY_OK)

    limits = SenderLimits(connections=2, total_timeout=2.4, connect_timeout=2.0)
    async with serving(behave) as endpoint, Sender(limits, LOOPBACK) as sender:
        outcomes = await asyncio.gather(*(sender.post(Request(endpoint.url(), {}, b"")) for _ in range(10)))
        assert all(answered(outcome).duration_ms < 2400 for outcome in outcomes)
        assert endpoint.connections == 2
    assert peak == 2


@on_each_loop
async def test_cancelled_post_frees_connection_and_slot() -> None:
    is_asked = asyncio.Event()

    async def silent_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        is_asked.set()
        if "/silent" not in head[0]:
            writer.write(EMPTY_OK)

    limits = SenderLimits(connections=1, total_timeout=60, connect_timeout=50)
    async with serving(silent_once) as endpoint, Sender(limits, LOOPBACK) as sender:
        waiting = asyncio.create_task(sender.post(Request(endpoint.url("/silent"), {}, b"")))
        await is_asked.wait()
        assert in_flight() == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert in_flight() == 0
        await endpoint.until_hung_up()
        answered(await sender.post(Request(endpoint.url(), {}, b"")))
        assert in_flight() == 0


def in_flight() -> float:
    """Return the metric."""
    [metric] = metrics.IN_FLIGHT.collect()
    return metric.samples[0].value


@pytest.mark.parametrize(
    "limits", [{"connections": 0}, {"response_bytes": -1}, {"connect_timeout": 15.0}, {"connect_timeout": 0.0}]
)
def test_invalid_limits_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SenderLimits(**limits)


@on_each_loop
async def test_sender_must_be_started() -> None:
    with pytest.raises(RuntimeError, match="start"):
        await Sender(SenderLimits(), LOOPBACK).post(Request("http://127.0.0.1/", {}, b""))
