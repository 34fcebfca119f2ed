from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.producer import Producer
from pipeline.core.rate_shares import ANNOUNCE_SECONDS
from pipeline.delivery.rate_share_exchange import RateShareExchange
from schemas.codec import from_json
from schemas.rate_share import RateShareRecord
from tests.unit.fake_kafka import FakeProducer, record, settle
from tests.unit.virtual_time import in_virtual_time
from tests.waiting import until

TOPIC = "webhooks.rate-shares"


@pytest.fixture
async def producer() -> FakeProducer:
    return FakeProducer()


def announced(producer: FakeProducer) -> list[RateShareRecord]:
    return [from_json(sent.value, RateShareRecord) for sent in producer.to(TOPIC)]


def make(producer: FakeProducer, seconds: list[float]) -> RateShareExchange:
    return RateShareExchange(MemoryBroker(), TOPIC, producer, clock=lambda: seconds[0], process="me")


async def test_nothing_is_announced_while_nothing_is_limited(producer: FakeProducer) -> None:
    exchange = make(producer, [0.0])
    await settle()
    await exchange.close()

    assert announced(producer) == []


@in_virtual_time()
async def test_an_endpoint_is_announced_at_once_and_repeatedly_until_it_is_idle() -> None:
    producer, seconds = FakeProducer(), [0.0]
    exchange = make(producer, seconds)
    exchange.share(7)
    exchange.share(7)
    await settle()
    assert [one.endpoint_ids for one in announced(producer)] == [(7,)]
    await until(lambda: len(announced(producer)) >= 3)

    seconds[0] = 60.0
    await until(lambda: not announced(producer)[-1].endpoint_ids)
    count = len(announced(producer))
    await asyncio.sleep(10 * ANNOUNCE_SECONDS)
    assert len(announced(producer)) == count
    await exchange.close()


@in_virtual_time()
async def test_at_most_one_record_is_in_progress_while_kafka_is_unreachable() -> None:
    producer = FakeProducer(hold=True)
    exchange = make(producer, [0.0])
    for endpoint_id in range(50):
        exchange.share(endpoint_id)
        await asyncio.sleep(ANNOUNCE_SECONDS)

    assert len(producer.to(TOPIC)) == 1
    await asyncio.wait_for(exchange.close(), 60)


async def test_unreadable_records_are_skipped(producer: FakeProducer) -> None:
    exchange = make(producer, [0.0])
    for value in (None, b"", b"{", b'{"process":5}', b'{"process":"p","endpoint_ids":["x"]}'):
        exchange.apply([record(value, topic=TOPIC, partition=0)])
    exchange.apply([record(b'{"process":"other","endpoint_ids":[7]}', topic=TOPIC, partition=0)])

    assert len(exchange._shares._living(7)) == 1
    await exchange.close()


async def test_the_share_is_given_back_at_the_end(producer: FakeProducer) -> None:
    exchange = make(producer, [0.0])
    exchange.share(7)
    await settle()
    await exchange.close()

    assert [one.endpoint_ids for one in announced(producer)] == [(7,), ()]


async def test_two_processes_on_one_broker_converge_to_halves() -> None:
    broker, seconds = MemoryBroker(), [0.0]
    broker.cluster.create(TOPIC)
    producers = [Producer(broker, [TOPIC]) for _ in range(2)]
    exchanges = [RateShareExchange(broker, TOPIC, producer, clock=lambda: seconds[0]) for producer in producers]
    for producer, exchange in zip(producers, exchanges, strict=True):
        await producer.start()
        await exchange.table.start()
    one, other = exchanges

    def later(holds: Callable[[], bool]) -> Callable[[], bool]:
        """Time advances with each check: a process that hears late starts to wait late."""

        def look() -> bool:
            seconds[0] += 0.05
            return holds()

        return look

    try:
        await until(lambda: one.share(7) == 1.0)
        await until(lambda: other.share(7) < 1.0 and one.share(7) < 1.0)
        await until(later(lambda: [exchange.share(7) for exchange in exchanges] == [0.5, 0.5]))

        await other.close()
        await until(later(lambda: one.share(7) == 1.0))
    finally:
        for producer, exchange in zip(producers, exchanges, strict=True):
            await exchange.close()
            await exchange.table.stop()
            await producer.close()
