"""A DNS server on loopback, which the operating system's own resolver (glibc) is made to ask.

The product resolves names with getaddrinfo in its own threads. Each of them has a resolver state, which is set to the address and
port of this server; no part of the product or of glibc is replaced.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Final

import pytest

from pipeline.sender import dialler

Rounds = Sequence[Sequence[str]]
"""A name's answers to the first query, the second, …; the last is repeated. Addresses, or one name (a CNAME)."""

_TYPES: Final = {1: "A", 5: "CNAME", 28: "AAAA"}
_SERVER_FAILURE: Final = 2
_NO_SUCH_NAME: Final = 3
_LONGEST_CHAIN: Final = 8
_NO_RELOAD: Final = 0x02000000  # RES_NORELOAD of glibc's resolv.h: changes of resolv.conf have no effect.


class DnsServer:
    """Answers A and AAAA queries over UDP, with a time to live of 0. ``asked`` holds each question: name and type."""

    def __init__(self, zone: Mapping[str, Rounds]) -> None:
        self._zone = zone
        self._rounds: Counter[tuple[str, str]] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, name="dns-server", daemon=True)
        self.port: int = self._socket.getsockname()[1]
        self.asked: list[tuple[str, str]] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(self._answer(query), sender)

    def _answer(self, query: bytes) -> bytes:
        name, end = _read_name(query, 12)
        kind = _TYPES.get(struct.unpack_from("!H", query, end)[0], "?")
        self.asked.append((name, kind))
        records, code = self._records(name, kind)
        header = query[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        return header + query[12 : end + 4] + b"".join(records)

    def _records(self, name: str, kind: str) -> tuple[list[bytes], int]:
        records: list[bytes] = []
        while name in self._zone:
            rounds = self._zone[name]
            values = rounds[min(self._rounds[name, kind], len(rounds) - 1)]
            self._rounds[name, kind] += 1
            aliases = [value for value in values if not _is_address(value)]
            if not aliases:
                return records + [_address(name, value) for value in values if (":" in value) is (kind == "AAAA")], 0
            records.append(_record(name, 5, _write_name(aliases[0])))
            if len(records) > _LONGEST_CHAIN:
                return [], _SERVER_FAILURE
            name = aliases[0]
        return records, _NO_SUCH_NAME


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _address(name: str, value: str) -> bytes:
    return _record(name, 28 if ":" in value else 1, ipaddress.ip_address(value).packed)


def _record(name: str, kind: int, data: bytes) -> bytes:
    return _write_name(name) + struct.pack("!HHIH", kind, 1, 0, len(data)) + data


def _write_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in name.encode().split(b".")) + b"\0"


def _read_name(message: bytes, at: int) -> tuple[str, int]:
    labels: list[str] = []
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode().lower())
        at += length + 1
    return ".".join(labels), at + 1


class _SocketAddress(ctypes.Structure):
    _fields_: ClassVar = [
        ("family", ctypes.c_uint16),
        ("port", ctypes.c_uint16),
        ("address", ctypes.c_uint8 * 4),
        ("zero", ctypes.c_uint8 * 8),
    ]


class _ResolverState(ctypes.Structure):
    """The start of glibc's struct __res_state."""

    _fields_: ClassVar = [
        ("seconds", ctypes.c_int),
        ("tries", ctypes.c_int),
        ("options", ctypes.c_ulong),
        ("server_count", ctypes.c_int),
        ("servers", _SocketAddress * 3),
    ]


def _ask(port: int) -> None:
    """Make the resolver of the current thread ask 127.0.0.1 at this port."""
    libc = ctypes.CDLL(None)
    libc.__res_state.restype = ctypes.POINTER(_ResolverState)
    libc.__res_init()
    state = libc.__res_state().contents
    state.seconds, state.tries, state.server_count = 2, 3, 1
    state.options |= _NO_RELOAD
    server = state.servers[0]
    server.family, server.port = socket.AF_INET, socket.htons(port)
    server.address[:] = socket.inet_aton("127.0.0.1")


@contextlib.contextmanager
def answering_names(zone: Mapping[str, Rounds], monkeypatch: pytest.MonkeyPatch) -> Iterator[DnsServer]:
    """Run a DNS server that the product's look-ups ask, on a machine with IPv4 and IPv6. Skips without glibc."""
    try:
        libc = ctypes.CDLL(None)
        libc.__nss_configure_lookup(b"hosts", b"files dns")  # In this process, without a resolver daemon in between.
        libc.__res_state  # noqa: B018
    except (AttributeError, OSError):
        pytest.skip("only glibc's resolver can be pointed at a port of our own")
    server = DnsServer(zone)
    server.start()
    with ThreadPoolExecutor(max_workers=4, initializer=_ask, initargs=(server.port,)) as threads:
        monkeypatch.setattr(dialler, "_LOOKUP_THREADS", threads)
        monkeypatch.setattr(socket, "AI_ADDRCONFIG", 0)
        yield server
        server.stop()
