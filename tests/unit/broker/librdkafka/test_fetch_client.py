"""When librdkafka's consumer is replaced and its brokers are queried, with a library that records its calls."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from pipeline.broker.api import Partition
from pipeline.broker.errors import OutOfRangeError, RefusedError
from pipeline.broker.librdkafka import fetch_client
from pipeline.broker.librdkafka.fetch_client import LibrdkafkaFetchClient
from pipeline.ops.settings import Settings

A, B, C = (Partition("orders", number) for number in range(3))


class Library:
    """In place of ``confluent_kafka.Consumer``."""

    made: list[Library]

    def __init__(self, config: dict[str, Any]) -> None:
        self.calls: list[tuple[str, list[tuple[int, int]]]] = []
        self.is_closed = False
        self.config = config
        self.came: list[Any] = []
        Library.made.append(self)

    def _note(self, what: str, partitions: Sequence[Any]) -> None:
        self.calls.append((what, sorted((each.partition, each.offset) for each in partitions)))

    def incremental_assign(self, partitions: Sequence[Any]) -> None:
        self._note("assign", partitions)

    def incremental_unassign(self, partitions: Sequence[Any]) -> None:
        self._note("unassign", partitions)

    def pause(self, partitions: Sequence[Any]) -> None:
        self._note("pause", partitions)

    def resume(self, partitions: Sequence[Any]) -> None:
        self._note("resume", partitions)

    def offsets_for_times(self, partitions: Sequence[Any], timeout: float) -> None:
        self._note("ask", partitions)
        raise KafkaException("it has not answered in time")

    def consume(self, most: int, timeout: float) -> list[Any]:
        assert timeout == 0
        came, self.came = self.came[:most], self.came[most:]
        return came

    def poll(self, seconds: float) -> Any:
        return self.came.pop(0) if self.came else None

    def close(self) -> None:
        self.is_closed = True

    def steps(self) -> list[str]:
        return [what for what, _ in self.calls]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> LibrdkafkaFetchClient:
    Library.made = []
    monkeypatch.setattr(fetch_client, "Consumer", Library)
    monkeypatch.setattr(fetch_client, "require_brokers", lambda settings: None)
    monkeypatch.setattr(fetch_client, "open_session", lambda *given: None)
    return LibrdkafkaFetchClient(Settings(_env_file=None), partition_bytes=1024, read_committed=False)


def test_fetching_starts_when_all_new_partitions_are_ready(client: LibrdkafkaFetchClient) -> None:
    client.assign({A: 5, B: 7})
    assert Library.made[0].steps() == ["assign", "pause", "ask", "resume", "ask"]


def test_a_single_partition_is_fetched_at_once(client: LibrdkafkaFetchClient) -> None:
    client.assign({A: 5})
    assert Library.made[0].steps() == ["assign", "resume"]


def test_new_partitions_replace_the_consumer_instead_of_waiting_for_a_pending_fetch(client: LibrdkafkaFetchClient) -> None:
    client.assign({A: 5, B: 7})
    client.pause([B])
    client.assign({A: 9, B: 9, C: 1})  # it knows best where it continues partitions that it has read
    first, second = Library.made
    assert second.calls[0] == ("assign", [(0, 5), (1, 7), (2, 1)])
    assert second.calls[-1][0] == "pause"
    assert [number for number, _ in second.calls[-1][1]] == [B.number]
    assert "unassign" not in first.steps()


def test_removed_partitions_do_not_replace_the_consumer(client: LibrdkafkaFetchClient) -> None:
    client.assign({A: 5, B: 7})
    client.assign({A: 5})
    assert len(Library.made) == 1
    assert Library.made[0].calls[-1][0] == "unassign"


def test_resuming_wakes_the_brokers(client: LibrdkafkaFetchClient) -> None:
    client.assign({A: 5, B: 7})
    client.pause([A, B])
    Library.made[0].calls.clear()
    client.pause([B])
    client.pause([B])
    assert Library.made[0].steps() == ["resume", "ask"]


class Message:
    """A record at an offset of a partition, or an error."""

    def __init__(self, partition: Partition | None, offset: int, error: KafkaError | None = None) -> None:
        self._place, self._offset, self._error = partition, offset, error

    def error(self) -> KafkaError | None:
        return self._error

    def topic(self) -> str | None:
        return None if self._place is None else self._place.topic

    def partition(self) -> int | None:
        return None if self._place is None else self._place.number

    def offset(self) -> int | None:
        return None if self._place is None else self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_772_463_840_000

    def key(self) -> bytes | None:
        return None

    value = headers = key

    def __len__(self) -> int:
        return 10


def test_while_idle_errors_are_received_and_records_are_left_for_the_next_poll(client: LibrdkafkaFetchClient) -> None:
    client.assign({A: 7})
    client.pause([A])
    library = Library.made[-1]
    library.came = [Message(None, 0, KafkaError(KafkaError._ALL_BROKERS_DOWN)) for _ in range(50)]
    client.idle()
    assert library.came == []
    library.calls.clear()
    library.came = [Message(A, 6), Message(B, 3)]
    client.idle()
    assert library.calls == [], "it was read already, or is not wanted"
    library.came = [Message(A, 7), Message(A, 8)]
    client.idle()
    assert ("assign", [(0, 7)]) in library.calls
    assert library.steps()[-1] == "pause"
    assert client.position(A) == 7
    client.close()


def test_a_record_with_unreadable_header_names_gets_no_headers(client: LibrdkafkaFetchClient) -> None:
    class Unreadable(Message):
        def headers(self) -> None:
            b"n\xffme".decode()

    client.assign({A: 7})
    Library.made[-1].came = [Unreadable(A, 7), Message(A, 8)]
    with capture_logs() as lines:
        found = client.poll(0.0)
    assert [(record.offset, record.headers) for record in found[A]] == [(7, ()), (8, ())]
    assert [(line["log_level"], line["offset"]) for line in lines] == [("warning", 7)]
    client.close()


def test_errors_reported_during_an_outage_are_not_kept(client: LibrdkafkaFetchClient) -> None:
    """librdkafka reports twenty a second while its brokers are unreachable: 1.7 million a day per reader."""
    error = KafkaError(KafkaError._TRANSPORT)
    before = sys.getrefcount(error)
    for _ in range(100):
        Library.made[-1].config["error_cb"](error)
    assert sys.getrefcount(error) == before
    client.close()


@pytest.mark.parametrize(
    ("code", "expected"),
    [(KafkaError._AUTO_OFFSET_RESET, OutOfRangeError), (KafkaError.TOPIC_AUTHORIZATION_FAILED, RefusedError)],
)
def test_an_error_of_one_partition_is_raised_although_polls_return_other_records(
    client: LibrdkafkaFetchClient, monkeypatch: pytest.MonkeyPatch, code: int, expected: type[Exception]
) -> None:
    monkeypatch.setattr(fetch_client, "_TOLD_AFTER_S", 0.0)
    client.assign({A: 0, B: 50})
    library = Library.made[-1]
    library.came = [Message(B, 50, KafkaError(code)), Message(A, 0)]
    assert [record.offset for record in client.poll(0.1)[A]] == [0]
    library.came = [Message(A, 1)]
    with pytest.raises(expected):
        client.poll(0.1)
    client.seek(B, 50)
    assert [record.offset for record in client.poll(0.1)[A]] == [1], "the record that had arrived was not lost"
    client.close()
