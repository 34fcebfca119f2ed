"""The processor of lanes: one delivery of a lane at a time, in order, whatever fails, and whenever the process dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from functools import partial
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumers import ordered_partition
from consumers.ordered_deliveries import take_progress
from pipeline.broker.seeking_consumer import FetchedPage
from pipeline.core.lane_ledger import LaneLedger
from pipeline.core.retry_policies import RetryPolicies
from pipeline.delivery.delivery import Delivery, DeliveryOutcome
from schemas.codec import to_json
from schemas.delivery import Trigger
from schemas.lane_progress import LaneProgress
from tests.property_examples import examples
from tests.unit.consumers.ordered_case import DELAYS, HOLD, World, inversions

FAIL = "failed"
DAY_MS = 86_400_000


async def test_events_of_a_key_are_delivered_one_after_the_other() -> None:
    world = World(7, 8)
    for _ in range(10):
        for key in ("R1", "R2", "R3"):
            world.publish(key)
    world.start()
    await world.until_all_ended()

    assert Counter((one.endpoint_id, one.event) for one in world.asked) == {
        (endpoint_id, event.id): 1 for endpoint_id in (7, 8) for event in world.events
    }
    assert inversions(world.asked) == []
    assert set(world.most_at_once.values()) == {1}
    await world.die()


async def test_a_failed_delivery_holds_back_only_its_own_lane() -> None:
    world = World(7)
    first = world.publish("R1")
    world.publish("R1")
    world.publish("R2")
    world.answers[7, first.id] = [FAIL]
    world.start()
    await world.until_quiet()

    assert [(one.event, one.attempt) for one in world.asked] == [("evt-0", 1), ("evt-2", 1)]
    world.now_ms += 4_900
    await world.until_quiet()
    assert len(world.asked) == 2, "its retry is not due"
    world.now_ms += 200
    await world.until_quiet()
    assert [(one.event, one.attempt) for one in world.asked[2:]] == [("evt-0", 2), ("evt-1", 1)]
    await world.die()


async def test_an_exhausted_delivery_releases_the_next() -> None:
    world = World(7)
    first = world.publish("R1")
    world.publish("R1")
    world.answers[7, first.id] = [FAIL] * 4
    world.start()
    await world.until_all_ended()

    assert [(one.event, one.attempt) for one in world.asked] == [
        ("evt-0", 1),
        ("evt-0", 2),
        ("evt-0", 3),
        ("evt-0", 4),
        ("evt-1", 1),
    ]
    await world.die()


async def test_a_new_processor_resumes_with_the_attempt_number_and_due_time() -> None:
    world = World(7)
    first = world.publish("R1")
    world.publish("R1")
    world.answers[7, first.id] = [FAIL, FAIL]
    world.start()
    await world.until_quiet()
    world.now_ms += 5_100
    await world.until_quiet()
    await world.die()

    world.start()
    await world.until_quiet()
    assert [one.attempt for one in world.asked] == [1, 2]
    world.now_ms += 61_000
    await world.until_quiet()
    assert [(one.event, one.attempt) for one in world.asked[2:]] == [("evt-0", 3), ("evt-1", 1)]
    await world.die()


async def test_a_refused_admission_uses_up_no_attempt() -> None:
    world = World(7)
    first = world.publish("R1")
    world.answers[7, first.id] = ["refused"] * 3
    world.start()
    await world.until_all_ended()

    assert [(one.event, one.attempt, one.answer) for one in world.asked] == [("evt-0", 1, "ok")]
    await world.die()


async def test_deliveries_for_a_paused_endpoint_wait_and_are_sent_in_order() -> None:
    world = World(7, 8)
    world.change(7, active=False)
    for _ in range(12):
        world.publish("R1")
    world.start()
    await world.until_quiet()
    world.now_ms += 6_000
    await world.until_quiet()

    assert {one.endpoint_id for one in world.asked} == {8}
    assert world.held_back(7) == 12
    assert world.health.ordered(7).lanes == 1
    assert world.kafka.committed == 0
    world.change(7, active=True)
    await world.until_all_ended()
    assert [one.event for one in world.asked if one.endpoint_id == 7] == [event.id for event in world.events]
    world.now_ms += 6_000
    await world.until_quiet()
    assert world.held_back(7) == 0
    await world.die()


async def test_only_deliveries_older_than_their_retries_allow_are_overdue() -> None:
    """The retries of ``patient`` alone take three days, so that is not reported."""
    world = World(7, 8)
    world.policies = RetryPolicies(DELAYS, patient=[timedelta(days=1)] * 3)
    world.change(8, retry_policy="patient")
    event = world.publish("R1")
    world.answers[7, event.id] = world.answers[8, event.id] = ["refused"] * 10_000
    world.start()
    await world.until_quiet()
    processor = world.processor
    assert processor is not None
    world.now_ms += 600_000
    assert (processor.oldest_seconds, processor.overdue_seconds) == (600.0, 0.0)
    world.now_ms += 2 * DAY_MS
    assert processor.overdue_seconds == pytest.approx(2 * 86_400 + 600 - 665), "of endpoint 7"
    world.change(7, active=False)
    await world.until_quiet()
    assert processor.oldest_seconds > 2 * 86_400
    assert processor.overdue_seconds == 0.0, "endpoint 7 is paused, and 8 has another day"
    world.now_ms += 2 * DAY_MS
    assert processor.overdue_seconds == pytest.approx(86_400 + 600)
    await world.die()


async def test_deliveries_of_a_paused_endpoint_are_reported_two_days_before_they_expire() -> None:
    world = World(7, 8)
    world.change(7, active=False)
    for key in ("R1", "R2"):
        event = world.publish(key)
        world.answers[8, event.id] = ["refused"] * 10_000
    world.start()
    await world.until_quiet()
    processor = world.processor
    assert processor is not None
    world.now_ms += round(HOLD / timedelta(milliseconds=1)) - 2 * DAY_MS - 60_000
    assert processor.expiring == 0
    world.now_ms += 60_000
    assert processor.expiring == 1, "endpoint 8 is active"
    await world.die()


async def test_switching_order_off_sends_waiting_deliveries_in_order() -> None:
    world = World(7)
    first = world.publish("R1")
    world.publish("R1")
    world.answers[7, first.id] = [FAIL]
    world.start()
    await world.until_quiet()
    world.change(7, ordered=False)
    await world.until_all_ended()

    assert [(one.event, one.attempt) for one in world.asked] == [("evt-0", 1), ("evt-0", 2), ("evt-1", 1)]
    await world.die()


async def test_a_delivery_no_longer_subscribed_to_is_not_sent() -> None:
    world = World(7)
    world.change(7, active=False)
    world.publish("R1")
    world.start()
    await world.until_quiet()
    world.change(7, active=True, events=("shipment_shipped",))
    await world.until_all_ended()

    assert [one.kind for one in world.discarded] == ["not_subscribed"]
    assert world.asked == []
    await world.die()


async def test_deleted_and_expired_deliveries_are_discarded_and_the_lane_continues() -> None:
    world = World(7, 8)
    for endpoint_id in (7, 8):
        world.change(endpoint_id, active=False)
    world.publish("R1")
    world.start()
    await world.until_quiet()
    world.change(7, deleted=True)
    await world.until_quiet()
    assert [(one.kind, one.record.endpoint_id) for one in world.discarded] == [("endpoint_deleted", 7)]

    world.now_ms += round(HOLD.total_seconds() * 1000)
    world.is_time_certain = False
    await world.until_quiet()
    assert len(world.discarded) == 1, "nothing expires while the time is uncertain"
    world.is_time_certain = True
    await world.until_quiet()
    assert [(one.kind, one.record.endpoint_id) for one in world.discarded[1:]] == [("expired", 8)]
    world.change(8, active=True)
    world.publish("R1", 8)
    await world.until_quiet()
    assert [one.event for one in world.asked] == ["evt-1"]
    await world.die()


async def test_an_unknown_endpoint_is_waited_for() -> None:
    world = World(7)
    world.publish("R1", 99)
    world.start()
    await world.until_quiet()
    assert (world.asked, world.discarded) == ([], [])
    await world.die()


async def test_an_event_written_twice_by_a_fan_out_is_sent_once() -> None:
    world = World(7)
    events = [world.publish("R1") for _ in range(3)]
    world.start()
    await world.until_all_ended()
    for event in events:
        world.write(event)
    await world.until_all_ended()
    await world.die()
    world.start()
    world.write(events[2])
    await world.until_all_ended()

    assert [one.event for one in world.asked] == ["evt-0", "evt-1", "evt-2"]
    await world.die()


async def test_a_resend_is_appended_to_its_lane() -> None:
    world = World(7)
    first = world.publish("R1")
    world.publish("R1")
    world.write(first, trigger=Trigger.RESEND)
    world.start()
    await world.until_all_ended()

    assert [one.event for one in world.asked] == ["evt-0", "evt-1", "evt-0"]
    await world.die()


async def test_a_recreated_topic_is_read() -> None:
    world = World(7)
    for _ in range(3):
        world.publish("R1")
    world.start()
    await world.until_all_ended()
    await world.die()
    world.kafka.ordered.clear()
    world.kafka.committed = 0
    world.now_ms += 1000
    world.publish("R1")
    world.start()
    await world.until_all_ended()

    assert world.asked[-1].event == "evt-3"
    await world.die()


async def test_an_unusable_record_becomes_a_dead_letter() -> None:
    world = World(7)
    world.append(b"7/R1", b"{}")
    world.publish("R1")
    due = world.kafka.ordered[-1]
    world.append(b"8/R1", b"{}", due.headers)
    world.append(b"7/R1", None, due.headers)
    world.start()
    await world.until_all_ended()

    assert len(world.kafka.letters) == 3
    assert [one.event for one in world.asked] == ["evt-0"]
    await world.die()


async def test_a_processor_that_lost_its_partition_sends_and_writes_nothing() -> None:
    world = World(7)
    world.publish("R1")
    world.publish("R1")
    world.start()
    world.consumer.is_kept = False
    await world.live(200)

    assert (world.asked, world.kafka.progress) == ([], [])
    await world.die()


async def test_idle_lanes_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(7)
    world.publish("R1")
    world.start()
    await world.until_all_ended()
    for _ in range(3):
        world.now_ms += round(ordered_partition.IDLE_SECONDS * 1000) + 1
        await world.until_quiet()

    assert world.kafka.progress[-1] == (b"7/R1", None)
    assert world.kafka.load() == {}
    world.publish("R1")
    await world.until_all_ended()
    assert len(world.asked) == 2
    await world.die()


async def test_more_deliveries_wait_than_offsets_are_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.ordered_partition.LaneLedger", partial(LaneLedger, most_places=20))
    world = World(7, 8)
    world.change(7, active=False)
    for number in range(150):
        world.publish(f"R{number % 5}")
    world.start()
    await world.until_quiet()
    assert world.processor is not None
    assert world.processor.waiting == 150
    assert [one.event for one in world.asked if one.key.endswith("/R1")] == [one.id for one in world.events if one.key == "R1"]

    world.change(7, active=True)
    await world.until_all_ended()
    assert inversions([one for one in world.asked if one.endpoint_id == 7]) == []
    assert Counter((one.endpoint_id, one.event) for one in world.asked).total() == 300
    await world.die()


async def test_a_head_wanted_while_others_are_read_again_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cached. While the head of R5 is read again, the first delivery of R1 ends, so its next one is wanted."""
    monkeypatch.setattr(ordered_partition, "_CACHE_BYTES", 0)
    world = World(7)
    for key in ("R1", "R1", "R2", "R3", "R4", "R5", "R6", "R7"):
        world.publish(key)
    outcome, is_asked_again, asked = world.outcome, asyncio.Event(), list[int | None]()

    async def first_is_slow(delivery: Delivery) -> DeliveryOutcome:
        if delivery.event.id == "evt-0":
            await is_asked_again.wait()
        return await outcome(delivery)

    async def slow_fetch(partition: int, offset: int | None, wait: float) -> FetchedPage:
        asked.append(offset)
        if asked.count(5) == 2:  # the first fetch reads new records
            is_asked_again.set()
            await world.live()
        return await fetch(partition, offset, wait)

    monkeypatch.setattr(world, "outcome", first_is_slow)
    world.start()
    fetch = world.consumer.fetch
    monkeypatch.setattr(world.consumer, "fetch", slow_fetch)
    await world.until_all_ended()

    assert sorted(one.event for one in world.asked) == [event.id for event in world.events]
    assert inversions(world.asked) == []
    await world.die()


_PUBLISH = st.tuples(st.just("publish"), st.lists(st.sampled_from(["R1", "R2"]), min_size=1, max_size=4))
_STEPS = st.one_of(
    _PUBLISH,
    _PUBLISH,
    st.tuples(st.just("again"), st.integers(0, 5)),
    st.tuples(st.just("time"), st.sampled_from([100, 5_000, 61_000])),
    st.tuples(st.just("live"), st.integers(1, 40)),
    st.tuples(st.just("die"), st.integers(0, 12)),
    st.tuples(st.just("die"), st.integers(0, 12)),
    st.tuples(st.just("pause"), st.sampled_from([7, 8])),
    st.tuples(st.just("resume"), st.sampled_from([7, 8])),
)


@settings(
    max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(_STEPS, min_size=8, max_size=30),
    answers=st.lists(st.sampled_from(["ok", "ok", FAIL, "refused"]), min_size=20, max_size=60),
    reads=st.tuples(st.integers(1, 7), st.sampled_from([1, 3, 40]), st.sampled_from([1, 1, 7])),
    cached=st.sampled_from([0, 4 * 1024 * 1024]),
)
async def test_random_runs_lose_nothing_and_keep_the_order(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, object]], answers: list[str], reads: tuple[int, int, int], cached: int
) -> None:
    """Random outcomes, deaths at any write, repeated writes of a dead or frozen fan-out, and paused endpoints."""
    monkeypatch.setattr(ordered_partition, "_CACHE_BYTES", cached)
    world = World(7, 8)
    for number, answer in enumerate(answers):
        world.answers.setdefault((7 + number % 2, f"evt-{number // 4}"), []).append(answer)
    world.start(*reads)
    for step, value in steps:
        if step == "publish":
            for key in cast("list[str]", value):
                world.publish(key)
        elif step == "again" and world.events:
            # From the last event backwards: a fan-out writes again what was in progress, in the order of offsets.
            for event in world.events[-int(str(value)) - 1 :]:
                world.write(event)
        elif step == "time":
            world.now_ms += int(str(value))
        elif step == "live":
            await world.live(int(str(value)))
        elif step == "die":
            world.kafka.dies_at = world.kafka.writes + int(str(value))
            await world.live(60)
            await world.die()
            world.start(*reads)
        elif step in ("pause", "resume"):
            world.change(int(str(value)), active=step == "resume")
    for endpoint_id in (7, 8):
        world.change(endpoint_id, active=True)
    await world.until_all_ended()

    assert inversions(world.asked) == []
    assert set(world.most_at_once.values()) <= {1}
    came = {(one.endpoint_id, one.event) for one in world.asked}
    assert came == {(endpoint_id, event.id) for endpoint_id in (7, 8) for event in world.events}
    assert world.kafka.letters == []
    await world.die()


def test_a_late_write_of_a_frozen_processor_does_not_reset_a_lane() -> None:
    lanes: dict[bytes, LaneProgress] = {}
    for done, attempt, time_ms in ((7, 1, 50), (5, 4, 40), (7, 2, 50), (7, 1, 50)):
        take_progress(lanes, b"7/R1", to_json(LaneProgress(done=done, done_ms=time_ms, head=done, attempt=attempt)))
    assert (lanes[b"7/R1"].done, lanes[b"7/R1"].attempt) == (7, 2)

    take_progress(lanes, b"7/R1", b"no JSON")
    assert lanes[b"7/R1"].done == 7
    take_progress(lanes, b"7/R1", to_json(LaneProgress(done=1, done_ms=90)))
    assert lanes[b"7/R1"].done == 1, "of a recreated topic"
    take_progress(lanes, b"7/R1", None)
    assert lanes == {}
