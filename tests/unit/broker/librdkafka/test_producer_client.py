"""A producer that cannot continue is replaced once, however and whenever the error is reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from pipeline.broker.errors import UnavailableError
from pipeline.broker.librdkafka import producer_client
from pipeline.broker.librdkafka.producer_client import LibrdkafkaProducerClient
from pipeline.ops.settings import Settings

FATAL = KafkaError(KafkaError._FATAL, "out of order sequence", fatal=True)


class Library:
    """In place of ``confluent_kafka.Producer``."""

    made: list[Library]

    def __init__(self, config: dict[str, Any]) -> None:
        self.tell = config["error_cb"]
        self.to_tell: list[KafkaError] = []
        self.in_progress: list[Callable[..., None]] = []
        self.is_fatal = False
        Library.made.append(self)

    def fail(self) -> None:
        """The background thread finds that the sequence of records is broken. Callbacks are called in the next poll."""
        self.is_fatal = True
        self.to_tell.append(FATAL)

    def produce(self, *_: object, on_delivery: Callable[..., None], **__: object) -> None:
        if self.is_fatal:
            raise KafkaException(FATAL)
        self.in_progress.append(on_delivery)

    def poll(self, _: float) -> None:
        while self.to_tell:
            self.tell(self.to_tell.pop())

    def purge(self, **_: bool) -> None:
        self.in_progress.clear()

    def __len__(self) -> int:
        return len(self.in_progress)

    def close(self) -> None:
        """Nothing to do."""


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> LibrdkafkaProducerClient:
    Library.made = []
    monkeypatch.setattr(producer_client, "Producer", Library)
    monkeypatch.setattr(producer_client, "require_brokers", lambda settings: None)
    monkeypatch.setattr(producer_client, "open_session", lambda *given: None)
    return LibrdkafkaProducerClient(Settings(_env_file=None), [])


def send(client: LibrdkafkaProducerClient) -> None:
    client.send("t", 0, None, b"value", (), None)


def test_a_fatal_error_reported_in_a_poll_replaces_the_producer(client: LibrdkafkaProducerClient) -> None:
    send(client)
    Library.made[0].fail()
    client.serve()
    send(client)
    for _ in range(3):
        client.serve()
    assert len(Library.made) == 2
    assert len(Library.made[1]) == 1


def test_a_fatal_error_reported_twice_replaces_the_producer_once(client: LibrdkafkaProducerClient) -> None:
    """The second report purged what the new producer had in progress. It was written again, so Kafka had it twice."""
    Library.made[0].fail()
    with pytest.raises(UnavailableError, match="replaced"):
        send(client)
    send(client)
    for _ in range(3):
        client.serve()
    assert len(Library.made) == 2
    assert len(Library.made[1]) == 1
