"""The processor of held deliveries: what it counts and releases, and what remains if it dies at any moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from consumers import held_partition
from consumers.held_partition import HeldPartition
from pipeline.broker.table import CompactedTable
from pipeline.ops import metrics
from schemas.codec import from_json
from schemas.health import HealthRecord
from tests.property_examples import examples
from tests.unit.consumers.held_case import HOLD, World, at

HOLD_MS = round(HOLD.total_seconds() * 1000)


@pytest.fixture(autouse=True)
def _at_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_partition, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(held_partition, "CHUNK", 5)


async def test_it_counts_and_releases_nothing() -> None:
    world = World(7, 8, 9)
    world.hold(7, 30)
    world.hold(8, 3)
    await world.start()
    await world.until_quiet()
    world.hold(7, 2)
    await world.until_quiet()

    assert world.counts() == {7: 32, 8: 3}
    assert world.outcomes() == Counter()
    assert world.processor is not None
    assert world.processor.held == 35
    assert world.kafka.committed == 0, "the next processor reads the waiting deliveries"
    await world.die()


async def test_every_endpoint_is_reported_even_if_all_change_constantly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_partition, "_MAX_REPORTED", 2)
    reported = list[set[int]]()
    write_down = HeldPartition._write_down

    async def write_down_while_more_come(processor: HeldPartition, endpoint_ids: set[int]) -> None:
        if endpoint_ids:
            reported.append(endpoint_ids)
        await write_down(processor, endpoint_ids)
        if len(reported) < 4:
            processor._ledger.changed |= {7, 8, 9}

    monkeypatch.setattr(HeldPartition, "_write_down", write_down_while_more_come)
    world = World(7, 8, 9)
    for endpoint_id in (7, 8, 9):
        world.hold(endpoint_id)
    await world.start()
    await world.until_quiet()

    assert reported[:3] == [{7, 8}, {9, 7}, {8, 9}]
    await world.die()


async def test_an_unresponsive_kafka_is_logged_once_for_all_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight processors each logged it again and again (three brokers, librdkafka)."""
    world = World(7)
    silent = 20

    async def wait_for(table: CompactedTable, offset: int) -> None:
        nonlocal silent
        silent -= 1
        if silent >= 0:
            raise TimeoutError

    monkeypatch.setattr(CompactedTable, "wait_for", wait_for)
    world.hold(7, 3)
    with capture_logs() as lines:
        await world.start()
        await world.until_quiet()
        assert world.processor is not None
        other = HeldPartition(world.processor._context, 1)
        silent = 20
        assert await other._read_reported() == {}
    assert [line["times"] for line in lines if "health cannot be read" in line["event"]] == [1]
    assert world.processor.held == 3
    await world.die()


async def test_a_resumed_endpoint_gets_its_deliveries_in_order_and_others_keep_waiting() -> None:
    world = World(7, 8)
    for _ in range(150):
        world.hold(7)
        world.hold(8)
    await world.start()
    await world.until_quiet()

    world.change(8, active=True)
    await world.until_quiet()

    assert world.kafka.released == [one for one in world.sent if one[0] == 8]
    assert world.counts() == {7: 150}
    world.change(7, active=True)
    await world.until_quiet()
    assert world.outcomes() == Counter(world.sent)
    assert world.counts() == {}
    assert world.kafka.committed == len(world.kafka.held)
    await world.die()


async def test_after_a_restart_the_reported_number_falls_gradually() -> None:
    """It used to be 0 from the first release on, while hundreds still waited to be read."""
    world = World(7)
    world.hold(7, 60)
    await world.start()
    await world.until_quiet()
    await world.die()
    reported = len(world.kafka.health)

    world.change(7, active=True)
    await world.start()
    await world.until_quiet()

    facts = [from_json(one.value, HealthRecord) for one in world.kafka.health[reported:] if one.value]
    assert [(fact.held, fact.done) for fact in facts] == [(60 - done, done) for done in (fact.done for fact in facts)]
    assert len(facts) > 5
    assert facts[-1].held == 0
    assert world.outcomes() == Counter(world.sent)
    await world.die()


async def test_a_delivery_held_for_an_active_endpoint_is_released_at_once() -> None:
    """The process that wrote it did not know of the resumption yet."""
    world = World(7)
    world.change(7, active=True)
    await world.start()
    world.hold(7, 3)
    await world.until_quiet()

    assert world.kafka.released == world.sent
    await world.die()


async def test_an_unknown_endpoint_is_not_treated_as_deleted() -> None:
    world = World(7)
    world.hold(99, 2)
    await world.start()
    await world.until_quiet()

    assert world.outcomes() == Counter()
    assert world.processor is not None
    assert world.processor.held == 2
    await world.die()


async def test_deliveries_of_a_deleted_endpoint_end_as_discarded() -> None:
    world = World(7)
    world.hold(7, 3)
    await world.start()
    await world.until_quiet()
    world.change(7, deleted=True)
    await world.until_quiet()

    assert [kind for *_, kind in world.kafka.ended] == ["endpoint_deleted"] * 3
    assert world.kafka.released == []
    await world.die()


async def test_held_deliveries_expire_by_the_brokers_clock() -> None:
    world = World(7)
    world.hold(7, 5)
    await world.start()
    await world.until_quiet()
    world.kafka.now_ms += HOLD_MS - 60_000  # nothing is known of the time until a record arrives
    world.hold(7, 2)
    await world.until_quiet()
    assert world.kafka.ended == []

    world.kafka.now_ms += 60_000
    world.hold(8)
    await world.until_quiet()

    assert [kind for *_, kind in world.kafka.ended] == ["expired"] * 5
    assert world.counts() == {7: 2}
    await world.die()


async def test_nothing_expires_while_the_time_is_uncertain() -> None:
    """The broker's clock may have been set a year ahead for a moment."""
    world = World(7)
    world.is_time_certain = False
    world.hold(7, 5)
    world.kafka.now_ms += 2 * HOLD_MS
    await world.start()
    await world.until_quiet()
    assert world.kafka.ended == []
    assert world.counts() == {7: 5}

    world.is_time_certain = True
    await world.until_quiet()
    assert [kind for *_, kind in world.kafka.ended] == ["expired"] * 5
    await world.die()


async def test_deliveries_expire_after_a_restart() -> None:
    world = World(7)
    world.hold(7, 5)
    world.kafka.now_ms += HOLD_MS
    await world.start()
    await world.until_quiet()

    assert len(world.kafka.ended) == 5
    await world.die()


async def test_an_active_endpoint_gets_even_expired_deliveries() -> None:
    world = World(7)
    world.hold(7, 5)
    world.kafka.now_ms += 2 * HOLD_MS
    world.change(7, active=True)
    await world.start()
    await world.until_quiet()

    assert (world.kafka.released, world.kafka.ended) == (world.sent, [])
    await world.die()


async def test_a_drop_affects_only_deliveries_held_before() -> None:
    world = World(7, 8)
    world.hold(7, 5)
    world.hold(8, 1)
    await world.start()
    await world.until_quiet()
    await world.die()  # no process keeps the partition when the drop is requested
    dropped = world.drop(7)
    world.hold(7, 2)
    world.change(7, active=True)
    await world.start()
    await world.until_quiet()

    assert dropped == 5
    assert [(event, kind) for _, event, kind in world.kafka.ended] == [(event, "dropped") for _, event in world.sent[:5]]
    assert world.kafka.released == world.sent[-2:]
    assert world.counts() == {8: 1}
    await world.die()


async def test_a_recreated_topic_starts_over() -> None:
    """Progress and drops of the former topic, which mention offsets up to a thousand, must not apply to the new one."""
    world = World(7)
    world.hold(7, 50)
    await world.start()
    await world.until_quiet()
    world.drop(7)
    await world.until_quiet()
    await world.die()
    world.kafka.held.clear()
    world.kafka.committed, world.kafka.ended, world.kafka.now_ms = None, [], world.kafka.now_ms + 1_000
    world.hold(7, 3)
    await world.start()
    await world.until_quiet()

    assert world.kafka.ended == []
    assert world.counts() == {7: 3}
    await world.die()


async def test_deliveries_lost_by_kafka_are_counted_exactly() -> None:
    world = World(7)
    world.hold(7, 20)
    await world.start()
    await world.until_quiet()
    await world.die()
    before = metrics.HELD_LOST._value.get()
    world.kafka.first = 13  # retention
    await world.start()
    await world.until_quiet()
    assert metrics.HELD_LOST._value.get() - before == 13
    assert world.counts() == {7: 7}

    world.kafka.first = 16
    world.change(7, active=True)
    await world.until_quiet()
    assert metrics.HELD_LOST._value.get() - before == 16
    assert world.kafka.released == world.sent[16:]
    assert world.counts() == {}
    await world.die()


async def test_released_deliveries_are_not_released_again_after_a_restart() -> None:
    world = World(7, 8)
    world.hold(8)
    world.hold(7, 50)
    await world.start()
    await world.until_quiet()
    world.change(7, active=True)
    await world.until_quiet()
    await world.die()

    await world.start()
    await world.until_quiet()

    assert world.kafka.committed == 0
    assert world.outcomes() == Counter(world.sent[1:])
    assert world.counts() == {8: 1}
    await world.die()


async def test_a_pause_during_a_release_keeps_the_rest_and_updates_its_age() -> None:
    world = World(7)
    world.hold(7, 60)
    await world.start()
    await world.until_quiet()
    world.change(7, active=True)
    while len(world.kafka.released) < 10:  # noqa: ASYNC110 - step by step
        await asyncio.sleep(0)
    world.change(7, active=False)
    await world.until_quiet()

    left = len(world.sent) - len(world.kafka.released)
    assert 0 < left < 50
    held = world.health.held(7)
    assert (held.count, held.since) == (left, at(world.kafka.held[60 - left].timestamp_ms))
    world.change(7, active=True)
    await world.until_quiet()
    assert world.kafka.released == world.sent
    await world.die()


async def test_a_rate_limit_is_respected_and_delays_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    monkeypatch.setattr("consumers.held_partition.time.monotonic", lambda: now[0])
    world = World(7, 8)
    for _ in range(30):
        world.hold(7)
        world.hold(8)
    await world.start()
    await world.until_quiet()
    world.change(7, active=True, max_per_second=10)
    world.change(8, active=True)
    await world.until_quiet()

    assert world.counts()[7] in (30 - 10, 30 - 11), "one at once, and as many as a second allows"
    assert set(world.counts()) == {7}
    for _ in range(5):
        now[0] += 1.0
        await world.until_quiet()
    assert world.outcomes() == Counter(world.sent)
    await world.die()


async def test_counts_overwritten_by_a_late_processor_are_reported_again() -> None:
    world = World(7)
    world.hold(7, 5)
    await world.start()
    await world.until_quiet()
    stale = world.kafka.health[-1]
    world.change(7, active=True)
    await world.until_quiet()

    world.kafka._write("webhooks.endpoint-health", stale.key, stale.value, ())
    assert world.counts() == {7: 5}
    await world.until_quiet()

    assert world.counts() == {}
    assert world.outcomes() == Counter(world.sent)
    await world.die()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["hold", "pause", "resume", "drop", "run", "crash", "crash", "expire"]),
        st.sampled_from([7, 8, 9]),
        st.integers(1, 40),
    ),
    max_size=14,
)


@given(steps=STEPS)
@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_delivery_is_lost_at_any_crash_and_few_are_released_twice(steps: list[tuple[str, int, int]]) -> None:
    asyncio.run(_play(steps))


async def _play(steps: list[tuple[str, int, int]]) -> None:
    world = World(7, 8, 9)
    await world.start()
    crashes = 0
    for step, endpoint_id, number in steps:
        await _step(world, step, endpoint_id, number)
        crashes += step == "crash"
    await world.until_quiet()
    # The reported counts are those of the deliveries that have not left.
    left = world.outcomes()
    waiting = Counter(endpoint_id for endpoint_id, event in world.sent if not left[endpoint_id, event])
    reported = Counter(world.counts())
    # Deliveries that left shortly before a crash are counted once more.
    assert not waiting - reported
    assert (reported - waiting).total() <= crashes * held_partition.CHUNK
    for endpoint_id in world.endpoints:
        world.change(endpoint_id, active=True)
    await world.until_quiet()
    await world.die()
    outcomes = world.outcomes()
    assert set(outcomes) == set(world.sent), "nothing is lost and nothing is invented"
    assert sum(outcomes.values()) - len(world.sent) <= crashes * held_partition.CHUNK
    if not crashes:
        assert outcomes == Counter(world.sent)
        order = {one: number for number, one in enumerate(world.sent)}
        for endpoint_id in world.endpoints:
            released = [order[one] for one in world.kafka.released if one[0] == endpoint_id]
            assert released == sorted(released)
    assert world.counts() == {}


async def _step(world: World, step: str, endpoint_id: int, number: int) -> None:
    steps: dict[str, Any] = {
        "hold": lambda: world.hold(endpoint_id, number),
        "pause": lambda: world.change(endpoint_id, active=False),
        "resume": lambda: world.change(endpoint_id, active=True),
        "drop": lambda: None if world.endpoints[endpoint_id].active else world.drop(endpoint_id),
        "expire": lambda: setattr(world.kafka, "now_ms", world.kafka.now_ms + HOLD_MS),
    }
    if step == "run":
        await world.live(number * 5)
    elif step == "crash":
        world.kafka.dies_at = world.kafka.writes + number
        await world.live(200)
        await world.die()
        await world.start()
    else:
        steps[step]()
