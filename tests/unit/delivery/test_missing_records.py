"""Missing records are reported in words, to this process and to others, for a day."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.broker.api import Partition
from pipeline.broker.errors import UnavailableError
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.start_offset import MissingOffsets
from pipeline.delivery.missing_records import SHOWN, MissingRecords
from pipeline.endpoints.health import HealthTable
from tests.unit.fake_kafka import FakeProducer, record

TOPIC = "webhooks.endpoint-health"
GROUP = "webhooks.fanout"
ORDERS = Partition("oms.orders", 3)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Now:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        return self.at


async def report_is_sent() -> None:
    await asyncio.sleep(0)


async def test_the_warning_names_count_partition_offsets_and_time() -> None:
    losses = MissingRecords(FakeProducer(), TOPIC, Now())
    assert losses.warning() is None

    losses.note(MissingOffsets(GROUP, ORDERS, 40, 400, 360))

    assert (losses.warning() or "").startswith(
        "360 records were removed from Kafka before being read: 360 of oms.orders, partition 3, offsets 40 to 399, by group "
        "webhooks.fanout since 2026-03-02 12:00:00 UTC."
    )


async def test_a_single_record_is_reported_in_the_singular() -> None:
    losses = MissingRecords(FakeProducer(), TOPIC, Now())
    losses.note(MissingOffsets(GROUP, ORDERS, 40, 41, 1))
    assert (losses.warning() or "").startswith("1 record was removed from Kafka before being read: 1 of oms.orders")
    assert str(MissingOffsets(GROUP, ORDERS, 40, 41, 1)).startswith("Kafka removed 1 record of oms.orders-3, offsets 40 to 40,")


async def test_the_warning_stays_for_a_day_after_the_last_loss() -> None:
    clock = Now()
    losses = MissingRecords(FakeProducer(), TOPIC, clock)
    losses.note(MissingOffsets(GROUP, ORDERS, 40, 400, 360))
    clock.at += timedelta(hours=20)
    losses.note(MissingOffsets(GROUP, ORDERS, 500, 510, 10))

    clock.at += timedelta(hours=23)
    assert "370 of oms.orders, partition 3, offsets 40 to 509" in (losses.warning() or "")
    clock.at = NOON + timedelta(hours=20) + SHOWN + timedelta(seconds=1)
    assert losses.warning() is None


async def test_other_processes_learn_of_a_loss_even_if_they_start_later() -> None:
    producer, clock = FakeProducer(), Now()
    losses = MissingRecords(producer, TOPIC, clock)
    losses.note(MissingOffsets(GROUP, ORDERS, 40, 400, 360))
    await report_is_sent()
    losses.note(MissingOffsets(GROUP, ORDERS, 400, 410, 10))
    await report_is_sent()
    first, second = producer.to(TOPIC)
    assert first.key == second.key == b"missing/webhooks.fanout/oms.orders/3/40", "compaction keeps one record of them"

    elsewhere = MissingRecords(FakeProducer(), TOPIC, clock)
    health = HealthTable(MemoryBroker(), TOPIC, on_missing=elsewhere.learn)
    health.apply([record(sent.value, topic=TOPIC, key=sent.key, partition=0) for sent in (first, second)])

    assert elsewhere.warning() == losses.warning()
    assert "370 records" in (elsewhere.warning() or "")


async def test_a_process_does_not_count_its_own_report_twice() -> None:
    producer = FakeProducer()
    losses = MissingRecords(producer, TOPIC, Now())
    health = HealthTable(MemoryBroker(), TOPIC, on_missing=losses.learn)
    losses.note(MissingOffsets(GROUP, ORDERS, 40, 400, 360))
    await report_is_sent()
    [sent] = producer.to(TOPIC)
    health.apply([record(sent.value, topic=TOPIC, key=sent.key, partition=0)])

    assert "360 records" in (losses.warning() or "")


async def test_a_loss_of_last_week_is_not_shown() -> None:
    producer, clock = FakeProducer(), Now()
    MissingRecords(producer, TOPIC, clock).note(MissingOffsets(GROUP, ORDERS, 40, 400, 360))
    await report_is_sent()
    clock.at += timedelta(days=7)
    losses = MissingRecords(FakeProducer(), TOPIC, clock)
    health = HealthTable(MemoryBroker(), TOPIC, on_missing=losses.learn)
    health.apply([record(sent.value, topic=TOPIC, key=sent.key, partition=0) for sent in producer.sent])

    assert losses.warning() is None


async def test_losses_in_many_places_make_one_readable_line() -> None:
    losses = MissingRecords(FakeProducer(), TOPIC, Now())
    for number in range(30):
        losses.note(MissingOffsets(GROUP, Partition("oms.orders", number), 0, 2, 2))

    warning = losses.warning() or ""
    assert warning.startswith("60 records were removed")
    assert "and in 25 more places" in warning
    assert len(warning) < 1000


async def test_the_warning_stays_when_the_producer_refuses_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    producer = FakeProducer()
    producer.errors[TOPIC] = UnavailableError("no broker answers")
    losses = MissingRecords(producer, TOPIC, Now())
    losses.note(MissingOffsets(GROUP, ORDERS, 40, 400, 360))
    await report_is_sent()
    await report_is_sent()

    assert "360 records" in (losses.warning() or "")
    assert "could not be reported" in capsys.readouterr().err
