"""A small HTTP proxy on loopback that supports CONNECT, and can be told to misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from pipeline.core.egress_proxy import EgressProxy, egress_proxy

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def answer(status: int) -> bytes:
    return f"HTTP/1.1 {status} No\r\nContent-Length: 2\r\n\r\nno".encode()


@dataclass
class ConnectProxy:
    """The proxy and its requests. ``answers``: its answers for targets instead of a tunnel; empty: close; None: no answer."""

    port: int = 0
    routes: Mapping[str, int] = field(default_factory=dict)
    """The loopback port that stands in for a target such as ``203.0.113.9:443``; others are dialled as named."""
    answers: dict[str, bytes | None] = field(default_factory=dict)
    everybody: bytes | str | None = "a tunnel"
    wanted: bytes | None = None
    """The required value of Proxy-Authorization; without it the answer is 407."""
    asked: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, credentials: str | None = None) -> EgressProxy:
        return egress_proxy(self.url, credentials)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.create_task(self._serve(reader, writer)))
        self.writers.append(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client hung up
        finally:
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        method, target, version = head.split(b"\r\n")[0].decode().split(" ")
        assert (method, version) == ("CONNECT", "HTTP/1.1")
        self.asked.append(target)
        if self.wanted is not None and b"Proxy-Authorization: " + self.wanted not in head.split(b"\r\n"):
            writer.write(answer(407))
            await writer.drain()
            await reader.read()
            return
        told = self.answers.get(target, self.everybody)
        if told is None:
            await reader.read()
        elif isinstance(told, bytes):
            writer.write(told)
            await writer.drain()
            if told:
                await reader.read()
        else:
            await self._tunnel(target, reader, writer)

    async def _tunnel(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = target.rpartition(":")
        if target in self.routes:
            host, port = "127.0.0.1", str(self.routes[target])
        try:
            far_reader, far_writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError:
            writer.write(answer(502))
            await writer.drain()
            await reader.read()
            return
        writer.write(ESTABLISHED)
        there = asyncio.create_task(_copy(reader, far_writer))
        try:
            await _copy(far_reader, writer)
        finally:
            there.cancel()
            far_writer.transport.abort()
            await asyncio.gather(there, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@contextlib.asynccontextmanager
async def proxying(**told: object) -> AsyncIterator[ConnectProxy]:
    proxy = ConnectProxy(**told)  # type: ignore[arg-type]
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in proxy.tasks:
            task.cancel()
        for ended in await asyncio.gather(*proxy.tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        for writer in proxy.writers:
            writer.transport.abort()  # also those whose task had not started
        await server.wait_closed()
