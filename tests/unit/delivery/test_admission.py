"""What delays a delivery before its request, and where it is then parked."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from msgspec.structs import replace

from pipeline.broker.memory.broker import MemoryBroker
from pipeline.core.circuit import CircuitLimits
from pipeline.core.exchange import Exchange, Headers
from pipeline.core.retry import RetrySchedule
from pipeline.delivery.admission import Admission, AdmissionLimits, Pass
from pipeline.endpoints.endpoint import Endpoint, open_endpoint
from pipeline.endpoints.registry import Registry, deleted
from pipeline.ops import metrics
from schemas.codec import to_json
from schemas.delivery import DeliveryRecord, Trigger
from schemas.endpoint import EndpointRecord
from schemas.health import HealthFact, HealthRecord
from schemas.topics import delay_label
from tests.unit.delivery.delivery_case import DELAYS, NO_ANSWER, TOPICS, VAULT, Scene, answer, delivery_of, endpoint
from tests.unit.fake_kafka import record as topic_record
from tests.unit.fake_kafka import settle
from tests.unit.sample_events import META, NOW

LIMITS = CircuitLimits(failures=3, open_seconds=5.0, max_open_seconds=300.0, max_asked_seconds=21_600.0)


def parked(scene: Scene) -> list[tuple[str, DeliveryRecord]]:
    """Return the deliveries that were postponed without an attempt."""
    found = [(sent.topic.removeprefix("t.webhooks.delay."), delivery_of(sent)) for sent in scene.delayed()]
    return [(delay, delivery) for delay, delivery in found if delivery.parked]


async def failing(exchange: Exchange = NO_ANSWER, times: int = 3) -> Scene:
    """Return a scene in which the endpoint has failed this many times in a row."""
    scene = Scene(limits=LIMITS)
    scene.sender.exchange = exchange
    for _ in range(times):
        await scene.deliver()
    return scene


def limited(per_second: int, *, activated_version: int = 1) -> Endpoint:
    plain = endpoint()
    more = {"max_per_second": per_second, "activated_version": activated_version}
    return open_endpoint(replace(plain.record, **more), VAULT)


# --- the circuit ---


@pytest.mark.parametrize("exchange", [NO_ANSWER, answer(500), answer(429)], ids=["no answer", "500", "429"])
async def test_consecutive_failures_park_deliveries_without_using_up_an_attempt(exchange: Exchange) -> None:
    scene = await failing(exchange)

    await scene.deliver(attempt=4, trigger=Trigger.RESEND)

    assert len(scene.sender.requests) == 3
    assert parked(scene) == [("5s", DeliveryRecord(event=META, endpoint_id=7, attempt=4, trigger=Trigger.RESEND, parked=1))]


@pytest.mark.parametrize("exchange", [answer(404), answer(301), answer(203)], ids=["404", "301", "203"])
async def test_answers_about_the_event_open_no_circuit(exchange: Exchange) -> None:
    scene = await failing(exchange, times=50)

    assert len(scene.sender.requests) == 50
    assert parked(scene) == []


async def test_each_endpoint_has_its_own_circuit() -> None:
    scene = await failing()
    other = endpoint()
    object.__setattr__(other, "id", 8)

    await scene.deliver(other)

    assert len(scene.sender.requests) == 4


@pytest.mark.parametrize(("times", "delay"), [(0, "5s"), (1, "1m"), (2, "10m"), (3, "1h"), (4, "1h"), (1000, "1h")], ids=str)
async def test_a_delivery_waits_longer_each_time_it_is_parked(times: int, delay: str) -> None:
    scene = await failing()

    await scene.deliver(parked=times)

    assert [(where, delivery.parked) for where, delivery in parked(scene)] == [(delay, times + 1)]


async def test_a_delivery_is_parked_for_at_least_as_long_as_the_circuit_stays_open() -> None:
    scene = await failing(answer(503, (("Retry-After", "301"),)), times=1)

    await scene.deliver()

    assert [delay for delay, _ in parked(scene)] == ["10m"]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "open_for"),
    [("30", 30), ("7200", 7200), ("999999999", 21_600), ("Mon, 02 Mar 2026 15:05:00 GMT", 59.488)],
    ids=["seconds", "hours", "for ever", "a date"],
)
async def test_retry_after_opens_the_circuit_at_once_for_that_long(status: int, value: str, open_for: float) -> None:
    scene = await failing(answer(status, (("retry-after", value),)), times=1)
    scene.sender.exchange = answer(200)

    scene.seconds += open_for - 0.1
    await scene.deliver()
    assert len(scene.sender.requests) == 1
    scene.seconds += 0.2
    await scene.deliver()
    assert len(scene.sender.requests) == 2


@pytest.mark.parametrize("headers", [(("Retry-After", "nonsense"),), (("Retry-After", "0"),), ()])
async def test_an_invalid_retry_after_opens_nothing(headers: Headers) -> None:
    scene = await failing(answer(429, headers), times=2)

    assert len(scene.sender.requests) == 2


async def test_retry_after_of_another_status_concerns_only_that_event() -> None:
    scene = await failing(answer(404, (("Retry-After", "3600"),)), times=2)

    assert len(scene.sender.requests) == 2


async def test_probes_are_sent_one_at_a_time_and_a_success_lets_all_through() -> None:
    scene = await failing()
    release = asyncio.Event()
    scene.sender.exchange, scene.sender.before = answer(200), release.wait
    scene.seconds += 5.0
    delivering = [asyncio.create_task(scene.deliver()) for _ in range(5)]
    await settle()
    assert len(scene.sender.requests) == 4, "one of the five is the probe"

    release.set()
    await asyncio.gather(*delivering)
    assert len(parked(scene)) == 4
    await asyncio.gather(*(scene.deliver() for _ in range(5)))

    assert len(scene.sender.requests) == 9


async def test_a_failed_probe_doubles_the_open_time() -> None:
    scene = await failing()
    scene.seconds += 5.0
    await scene.deliver()
    assert len(scene.sender.requests) == 4

    scene.seconds += 9.9
    await scene.deliver()
    assert len(scene.sender.requests) == 4
    scene.seconds += 0.2
    await scene.deliver()
    assert len(scene.sender.requests) == 5


async def test_a_cancelled_probe_frees_the_next_one() -> None:
    scene = await failing()
    scene.seconds += 5.0
    scene.sender.before = asyncio.Event().wait
    probing = asyncio.create_task(scene.deliver())
    await settle()
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)

    scene.sender.before, scene.sender.exchange = None, answer(200)
    await scene.deliver()

    assert len(scene.sender.requests) == 5


async def test_an_endpoint_that_was_reactivated_starts_over() -> None:
    scene = await failing()
    scene.sender.exchange = answer(200)

    await scene.deliver(limited(1000, activated_version=2))

    assert len(scene.sender.requests) == 4


async def test_results_of_an_earlier_activation_do_not_count_for_the_current_one() -> None:
    scene = Scene(limits=LIMITS)
    release = asyncio.Event()
    scene.sender.exchange, scene.sender.before = NO_ANSWER, release.wait
    late = [asyncio.create_task(scene.deliver()) for _ in range(5)]
    await settle()
    scene.sender.before, scene.sender.exchange = None, answer(200)
    await scene.deliver(limited(1000, activated_version=2))
    scene.sender.exchange = NO_ANSWER

    release.set()
    await asyncio.gather(*late)
    scene.sender.exchange = answer(200)
    await scene.deliver(limited(1000, activated_version=2))

    assert len(scene.sender.requests) == 7


async def test_open_and_half_open_circuits_are_counted() -> None:
    gauges = {state: metrics.CIRCUITS.labels(state) for state in ("open", "half_open")}
    before = {state: gauge._value.get() for state, gauge in gauges.items()}
    opened = metrics.CIRCUIT_TRANSITIONS.labels("open")._value.get()

    def change() -> dict[str, float]:
        return {state: gauge._value.get() - before[state] for state, gauge in gauges.items()}

    scene = await failing()
    assert change() == {"open": 1, "half_open": 0}
    scene.seconds += 5.0
    during: list[dict[str, float]] = []

    async def look() -> None:
        during.append(change())

    scene.sender.before, scene.sender.exchange = look, answer(200)
    await scene.deliver()

    assert during == [{"open": 0, "half_open": 1}]
    assert change() == {"open": 0, "half_open": 0}
    assert metrics.CIRCUIT_TRANSITIONS.labels("open")._value.get() == opened + 1


# --- the rate limit ---


async def test_deliveries_above_the_rate_wait_briefly_and_are_then_parked() -> None:
    scene = Scene()
    limit = limited(200)  # a wait of at most 10 ms: two more

    await asyncio.gather(*(scene.deliver(limit) for _ in range(10)))

    assert len(scene.sender.requests) == 3
    assert [delay for delay, _ in parked(scene)] == ["5s"] * 7


async def test_one_endpoint_may_use_a_quarter_of_the_waiting_slots() -> None:
    scene = Scene(longest_wait=10.0, max_waiting=8)
    limit = limited(100)

    await asyncio.gather(*(scene.deliver(limit) for _ in range(20)))

    assert len(scene.sender.requests) == 1 + 2


async def test_the_number_of_waiting_deliveries_is_limited() -> None:
    scene = Scene(longest_wait=10.0, max_waiting=8)
    limits = [limited(5) for _ in range(20)]
    for number, limit in enumerate(limits):
        object.__setattr__(limit, "id", 100 + number)
    first = [asyncio.create_task(scene.deliver(limit)) for limit in limits]
    second = [asyncio.create_task(scene.deliver(limit)) for limit in limits]
    await settle()

    assert len(scene.sender.requests) == 20
    assert len(parked(scene)) == 12
    await asyncio.gather(*first, *second)
    assert len(scene.sender.requests) == 28


async def test_an_endpoint_without_a_rate_limit_is_not_limited() -> None:
    scene = Scene(width=100)

    await asyncio.gather(*(scene.deliver() for _ in range(100)))

    assert len(scene.sender.requests) == 100


async def test_a_busy_endpoint_is_parked_for_a_shorter_time_than_a_dead_one() -> None:
    scene = Scene()
    limit = limited(1)
    await scene.deliver(limit)

    await scene.deliver(limit, parked=50)

    assert [delay for delay, _ in parked(scene)] == ["10m"]


async def test_a_changed_limit_takes_effect_at_once() -> None:
    scene = Scene()
    await scene.deliver(limited(1))
    await scene.deliver(limited(1))
    assert len(scene.sender.requests) == 1

    await scene.deliver(limited(1000))

    assert len(scene.sender.requests) == 2


async def test_deliveries_that_the_circuit_refuses_use_up_no_rate() -> None:
    scene = Scene(limits=CircuitLimits(failures=1))
    scene.sender.exchange = NO_ANSWER
    await scene.deliver(limited(1))
    for _ in range(5):
        await scene.deliver(limited(1))

    scene.seconds += 5.0
    scene.sender.exchange = answer(200)
    await scene.deliver(limited(1))

    assert len(scene.sender.requests) == 2


# --- the schedule ---


@pytest.mark.parametrize(
    ("times", "at_least", "delay"),
    [(0, 0, "5s"), (0, 5, "5s"), (0, 5.1, "1m"), (0, 4000, "6h"), (9, 4000, "6h"), (0, 10**6, "6h"), (2, 30, "10m")],
)
def test_parking_delays(times: int, at_least: float, delay: str) -> None:
    chosen = RetrySchedule(DELAYS).parking(times, timedelta(seconds=at_least), timedelta(hours=1))

    assert delay_label(chosen) == delay


def test_a_schedule_of_long_delays_parks_for_the_shortest_one() -> None:
    schedule = RetrySchedule([timedelta(hours=2), timedelta(hours=3)])

    assert schedule.parking(5, timedelta(0), timedelta(hours=1)) == timedelta(hours=2)


# --- endpoints that are deleted, paused or disabled ---


def gone(record: EndpointRecord, how: str) -> tuple[EndpointRecord, HealthRecord | None]:
    """Return an endpoint's next record and its health after it was deleted, paused or disabled."""
    match how:
        case "deleted":
            return deleted(record, changed_by="somebody", at=NOW), None
        case "paused":
            return replace(record, active=False, version=record.version + 1), None
        case _:
            return record, HealthRecord(
                endpoint_id=record.id, fact=HealthFact.DISABLED, endpoint_version=record.version, at=NOW, reason="gone"
            )


@pytest.mark.parametrize("how", ["deleted", "paused", "disabled"])
@pytest.mark.parametrize("state", ["open", "half_open"])
async def test_circuit_and_pace_of_an_inactive_endpoint_are_forgotten(how: str, state: str) -> None:
    scene = Scene(limits=LIMITS)
    registry = Registry(MemoryBroker(), TOPICS.endpoints, VAULT, health=scene.health)
    to = limited(100)
    admission = Admission(
        scene.limiter,
        AdmissionLimits(LIMITS, 1.0, 10),
        on_change=lambda *_: None,
        clock=lambda: scene.seconds,
        current=registry.receiver,
    )
    registry.on_idle = admission.forget
    key = str(to.id).encode()
    registry._apply([topic_record(to_json(to.record), topic=TOPICS.endpoints, key=key)])
    gauge, before = metrics.CIRCUITS.labels(state), metrics.CIRCUITS.labels(state)._value.get()
    probe: Pass | None = None
    for _ in range(3):
        entry = await admission.enter(to)
        assert isinstance(entry, Pass)
        with entry:
            entry.end(NO_ANSWER, NOW)
    if state == "half_open":
        scene.seconds += 6
        entry = await admission.enter(to)
        assert isinstance(entry, Pass)
        probe = entry
    assert gauge._value.get() == before + 1

    record, fact = gone(to.record, how)
    registry._apply([topic_record(to_json(record), topic=TOPICS.endpoints, key=key)])
    if fact is not None:
        scene.health.apply([topic_record(to_json(fact), topic=TOPICS.endpoint_health, key=fact.key)])

    assert gauge._value.get() == before
    if probe is not None:
        with probe:
            probe.end(NO_ANSWER, NOW)  # it was in progress
    late = await admission.enter(to)  # a delivery with the earlier version of the endpoint
    assert isinstance(late, Pass)
    with late:
        late.end(NO_ANSWER, NOW)
    assert gauge._value.get() == before
    assert (admission._circuits, admission._paces) == ({}, {})
