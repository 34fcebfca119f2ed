"""Which brokers answer: all are asked at once, and one that hangs delays nobody."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pipeline.broker.errors import NoSessionError
from pipeline.broker.kafka import bootstrap
from pipeline.broker.kafka.bootstrap import reach_brokers, silent_brokers
from pipeline.broker.kafka.session import opening_session


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(sockets: ExitStack) -> socket.socket:
    return sockets.enter_context(socket.create_server(("127.0.0.1", 0)))


def hanging(sockets: ExitStack) -> str:
    """Return the address of a frozen process: the kernel accepts connections, and nobody answers."""
    return f"127.0.0.1:{listening(sockets).getsockname()[1]}"


def answering(sockets: ExitStack) -> str:
    """Return the address of a broker that gives the first answer only."""
    server = listening(sockets)

    def serve() -> None:
        try:
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.recv(1024)
                    connection.sendall(struct.pack(">ii", 10, 1))
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    sockets.callback(server.shutdown, socket.SHUT_RDWR)
    return f"127.0.0.1:{server.getsockname()[1]}"


def refusing() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def config(*servers: str) -> dict[str, object]:
    return {"bootstrap_servers": list(servers), "security_protocol": "PLAINTEXT"}


def test_brokers_that_answer_are_returned_in_order(sockets: ExitStack) -> None:
    first, second = answering(sockets), answering(sockets)
    assert reach_brokers(config(first, refusing(), second)) == [first, second]


def test_a_hanging_broker_is_not_waited_for(sockets: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """kafka-python, given all of them, waits for the hanging one until its time limit, and gives up."""
    monkeypatch.setattr(bootstrap, "_ANSWER_SECONDS", 600.0)
    monkeypatch.setattr(bootstrap, "_ALL_SECONDS", 600.0)
    frozen, alive = hanging(sockets), answering(sockets)
    asked = config(frozen, alive)
    with opening_session(asked) as met:
        assert met == {"bootstrap_servers": [alive], "security_protocol": "PLAINTEXT"}
    assert asked["bootstrap_servers"] == [frozen, alive], "the next client asks them all again"


def test_if_no_broker_answers_each_is_named_with_its_reason(sockets: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_ANSWER_SECONDS", 0.2)
    frozen, away = hanging(sockets), refusing()
    with pytest.raises(NoSessionError) as caught:
        reach_brokers(config(frozen, away))
    assert f"{frozen}: It accepts connections but does not answer within" in str(caught.value)
    assert f"{away}: Could not connect (Connection refused)" in str(caught.value)
    assert not caught.value.needs_operator


def test_a_broker_that_does_not_answer_in_time_is_named_too(sockets: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_ALL_SECONDS", 0.1)
    frozen = hanging(sockets)
    with pytest.raises(NoSessionError, match=f"{frozen}: It did not answer within"):
        reach_brokers(config(frozen))


def test_silent_brokers_are_named(sockets: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_ANSWER_SECONDS", 0.7)
    monkeypatch.setattr(bootstrap, "_OTHERS_SECONDS", 0.0)
    brokers = {"1": answering(sockets), "2": hanging(sockets), "3": refusing()}
    places = {name: ("127.0.0.1", int(server.rpartition(":")[2])) for name, server in brokers.items()}
    found = silent_brokers(config(brokers["1"]), places)
    assert found.keys() == {"2", "3"}
    assert "does not answer within" in found["2"], "it is waited for, although another one has answered"
    assert "Connection refused" in found["3"]
