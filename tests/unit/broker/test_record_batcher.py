"""Batches: entries are collected into records, and each learns what became of its record."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest

from pipeline.broker import record_batcher
from pipeline.broker.record_batcher import BatchPace, RecordBatcher, batch_periods
from schemas.batch import MAX_BATCHED
from tests.unit.fake_kafka import FakeProducer, settle
from tests.waiting import until

DAY = date(2026, 3, 2)


def bundles(producer: FakeProducer, *, header: str | None = None) -> RecordBatcher:
    return RecordBatcher(producer, "webhooks.attempts", separator=b"\n", header=header)


async def test_entries_of_one_turn_become_one_record_in_order() -> None:
    producer = FakeProducer()
    gathering = bundles(producer, header="oms-webhooks-dispatch")

    await asyncio.gather(*(gathering.add(b"body%d" % n, day=DAY, header=b"meta%d" % n) for n in range(3)))

    [sent] = producer.sent
    assert (sent.topic, sent.key, sent.value) == ("webhooks.attempts", None, b"body0\nbody1\nbody2")
    assert sent.headers == [("oms-webhooks-dispatch", b"meta0\nmeta1\nmeta2")]


async def test_no_entry_is_acknowledged_before_its_record() -> None:
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


async def test_a_record_covers_one_day() -> None:
    producer = FakeProducer()
    gathering = bundles(producer)

    await asyncio.gather(*(gathering.add(b"%d" % n, day=date(2026, 3, 1 + n % 2)) for n in range(4)))

    assert sorted(sent.value or b"" for sent in producer.sent) == [b"0\n2", b"1\n3"]


@pytest.mark.parametrize(("size", "entries"), [(1, MAX_BATCHED), (100_000, 2), (300_000, 1), (6_000_000, 1)])
async def test_records_are_limited_in_number_of_entries_and_size(size: int, entries: int) -> None:
    producer = FakeProducer()
    gathering = bundles(producer)

    await asyncio.gather(*(gathering.add(b"x" * size, day=DAY) for _ in range(2 * entries + 1)))

    counts = [(sent.value or b"").count(b"\n") + 1 for sent in producer.sent]
    assert counts == [entries, entries, 1]


async def test_a_refused_record_is_an_error_for_each_entry() -> None:
    producer = FakeProducer()
    producer.errors["webhooks.attempts"] = PermissionError("not allowed")
    gathering = bundles(producer)

    outcomes = await asyncio.gather(*(gathering.add(b"x", day=DAY) for _ in range(2)), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [PermissionError, PermissionError]


async def test_an_entry_whose_caller_was_cancelled_does_not_affect_the_others() -> None:
    producer = FakeProducer(hold=True)
    gathering = bundles(producer)
    gone, stays = gathering.add(b"1", day=DAY), gathering.add(b"2", day=DAY)
    await settle()
    gone.cancel()

    producer.sent[0].acknowledge()

    await stays
    assert gone.cancelled()


@pytest.mark.parametrize(
    ("a_second", "gathers"), [(0.0, 1), (4.9, 1), (5.0, 5), (160.0, 5), (200.0, 4), (400.0, 2), (401.0, 1), (1e9, 1)]
)
def test_the_batching_period_depends_on_the_rate(a_second: float, gathers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_batcher, "_GATHER_S", 0.02)

    assert batch_periods(a_second) == gathers


def test_the_rate_is_that_of_the_last_second_and_all_topics_share_the_same_moments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record_batcher, "_GATHER_S", 0.0625)  # binary, so that moments can be compared
    pace = BatchPace()
    moments = []
    for number in range(600):  # 64 a second
        now = 100 + number / 64
        pace.count()
        moments.append(now + pace.seconds(now))

    assert {moment % 0.0625 for moment in moments} == {0.0}
    assert moments[0] == 100.0625  # no rate is known yet
    assert moments[-1] - (100 + 599 / 64) <= 4 * 0.0625
    assert len(set(moments[-64:])) in (4, 5)  # records a second, not sixteen
    pace.count()
    assert pace.seconds(200.0) == 0.0625  # it was quiet in the meantime


async def test_an_urgent_entry_is_written_at_the_next_moment_with_all_waiting_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_batcher, "_MAX_GATHERS", 1_000_000_000_000)
    monkeypatch.setattr(record_batcher, "_WANTED", 1_000_000_000_000)
    monkeypatch.setattr(record_batcher, "_RATE_OVER_S", 0.0)
    monkeypatch.setattr(record_batcher, "_SPARSE", 0.0)
    producer = FakeProducer()
    gathering = bundles(producer)
    await gathering.add(b"1", day=DAY)  # for the first one, no rate is known
    await until(lambda: asyncio.get_running_loop().time() != gathering._pace._since)  # the clock has milliseconds
    waits = gathering.add(b"2", day=DAY)
    await settle()
    assert not waits.done()

    awaited = gathering.add(b"3", day=DAY, urgent=True)

    assert list(await asyncio.gather(waits, awaited)) == [(0, 1, 0), (0, 1, 1)]
    assert [sent.value for sent in producer.sent] == [b"1", b"2\n3"]
