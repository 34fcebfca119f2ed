"""Hostile receivers, each with the expected result of an attempt.

Endless ones continue until the sender hangs up.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from dataclasses import dataclass
from typing import Final

from pipeline.core.exchange import Failure
from tests.contract.http_endpoint import (
    EMPTY_OK,
    OK,
    Behaviour,
    answering,
    dripping,
    read_request,
    reset,
    then_closing,
    then_resetting,
)

CHUNKED: Final = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BIG_BODY: Final = 5 << 20
_DEAF_SECONDS: Final = 2.5
_DROP_SECONDS: Final = 0.1  # A byte a second, as attackers send it, with our clock ten times as fast.


@dataclass(frozen=True, slots=True)
class Receiver:
    """``failure`` is None if there is an answer: with ``status``, and bounded. The error contains ``words``.

    ``tls``: trusted, untrusted, self-signed, expired, wrong-host, or none (plain TCP). ``scheme`` is that of the URL.
    """

    behave: Behaviour
    failure: Failure | None
    words: str = ""
    status: int | None = None
    tls: str = "none"
    scheme: str = "http"
    body_bytes: int = 2


def trickling(answer: bytes) -> Behaviour:
    """Sends byte after byte, and then nothing."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for byte in answer:
            writer.write(bytes([byte]))
            await asyncio.sleep(_DROP_SECONDS)
            await writer.drain()

    return behave


async def accepting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts the connection, reads, and answers nothing."""


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads nothing until the sender has given up, and only then sees the end of the connection."""
    await asyncio.sleep(_DEAF_SECONDS)


async def reading_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(round(_DEAF_SECONDS / _DROP_SECONDS)):
        await reader.read(1000)
        await asyncio.sleep(_DROP_SECONDS)


async def resetting_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def closing_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def handshaking_for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends the start of a TLS record of 16 KiB, and then a byte of it at a time."""
    await reader.read(1)
    writer.write(bytes([22, 3, 3, 0x40, 0]) + bytes([2, 0, 0x3F, 0xF0]))
    while True:
        writer.write(b"\x03")
        await asyncio.sleep(_DROP_SECONDS)
        await writer.drain()


async def plain_on_a_tls_port(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(EMPTY_OK)


def _gzip_bomb(zeros: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(bytes(zeros)) + packer.flush()


BOMB: Final = _gzip_bomb(10_000_000)
GARBAGE: Final = random.Random(3).randbytes(4096)

_ENDLESS: Final = {
    "headers": Receiver(dripping(OK, b"X: y\r\n" * 1000, 0), Failure.INVALID_RESPONSE),
    "one header": Receiver(dripping(OK + b"X: ", b"y" * 65536, 0), Failure.INVALID_RESPONSE, "too long"),
    "one header name": Receiver(dripping(OK, b"y" * 65536, 0), Failure.INVALID_RESPONSE, "too long"),
    "status line": Receiver(dripping(b"HTTP/1.1 200 ", b"y" * 65536, 0), Failure.INVALID_RESPONSE, "too long"),
    "blank lines": Receiver(dripping(b"", b"\r\n" * 32768, 0), Failure.INVALID_RESPONSE, "too many bytes"),
    "body": Receiver(dripping(OK + b"\r\n", b"x" * 65536, 0), None, status=200),
    "body of a length": Receiver(dripping(OK + b"Content-Length: %d\r\n\r\n" % 10**15, b"x" * 65536, 0), None, status=200),
    "body over TLS": Receiver(dripping(OK + b"\r\n", b"x" * 65536, 0), None, status=200, tls="trusted", scheme="https"),
    "tiny chunks": Receiver(dripping(CHUNKED, b"1\r\nx\r\n" * 10_000, 0), None, status=200),
    "one chunk": Receiver(dripping(CHUNKED + b"ffffffff\r\n", b"x" * 65536, 0), None, status=200),
    "chunk extension": Receiver(
        dripping(CHUNKED + b"3\r\nabc\r\n1;", b"x" * 65536, 0), Failure.INVALID_RESPONSE, "too many bytes", status=200
    ),
    "chunk extensions": Receiver(
        dripping(CHUNKED, b"1;%s\r\nx\r\n" % (b"e" * 8000), 0), Failure.INVALID_RESPONSE, "too many bytes", status=200
    ),
    "trailers": Receiver(dripping(CHUNKED + b"0\r\n", b"X: y\r\n" * 1000, 0), Failure.INVALID_RESPONSE, status=200),
    "interim answers": Receiver(dripping(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 1000, 0), Failure.INVALID_RESPONSE, "interim"),
    "interim answers with long heads": Receiver(
        dripping(b"", b"HTTP/1.1 103 Hints\r\n" + b"Link: %s\r\n" % (b"l" * 8000) * 100 + b"\r\n", 0),
        Failure.INVALID_RESPONSE,
        "too many bytes",
    ),
    "answers": Receiver(dripping(b"", EMPTY_OK * 1000, 0), None, status=200),
    "bytes after a switch of protocols": Receiver(
        dripping(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b"x" * 65536, 0),
        None,
        status=101,
    ),
    "garbage": Receiver(dripping(b"", GARBAGE, 0), Failure.INVALID_RESPONSE),
}
_GZIP: Final = {
    "gzip bomb": Receiver(
        answering(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB), None, status=200
    ),
    "endless gzip bomb": Receiver(dripping(OK + b"Content-Encoding: gzip\r\n\r\n", BOMB, 0), None, status=200),
    "gzip bomb in chunks": Receiver(
        dripping(OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n" % (len(BOMB), BOMB), 0),
        None,
        status=200,
    ),
    "deflate bomb as transfer encoding": Receiver(
        dripping(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", b"%x\r\n%s\r\n" % (len(BOMB), BOMB), 0), None, status=200
    ),
}
_SLOW: Final = {
    "silence": Receiver(accepting, Failure.TIMEOUT, "no complete response within"),
    "slow answer, byte by byte": Receiver(trickling(OK + b"Content-Length: 2\r\n\r\nok"), Failure.TIMEOUT),
    "slow status line": Receiver(dripping(b"HTTP/1.1 200 ", b"O", _DROP_SECONDS), Failure.TIMEOUT),
    "slow headers": Receiver(dripping(OK, b"X: y\r\n", _DROP_SECONDS), Failure.TIMEOUT),
    "slow header": Receiver(dripping(OK + b"X: ", b"y", _DROP_SECONDS), Failure.TIMEOUT),
    "slow interim answers": Receiver(dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n", _DROP_SECONDS), Failure.TIMEOUT),
    "slow body": Receiver(dripping(OK + b"Content-Length: 1000\r\n\r\n", b"x", _DROP_SECONDS), Failure.TIMEOUT, status=200),
    "slow chunks": Receiver(dripping(CHUNKED, b"1\r\nx\r\n", _DROP_SECONDS), Failure.TIMEOUT, status=200),
    "slow chunk size": Receiver(dripping(CHUNKED, b"0", _DROP_SECONDS), Failure.TIMEOUT, status=200),
    "slow trailers": Receiver(dripping(CHUNKED + b"0\r\n", b"X: y\r\n", _DROP_SECONDS), Failure.TIMEOUT, status=200),
}
_WRONG: Final = {
    "longer Content-Length, closed": Receiver(then_closing(OK + b"Content-Length: 9\r\n\r\nabc"), Failure.TRUNCATED, status=200),
    "longer Content-Length, open": Receiver(answering(OK + b"Content-Length: 9\r\n\r\nabc"), Failure.TIMEOUT, status=200),
    "shorter Content-Length": Receiver(answering(OK + b"Content-Length: 3\r\n\r\nabcdef"), Failure.INVALID_RESPONSE, "continues"),
    "Content-Length and chunked": Receiver(
        answering(OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), Failure.INVALID_RESPONSE
    ),
    **{
        f"Content-Length of {value!r}": Receiver(
            answering(OK + b"Content-Length: %s\r\n\r\nabc" % value.encode()), Failure.INVALID_RESPONSE
        )
        for value in ("-1", "+3", "0x3", "3, 4", "3\r\nContent-Length: 4", "9" * 30, "three", "3 3")
    },
    **{
        f"chunk size of {value!r}": Receiver(
            answering(CHUNKED + value.encode() + b"\r\nabc\r\n0\r\n\r\n"), Failure.INVALID_RESPONSE
        )
        for value in ("-3", "0x3", "f" * 20, "z", "")
    },
    "HTTP/0.9": Receiver(then_closing(b"<html>hello</html>"), Failure.INVALID_RESPONSE, "not HTTP/1.1"),
    "another protocol": Receiver(answering(b"SSH-2.0-OpenSSH_9.6\r\n"), Failure.INVALID_RESPONSE, "not HTTP/1.1"),
    **{
        f"status of {value!r}": Receiver(
            answering(b"HTTP/1.1 %s Well\r\nContent-Length: 0\r\n\r\n" % value.encode()), Failure.INVALID_RESPONSE
        )
        for value in ("000", "099", "-200", "20", "2000", "99999999999999999999", "2xx", "0xc8")
    },
    "greatest status": Receiver(answering(b"HTTP/1.1 999 Well\r\nContent-Length: 0\r\n\r\n"), None, status=999),
    "switch of protocols": Receiver(
        answering(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"), None, status=101
    ),
    **{
        f"header of {value!r}": Receiver(answering(OK + value + b"\r\nContent-Length: 0\r\n\r\n"), Failure.INVALID_RESPONSE)
        for value in (b"X: a\rSet-Cookie: b", b"X: a\x00b", b"no colon", b": no name", b"X y: z", b"X\x00: y", b"X : y")
    },
    "binary garbage": Receiver(answering(GARBAGE), Failure.INVALID_RESPONSE),
}
_BROKEN: Final = {
    "reset at once": Receiver(resetting_at_once, Failure.CONNECTION_RESET),
    "closed at once": Receiver(closing_at_once, Failure.CONNECTION_RESET),
    "closed without an answer": Receiver(then_closing(b""), Failure.CONNECTION_RESET, "without a response"),
    "reset before the answer": Receiver(then_resetting(b""), Failure.CONNECTION_RESET),
    "reset in the headers": Receiver(then_resetting(OK + b"X: "), Failure.CONNECTION_RESET),
    "reset in the body": Receiver(then_resetting(OK + b"Content-Length: 9\r\n\r\nabc"), Failure.CONNECTION_RESET, status=200),
    "never reads 5 MB": Receiver(deaf, Failure.TIMEOUT, body_bytes=BIG_BODY),
    "reads 5 MB slowly": Receiver(reading_slowly, Failure.TIMEOUT, body_bytes=BIG_BODY),
    "never reads 5 MB over TLS": Receiver(deaf, Failure.TIMEOUT, body_bytes=BIG_BODY, tls="trusted", scheme="https"),
}
_TLS: Final = {
    "self-signed certificate": Receiver(answering(EMPTY_OK), Failure.TLS, "self-signed", tls="self-signed", scheme="https"),
    "untrusted certificate": Receiver(answering(EMPTY_OK), Failure.TLS, "unknown authority", tls="untrusted", scheme="https"),
    "expired certificate": Receiver(answering(EMPTY_OK), Failure.TLS, "expired", tls="expired", scheme="https"),
    "certificate of another host": Receiver(answering(EMPTY_OK), Failure.TLS, "certificate", tls="wrong-host", scheme="https"),
    "handshake that never begins": Receiver(accepting, Failure.CONNECT_TIMEOUT, scheme="https"),
    "handshake that never ends": Receiver(handshaking_for_ever, Failure.CONNECT_TIMEOUT, scheme="https"),
    "no TLS": Receiver(plain_on_a_tls_port, Failure.TLS, "does not speak TLS", scheme="https"),
}

# Those that cost or hold resources.
COSTLY: Final = {**{f"endless {name}": receiver for name, receiver in _ENDLESS.items()}, **_GZIP, **_SLOW, **_BROKEN, **_TLS}
RECEIVERS: Final = {**COSTLY, **_WRONG}
