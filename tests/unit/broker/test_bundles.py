"""Bundles: entries gather into records, and each learns what became of its record."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest

from pipeline.broker.bundles import Bundles
from schemas.bundle import MAX_BUNDLE
from tests.unit.fake_kafka import FakeProducer, settle

DAY = date(2026, 3, 2)


def bundles(producer: FakeProducer, *, header: str | None = None) -> Bundles:
    return Bundles(producer, "webhooks.attempts", separator=b"\n", header=header)


async def test_entries_of_one_turn_are_one_record_in_their_order() -> None:
    producer = FakeProducer()
    gathering = bundles(producer, header="oms-webhooks-dispatch")

    await asyncio.gather(*(gathering.add(b"body%d" % n, day=DAY, header=b"meta%d" % n) for n in range(3)))

    [sent] = producer.sent
    assert (sent.topic, sent.key, sent.value) == ("webhooks.attempts", None, b"body0\nbody1\nbody2")
    assert sent.headers == [("oms-webhooks-dispatch", b"meta0\nmeta1\nmeta2")]


async def test_nothing_is_acknowledged_before_its_record_is() -> None:
    producer = FakeProducer(hold=True)
    gathering = bundles(producer)
    first = [gathering.add(b"1", day=DAY), gathering.add(b"2", day=DAY)]
    await settle()
    second = gathering.add(b"3", day=DAY)
    await settle()
    assert [sent.value for sent in producer.sent] == [b"1\n2", b"3"]

    producer.sent[1].acknowledge()
    await settle()
    assert [entry.done() for entry in (*first, second)] == [False, False, True]

    producer.sent[0].acknowledge()
    assert await asyncio.gather(*first) == [(0, 0, 0), (0, 0, 1)]
    assert await second == (0, 1, 0)


async def test_a_record_is_of_one_day() -> None:
    producer = FakeProducer()
    gathering = bundles(producer)

    await asyncio.gather(*(gathering.add(b"%d" % n, day=date(2026, 3, 1 + n % 2)) for n in range(4)))

    assert sorted(sent.value or b"" for sent in producer.sent) == [b"0\n2", b"1\n3"]


@pytest.mark.parametrize(("size", "entries"), [(1, MAX_BUNDLE), (100_000, 2), (300_000, 1), (6_000_000, 1)])
async def test_a_record_has_bounds_in_number_and_size(size: int, entries: int) -> None:
    producer = FakeProducer()
    gathering = bundles(producer)

    await asyncio.gather(*(gathering.add(b"x" * size, day=DAY) for _ in range(2 * entries + 1)))

    counts = [(sent.value or b"").count(b"\n") + 1 for sent in producer.sent]
    assert counts == [entries, entries, 1]


async def test_what_kafka_refuses_is_an_error_for_each_entry() -> None:
    producer = FakeProducer()
    producer.errors["webhooks.attempts"] = PermissionError("not allowed")
    gathering = bundles(producer)

    outcomes = await asyncio.gather(*(gathering.add(b"x", day=DAY) for _ in range(2)), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [PermissionError, PermissionError]


async def test_an_entry_whose_waiter_is_gone_does_not_hurt_the_others() -> None:
    producer = FakeProducer(hold=True)
    gathering = bundles(producer)
    gone, stays = gathering.add(b"1", day=DAY), gathering.add(b"2", day=DAY)
    await settle()
    gone.cancel()

    producer.sent[0].acknowledge()

    await stays
    assert gone.cancelled()
