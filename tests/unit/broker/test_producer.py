"""Records that Kafka has not acknowledged are limited: callers of ``room`` wait for it, first come, first served."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.broker.api import Position, size_of
from pipeline.broker.errors import PublishError, UnavailableError
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.producer import Producer
from tests.unit.fake_kafka import settle
from tests.waiting import until

TOPIC = "webhooks.attempts"
SIZE = size_of(b"k", b"x" * 1_000, ())


class FakeClient:
    """A ProducerClient that acknowledges when the test says so."""

    def __init__(self) -> None:
        self.pending: list[Any] = []
        self.known: set[int] = {0}
        self.refuses: Exception | None = None
        self.chosen: list[int | None] = []
        self.asked = self.served = 0

    def partitions(self, _: str) -> set[int]:
        self.asked += 1
        if self.refuses is not None:
            raise self.refuses
        return self.known

    def send(self, topic: str, partition: int | None, *_: Any) -> Any:
        self.chosen.append(partition)
        self.pending.append(pending := SimpleNamespace(is_done=False, error=None))
        return pending

    def serve(self) -> None:
        self.served += 1

    def position(self, pending: Any) -> Position:
        if pending.error is not None:
            raise pending.error
        return Position(TOPIC, 0, 0)

    def acknowledge(self, count: int = 1, error: Exception | None = None) -> None:
        for pending in [pending for pending in self.pending if not pending.is_done][:count]:
            pending.error, pending.is_done = error, True

    def close(self, seconds: float) -> None:
        self.acknowledge(len(self.pending))


class FakeBroker(MemoryBroker):
    """Its producers are the test's."""

    def __init__(self, client: FakeClient) -> None:
        super().__init__()
        self._producer = client

    def producer_client(self, topics: Sequence[str]) -> Any:
        return self._producer


async def started(client: FakeClient, max_bytes: int, monkeypatch: pytest.MonkeyPatch) -> Producer:
    monkeypatch.setattr("pipeline.broker.failure_backoff._FIRST_S", 0.001)
    producer = Producer(FakeBroker(client), [TOPIC], max_bytes=max_bytes)
    await producer.start()
    return producer


async def look_again(client: FakeClient) -> None:
    """Let the producer look for acknowledgements a few more times."""
    before = client.served
    await until(lambda: client.served >= before + 5)


def send(producer: Producer, count: int = 1) -> list[asyncio.Future[Any]]:
    return [producer.send(TOPIC, key=b"k", value=b"x" * 1_000, spread=True) for _ in range(count)]


async def test_there_is_room_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    producer = await started(client, 3 * SIZE, monkeypatch)
    send(producer, 2)
    await producer.room(SIZE)

    send(producer)
    waiting = asyncio.create_task(producer.room(SIZE))
    await look_again(client)
    assert not waiting.done()

    client.acknowledge()
    await asyncio.wait_for(waiting, 60)


async def test_waiting_callers_proceed_in_order_and_only_as_room_permits(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    producer = await started(client, 3 * SIZE, monkeypatch)
    send(producer, 3)
    order: list[int] = []

    async def enter(number: int) -> None:
        await producer.room(SIZE)
        order.append(number)
        send(producer)

    tasks = [asyncio.create_task(enter(number)) for number in range(5)]
    await settle()
    for acknowledged in range(1, 6):
        client.acknowledge()
        await until(lambda: len(order) >= acknowledged)  # noqa: B023
        assert order == list(range(acknowledged)), "one was acknowledged, one proceeded"
    await asyncio.gather(*tasks)


async def test_a_record_larger_than_the_limit_has_room_when_it_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    producer = await started(client, SIZE, monkeypatch)
    await producer.room(100 * SIZE)
    send(producer)
    waiting = asyncio.create_task(producer.room(100 * SIZE))
    await look_again(client)
    assert not waiting.done()
    client.acknowledge()
    await asyncio.wait_for(waiting, 60)


async def test_a_record_that_is_sent_again_keeps_its_room_until_it_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    producer = await started(client, SIZE, monkeypatch)
    [sent] = send(producer)
    waiting = asyncio.create_task(producer.room(SIZE))
    client.acknowledge(error=UnavailableError("no answer"))
    await until(lambda: len(client.pending) == 2)
    await look_again(client)
    assert not waiting.done()
    client.acknowledge()
    await asyncio.wait_for(waiting, 60)
    assert (await sent).topic == TOPIC


async def test_a_refused_record_gives_its_room_back(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    producer = await started(client, SIZE, monkeypatch)
    [sent] = send(producer)
    waiting = asyncio.create_task(producer.room(SIZE))
    client.acknowledge(error=PublishError("too large"))
    with pytest.raises(PublishError):
        await sent
    await asyncio.wait_for(waiting, 60)


async def test_a_cancelled_wait_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    producer = await started(client, SIZE, monkeypatch)
    send(producer)
    gone, waiting = asyncio.create_task(producer.room(SIZE)), asyncio.create_task(producer.room(SIZE))
    await settle()
    gone.cancel()
    client.acknowledge()
    await asyncio.wait_for(waiting, 60)


async def test_closing_a_producer_ends_all_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    producer = await started(client, SIZE, monkeypatch)
    send(producer)
    waiting = asyncio.create_task(producer.room(SIZE))
    await settle()
    await producer.close()
    await asyncio.wait_for(waiting, 60)


async def test_the_records_of_a_time_slice_go_to_the_same_partition_in_all_processes() -> None:
    chosen, now = [], [1_200.0]
    for _ in range(2):
        client, now[0] = FakeClient(), 1_200.0
        client.known = {0, 1, 2}
        producer = Producer(FakeBroker(client), [TOPIC], wall=lambda: now[0])
        await producer.start()
        send(producer, 3)
        now[0] = 1_201.1
        send(producer, 2)
        now[0] = 1_201.2001
        send(producer, 2)
        client.known = {0, 1, 2, 3}
        now[0] = 1_202.5
        send(producer)
        await producer.close()
        chosen.append(client.chosen)
    assert chosen[0] == chosen[1] == [1, 1, 1, 1, 1, 2, 2, 2], "slices of 1.2 s: 1,000 % 3, 1,001 % 3, and 1,002 % 4"


async def test_at_high_rates_all_partitions_get_records_within_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    client.known = {0, 1}
    monkeypatch.setattr("pipeline.broker.producer._SLICE_BYTES", 2 * SIZE)
    producer = Producer(FakeBroker(client), [TOPIC], wall=lambda: 1_200.0)
    await producer.start()
    send(producer, 3)
    client.known = {0, 1, 2, 3}
    send(producer, 6)

    assert client.chosen == [0, 0, 1, 1, 2, 2, 3, 3, 0]
    await producer.close()


@pytest.mark.parametrize("error", [PublishError("no permission"), RuntimeError("a fault of the client's")])
async def test_a_partition_that_cannot_be_chosen_fails_only_its_record(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    producer = await started(client, SIZE, monkeypatch)
    client.refuses = error
    [sent] = send(producer)
    with pytest.raises(PublishError):
        await sent
    await asyncio.wait_for(producer.room(SIZE), 60)


async def test_an_unknown_partition_is_requested_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    producer = await started(client, SIZE, monkeypatch)
    client.refuses = UnavailableError("nothing is known of the topic")
    [sent] = send(producer)
    await until(lambda: client.asked >= 5)
    assert not sent.done()
    client.refuses = None
    await until(lambda: bool(client.pending))
    client.acknowledge()
    assert (await sent).topic == TOPIC


async def test_a_partition_that_was_just_added_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader learnt of it before this client, and writes to the partition of the same number in another topic."""
    client = FakeClient()
    producer = await started(client, SIZE, monkeypatch)
    sent = producer.send(TOPIC, key=b"k", value=None, partition=3)
    await until(lambda: client.asked >= 5)
    assert (sent.done(), client.chosen) == (False, [])
    client.known = {0, 1, 2, 3}
    await until(lambda: client.chosen == [3])
    client.acknowledge()
    assert (await sent).topic == TOPIC


async def test_a_partition_that_is_never_added_is_refused_by_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    producer = await started(client, SIZE, monkeypatch)
    monkeypatch.setattr("pipeline.broker.producer._NEW_PARTITION_S", 0.0)
    sent = producer.send(TOPIC, key=b"k", value=None, partition=3)
    client.acknowledge(error=PublishError("no such partition"))
    with pytest.raises(PublishError):
        await sent


async def test_a_record_without_an_acknowledgement_is_reported_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    producer = await started(client, 100 * SIZE, monkeypatch)
    assert producer.problem() is None
    (acknowledged,) = send(producer)
    assert producer.problem() is None, "it may take a moment"

    monkeypatch.setattr("pipeline.broker.producer._SILENT_S", 0.0)
    assert "Kafka has not acknowledged a record of webhooks.attempts for 0 s" in (producer.problem() or "")
    assert (producer.is_stuck(TOPIC), producer.is_stuck("webhooks.endpoints")) == (True, False)

    client.acknowledge()
    await acknowledged
    assert producer.problem() is None
    assert not producer.is_stuck(TOPIC)


async def test_a_record_that_waits_to_be_sent_again_counts_as_unacknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    producer = await started(client, 100 * SIZE, monkeypatch)
    monkeypatch.setattr("pipeline.broker.failure_backoff._FIRST_S", 3600.0)
    monkeypatch.setattr("pipeline.broker.failure_backoff._LONGEST_S", 3600.0)
    send(producer)
    client.acknowledge(error=UnavailableError("too few in-sync replicas"))
    await until(lambda: not any(producer._outstanding.values()))

    monkeypatch.setattr("pipeline.broker.producer._SILENT_S", 0.0)
    assert "has not acknowledged" in (producer.problem() or "")
    assert producer.is_stuck(TOPIC)


async def test_a_client_that_fails_in_serve_loses_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    producer = await started(client, 100 * SIZE, monkeypatch)
    failures = [RuntimeError("it cannot connect"), RuntimeError("still not")]

    def serve() -> None:
        if failures:
            raise failures.pop()

    monkeypatch.setattr(client, "serve", serve)
    (acknowledged,) = send(producer)
    await until(lambda: not failures)
    client.acknowledge()
    async with asyncio.timeout(60):
        await acknowledged


async def test_the_client_is_served_even_if_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, librdkafka's messages would accumulate while the brokers are unreachable."""
    monkeypatch.setattr("pipeline.broker.producer._SELDOM_S", 0.01)
    client = FakeClient()
    served: list[int] = []
    monkeypatch.setattr(client, "serve", lambda: served.append(1))
    producer = await started(client, SIZE, monkeypatch)
    await until(lambda: len(served) > 3)
    await producer.close()
    before = len(served)
    await asyncio.sleep(0.03)  # longer than the producer's next two timers would take
    assert len(served) == before, "it is closed"
