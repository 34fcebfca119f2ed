"""How kafka-python's clients read from and write to a socket."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import kafka.net.manager
import pytest
from kafka.net.selector import NetworkSelector

from pipeline.broker.kafka.compat import FewWaitsSelector, Speedups

MIB = 1024 * 1024


class Protocol:
    """What kafka-python has as the user of a transport."""

    _sensors = None

    def __init__(self) -> None:
        self.received = b""
        self.lost: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)


class Connection:
    """A transport, its loop, and the socket at the other end."""

    def __init__(self) -> None:
        Speedups()
        here, self.there = socket.socketpair()
        here.setblocking(False)
        self.there.setblocking(False)
        self.loop = NetworkSelector(selector=FewWaitsSelector)
        self.transport: Any = kafka.net.manager.KafkaTCPTransport(self.loop, here)
        self.protocol = Protocol()
        self.transport.set_protocol(self.protocol)
        self.transport.resume_reading()

    def turn(self, times: int = 20) -> None:
        for _ in range(times):
            self.loop.poll(timeout_ms=1)

    def read(self) -> bytes:
        try:
            return self.there.recv(4 * MIB)
        except BlockingIOError:
            return b""


@pytest.fixture
def connection() -> Iterator[Connection]:
    connection = Connection()
    yield connection
    connection.transport.abort()
    connection.there.close()
    connection.loop.close()


def test_received_data_is_passed_on(connection: Connection) -> None:
    connection.turn()
    connection.there.send(b"one")
    connection.turn()
    assert connection.protocol.received == b"one"
    connection.there.send(b"two")
    connection.turn()
    assert connection.protocol.received == b"onetwo"


def test_large_answers_arrive_whole(connection: Connection) -> None:
    answer = bytes(range(256)) * 4096
    left = memoryview(answer)
    for _ in range(1000):
        if not left:
            break
        with contextlib.suppress(BlockingIOError):
            left = left[connection.there.send(left) :]
        connection.turn(3)
    connection.turn()
    assert connection.protocol.received == answer


def test_an_answer_that_arrives_with_the_end_of_the_connection_is_passed_on(connection: Connection) -> None:
    # kafka-python discards it, although it may say why the broker ends the connection.
    connection.there.send(b"unsupported mechanism")
    connection.there.shutdown(socket.SHUT_WR)
    connection.turn()
    assert connection.protocol.received == b"unsupported mechanism"
    assert [str(error) for error in connection.protocol.lost] == ["KafkaConnectionError: The broker closed the connection."]


def test_data_that_the_socket_does_not_accept_at_once_is_sent_later(connection: Connection) -> None:
    request = bytes(range(256)) * 4096 * 4
    connection.transport.write(request)
    received = b""
    for _ in range(1000):
        connection.turn(3)
        received += connection.read()
        if len(received) == len(request):
            break
    assert received == request
    connection.transport.write(b"the next one")
    connection.turn()
    assert connection.read() == b"the next one"


def test_a_failed_write_ends_the_connection(connection: Connection) -> None:
    connection.there.close()
    connection.transport.pause_reading()
    connection.transport.write(b"request")
    connection.turn()
    assert connection.transport.is_closing()
    assert len(connection.protocol.lost) == 1


def test_data_before_a_reset_is_passed_on(connection: Connection) -> None:
    answer = bytes(64 * 1024)  # as much as is read at once, so that there is a next read
    connection.transport._sock = _Reset(connection.transport._sock, answer)
    connection.there.send(b"readable")
    connection.turn()
    assert connection.protocol.received == answer
    assert [type(error).__name__ for error in connection.protocol.lost] == ["KafkaConnectionError"]


class _Reset:
    """A socket with something to read, and a reset behind it."""

    def __init__(self, real: socket.socket, answer: bytes) -> None:
        self._real = real
        self._left = [answer]

    def recv(self, _: int) -> bytes:
        if self._left:
            return self._left.pop()
        raise ConnectionResetError(104, "Connection reset by peer")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
