"""Whoever waits for a consumer to end is notified, however it ends; the broker answers nothing.

It takes seconds, for which clients wait for an answer. With shorter waits, a client would be closed between two of them instead
of during one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer

from pipeline.broker.consumer import ConsumerOptions, GroupConsumer
from pipeline.broker.kafka.broker import KafkaBroker
from pipeline.broker.kafka.compat import FewWaitsSelector, Speedups
from pipeline.broker.table import CompactedTable
from pipeline.ops.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # kafka-python's own thread


class Broker:
    """Accepts requests, and answers none."""

    def __init__(self) -> None:
        self.port = 0
        self.was_asked = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            self.was_asked.set()
        writer.close()


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    monkeypatch.setattr(
        "pipeline.broker.kafka.session.reach_brokers", lambda config: config["bootstrap_servers"]
    )  # the broker hangs only after it was reached
    broker = Broker()
    async with await asyncio.start_server(broker.serve, "127.0.0.1", 0) as server:
        broker.port = server.sockets[0].getsockname()[1]
        yield broker


class Fault:
    """Once set, makes kafka-python's loops die during a wait: on I/O threads for members, on their own threads for readers."""

    is_there = False
    threads = ("kafka-io", "fetch ", "table ")

    def selector(self) -> FewWaitsSelector:
        fault = self

        class Selector(FewWaitsSelector):
            def select(self, timeout: float | None = None) -> Any:
                if fault.is_there and threading.current_thread().name.startswith(fault.threads):
                    raise KeyError("a fault of the I/O thread")
                return super().select(timeout)

        return Selector()


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fault]:
    fault = Fault()
    clients: list[Any] = []

    class Consumer(KafkaConsumer):  # type: ignore[misc]  # kafka-python is untyped
        def __init__(self, **config: Any) -> None:
            super().__init__(**config)
            clients.append(self._client)

    monkeypatch.setattr("pipeline.broker.kafka.fetch_client.KafkaConsumer", Consumer)
    monkeypatch.setattr("pipeline.broker.kafka.group_client.KafkaConsumer", Consumer)
    yield fault
    fault.is_there = False
    for client in clients:
        if client._net._exception is not None:  # the thread is dead: what it has left is closed from here
            client._net._exception = client._net._io_thread = None
        client.close()


class Hooks(Speedups):
    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self._fault = fault

    def configure(self, config: dict[str, Any]) -> dict[str, Any]:
        return config | {"api_version": (2, 6), "selector": self._fault.selector}


@pytest.fixture
def kafka(broker: Broker, fault: Fault) -> KafkaBroker:
    kafka = KafkaBroker(Settings(kafka_bootstrap_servers=f"127.0.0.1:{broker.port}"))
    kafka._hooks = Hooks(fault)
    return kafka


def _group(kafka: KafkaBroker) -> GroupConsumer:
    return GroupConsumer(
        kafka,
        ConsumerOptions(
            group="group",
            topics=["orders"],
            max_outstanding=10,
            max_outstanding_bytes=1000,
        ),
        on_records=lambda _: None,
    )


async def test_a_group_consumer_reports_the_death_of_its_io_thread(kafka: KafkaBroker, broker: Broker, fault: Fault) -> None:
    consumer = _group(kafka)
    await consumer.start()
    await _soon(broker.was_asked.wait())
    fault.is_there = True
    with pytest.raises(KeyError, match="a fault of the I/O thread"):
        await _soon(consumer.stop(10))


async def test_a_table_reports_the_death_of_its_io_thread(kafka: KafkaBroker, broker: Broker, fault: Fault) -> None:
    table = CompactedTable(kafka, "orders", lambda _: None)
    starting = asyncio.create_task(table.start())
    await _soon(broker.was_asked.wait())
    fault.is_there = True
    with pytest.raises(KeyError, match="a fault of the I/O thread"):
        await _soon(starting)
    await _soon(table.stop())


@pytest.mark.parametrize("what", ["the last commit", "leaving"])
async def test_an_error_during_stop_keeps_nobody_waiting(
    kafka: KafkaBroker, broker: Broker, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = _group(kafka)
    if what == "leaving":
        monkeypatch.setattr(KafkaConsumer, "close", _assertion)
    else:
        monkeypatch.setattr(consumer._member, "_commit", _assertion)
    await consumer.start()
    await _soon(broker.was_asked.wait())
    await _soon(consumer.stop(0))


async def test_a_table_ends_even_if_its_client_cannot_be_closed(
    kafka: KafkaBroker, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes five seconds: for that long, the table waits for an answer about its partition."""
    monkeypatch.setattr(KafkaConsumer, "close", _assertion)
    table = CompactedTable(kafka, "orders", lambda _: None)
    starting = asyncio.create_task(table.start())
    await _soon(broker.was_asked.wait())
    await _soon(table.stop())
    await _soon(starting)


def _assertion(*_: Any, **__: Any) -> None:
    raise AssertionError("a check of kafka-python's own")


async def _soon(work: Awaitable[Any]) -> None:
    await asyncio.wait_for(work, 60)
