"""What is reported about an endpoint's health, when it is disabled, and what remains when the process dies in between."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from pipeline.core.circuit import CircuitLimits, CircuitState
from pipeline.core.exchange import Exchange, NoResponse
from pipeline.endpoints.endpoint import Endpoint, open_endpoint
from pipeline.ops import metrics
from schemas.attempt import Outcome
from schemas.health import HealthFact
from tests.unit.delivery.delivery_case import MIN_REPORT_SECONDS, NO_ANSWER, TOPICS, VAULT, Scene, answer, endpoint
from tests.unit.fake_kafka import settle
from tests.unit.sample_events import NOW
from tests.unit.virtual_time import in_virtual_time

DAY = timedelta(days=1)
FAILING, CIRCUIT, DISABLED = HealthFact.FAILING, HealthFact.CIRCUIT, HealthFact.DISABLED


def at_version(version: int, activated_version: int) -> Endpoint:
    record = replace(endpoint().record, version=version, activated_version=activated_version)
    return open_endpoint(record, VAULT)


async def attempted(scene: Scene, exchange: Exchange, to: Endpoint | None = None) -> None:
    """Make an attempt; what it reports can be read afterwards."""
    scene.sender.exchange = exchange
    await scene.deliver(to)
    await settle()
    scene.read_health()


async def quiet_is_over() -> None:
    await asyncio.sleep(MIN_REPORT_SECONDS * 1.5)


# --- since when it has been failing ---


async def test_nothing_is_reported_about_a_healthy_endpoint() -> None:
    scene = Scene()
    for _ in range(20):
        await attempted(scene, answer(200))

    assert scene.facts() == []


@pytest.mark.parametrize("exchange", [NO_ANSWER, answer(500), answer(404)], ids=["no answer", "500", "404"])
@in_virtual_time()
async def test_only_the_first_of_consecutive_failures_is_reported(exchange: Exchange) -> None:
    scene = Scene()
    for _ in range(20):
        await attempted(scene, exchange)
        scene.now += timedelta(minutes=1)
        await quiet_is_over()

    [fact] = scene.facts()
    assert (fact.endpoint_id, fact.fact, fact.since, fact.at, fact.key) == (7, FAILING, NOW, NOW, b"7/failing")
    assert scene.health.failing_since(endpoint().record) == NOW


@in_virtual_time()
async def test_a_success_ends_the_failure() -> None:
    scene = Scene()
    await attempted(scene, NO_ANSWER)
    await quiet_is_over()

    await attempted(scene, answer(204))

    assert [fact.since for fact in scene.facts()] == [NOW, None]
    assert scene.health.failing_since(endpoint().record) is None


@in_virtual_time()
async def test_a_flapping_endpoint_is_reported_rarely_and_with_its_final_state() -> None:
    scene = Scene()
    for turn in range(60):
        await attempted(scene, answer(500 if turn % 2 == 0 else 200))
        await asyncio.sleep(MIN_REPORT_SECONDS / 20)
    await quiet_is_over()

    assert 2 <= len(scene.facts()) <= 2 + 60 / 20
    assert scene.facts()[-1].since is None


async def test_failures_seen_by_another_process_count() -> None:
    one, other = Scene(), Scene()
    await attempted(one, NO_ANSWER)
    for sent in one.producer.to(TOPICS.endpoint_health):
        other.producer.sent.append(sent)
    other.read_health()

    await attempted(other, answer(200))

    assert [fact.since for fact in other.facts()] == [NOW, None]


@in_virtual_time()
async def test_a_pending_fact_is_written_when_the_process_stops() -> None:
    scene = Scene()
    await attempted(scene, NO_ANSWER)
    await attempted(scene, answer(200))
    assert [fact.since for fact in scene.facts()] == [NOW]

    scene.health_monitor.close()

    assert [fact.since for fact in scene.facts()] == [NOW, None]
    await quiet_is_over()
    assert len(scene.facts()) == 2, "nothing more is reported"


@in_virtual_time()
async def test_a_fact_that_was_written_is_not_repeated_when_the_process_stops() -> None:
    scene = Scene()
    await attempted(scene, NO_ANSWER)
    scene.health_monitor.close()
    await quiet_is_over()
    assert len(scene.facts()) == 1


# --- the circuit ---


@in_virtual_time()
async def test_an_open_and_a_closed_circuit_are_reported() -> None:
    scene = Scene(limits=CircuitLimits(failures=1))
    await attempted(scene, NO_ANSWER)
    assert scene.health.circuit(endpoint().record, scene.now) == "open"
    assert scene.health.circuit(endpoint().record, scene.now + timedelta(seconds=5)) == "half_open"

    scene.seconds += 5.0
    await attempted(scene, answer(200))
    await quiet_is_over()
    scene.read_health()

    circuits = [fact for fact in scene.facts() if fact.fact is CIRCUIT]
    assert [(fact.circuit, fact.until) for fact in circuits] == [("open", NOW + timedelta(seconds=5)), ("closed", None)]
    assert scene.health.circuit(endpoint().record, scene.now) == "closed"


async def test_a_success_corrects_the_report_of_a_process_that_is_gone() -> None:
    gone, scene = Scene(limits=CircuitLimits(failures=1)), Scene()
    await attempted(gone, NO_ANSWER)
    scene.producer.sent += gone.producer.to(TOPICS.endpoint_health)
    scene.read_health()
    assert scene.health.circuit(endpoint().record, scene.now) == "open"

    await attempted(scene, answer(200))
    scene.read_health()

    assert scene.facts()[-1].circuit == "closed"


# --- disabling ---


async def test_410_disables_at_once_and_notifies_the_owner_first() -> None:
    scene = Scene()

    await attempted(scene, answer(410))

    [event] = scene.disabled_events()
    [fact] = scene.facts()
    topics = [sent.topic for sent in scene.producer.sent]
    assert topics.index(TOPICS.operational_events) < topics.index(TOPICS.endpoint_health)
    assert (event.id, event.event_name, event.notice.id, event.notice.reason) == (
        "endpoint-disabled_7_1",
        "endpoint.disabled",
        7,
        "gone",
    )
    assert event.notice.target_url == "https://hooks.example.com/7"
    assert (fact.fact, fact.reason, fact.detail) == (DISABLED, "gone", "The endpoint returned 410 (Gone).")
    assert scene.health.disabled(endpoint().record) == fact
    assert [record.outcome for record in scene.attempts()] == [Outcome.RETRIED]


async def test_the_count_of_disabled_endpoints_starts_at_0() -> None:
    """Otherwise, Prometheus would see no increase from nothing to 1, and the alert would not fire."""
    Scene()
    shown = {sample.labels["reason"] for family in metrics.ENDPOINTS_DISABLED.collect() for sample in family.samples}
    assert shown == {"gone", "failing"}


async def test_a_truncated_410_disables_nothing() -> None:
    scene = Scene()

    await attempted(scene, NoResponse(NO_ANSWER.failure, "x", 1.0, status=410))

    assert scene.disabled_events() == []


async def test_concurrent_410s_are_reported_once() -> None:
    scene = Scene()
    scene.sender.exchange = answer(410)

    await asyncio.gather(*(scene.deliver() for _ in range(8)))

    assert (len(scene.sender.requests), len(scene.disabled_events()), len(scene.facts())) == (8, 1, 1)


async def test_five_days_without_a_success_disable() -> None:
    scene = Scene()
    await attempted(scene, NO_ANSWER)
    scene.now += 5 * DAY - timedelta(seconds=1)
    await attempted(scene, answer(500))
    assert scene.disabled_events() == []

    scene.now += timedelta(seconds=1)
    await attempted(scene, answer(404))

    [event] = scene.disabled_events()
    assert (event.notice.reason, event.notice.failing_since, event.notice.disabled_at) == ("failing", NOW, NOW + 5 * DAY)
    assert event.notice.detail == "The endpoint has been failing since 2026-03-02 15:04 UTC, without any success."
    assert scene.health.disabled(endpoint().record) is not None


async def test_one_success_within_the_five_days_prevents_disabling() -> None:
    scene = Scene()
    await attempted(scene, NO_ANSWER)
    scene.now += 4 * DAY
    await attempted(scene, answer(200))
    await attempted(scene, NO_ANSWER)
    scene.now += 4 * DAY
    await attempted(scene, NO_ANSWER)

    assert scene.disabled_events() == []


async def test_a_restarted_process_knows_since_when_the_endpoint_fails() -> None:
    before, after = Scene(), Scene()
    await attempted(before, NO_ANSWER)
    after.producer.sent += before.producer.to(TOPICS.endpoint_health)
    after.read_health()
    after.now += 6 * DAY

    await attempted(after, NO_ANSWER)

    assert [event.notice.failing_since for event in after.disabled_events()] == [NOW]


@in_virtual_time()
async def test_an_activation_invalidates_everything_that_was_known() -> None:
    scene = Scene()
    await attempted(scene, NO_ANSWER)
    scene.now += 6 * DAY
    await attempted(scene, NO_ANSWER)
    again = at_version(2, 2)
    assert scene.health.disabled(endpoint().record) is not None
    assert (scene.health.disabled(again.record), scene.health.failing_since(again.record)) == (None, None)

    await quiet_is_over()
    await attempted(scene, NO_ANSWER, again)

    assert len(scene.disabled_events()) == 1, "its days start over"
    assert scene.health.failing_since(again.record) == scene.now
    await attempted(scene, answer(410), again)
    assert [event.id for event in scene.disabled_events()] == ["endpoint-disabled_7_1", "endpoint-disabled_7_2"]


async def test_another_change_does_not_invalidate_it() -> None:
    scene = Scene()

    await attempted(scene, answer(410))

    assert scene.health.disabled(at_version(5, 1).record) is not None


@pytest.mark.parametrize("changed", [at_version(4, 4), None], ids=["changed", "deleted"])
async def test_an_answer_to_an_earlier_version_does_not_disable_the_endpoint(changed: Endpoint | None) -> None:
    """Its owner is not notified either."""
    known: Endpoint | None = at_version(3, 1)
    scene = Scene(current=lambda _: known)

    async def change() -> None:
        nonlocal known
        known = changed

    for exchange in (answer(410), NO_ANSWER):
        known, scene.sender.before = at_version(3, 1), change
        await attempted(scene, exchange, at_version(3, 1))

    assert len(scene.attempts()) == 2
    assert scene.health.disabled(at_version(4, 4).record) is None
    assert (scene.disabled_events(), scene.facts()) == ([], [])


async def test_the_built_in_receiver_is_never_disabled_or_reported() -> None:
    scene = Scene(limits=CircuitLimits(failures=1))
    receiver = endpoint()
    object.__setattr__(receiver, "id", 0)

    await attempted(scene, answer(410), receiver)
    scene.now += 6 * DAY
    scene.seconds += 1000
    await attempted(scene, NO_ANSWER, receiver)

    assert len(scene.sender.requests) == 2
    assert scene.disabled_events() == []
    assert scene.facts() == []


# --- the process dies in between ---


async def test_a_delivery_is_not_done_before_event_and_fact_are_acknowledged() -> None:
    scene = Scene(hold=True)
    scene.sender.exchange = answer(410)
    delivering = asyncio.create_task(scene.deliver())
    await settle()
    assert [sent.topic for sent in scene.producer.sent].count(TOPICS.operational_events) == 1
    assert scene.producer.to(TOPICS.endpoint_health) == [], "the fact is written after Kafka has the event"

    for sent in list(scene.producer.sent):
        sent.acknowledge()
    await settle()
    assert not delivering.done()
    [fact] = scene.producer.to(TOPICS.endpoint_health)
    fact.acknowledge()
    await delivering


async def test_an_event_written_without_its_fact_is_written_again_with_the_same_id() -> None:
    died, restarted = Scene(), Scene()
    died.producer.errors[TOPICS.endpoint_health] = ConnectionError("the process died here")
    died.sender.exchange = answer(410)
    with pytest.raises(ConnectionError):
        await died.deliver()

    await attempted(restarted, answer(410))

    assert [event.id for event in died.disabled_events()] == [event.id for event in restarted.disabled_events()]
    assert restarted.health.disabled(endpoint().record) is not None


async def test_an_attempt_repeated_after_event_and_fact_were_written_reports_nothing() -> None:
    died, restarted = Scene(), Scene()
    await attempted(died, answer(410))
    restarted.producer.sent += died.producer.to(TOPICS.endpoint_health)
    restarted.read_health()

    await attempted(restarted, answer(410))

    assert restarted.disabled_events() == []


async def test_an_uncertain_clock_disables_no_endpoint() -> None:
    scene = Scene()
    scene.health_monitor._is_time_certain = lambda: False
    scene.sender.exchange = NO_ANSWER
    await scene.deliver()
    scene.now += timedelta(days=6)
    await scene.deliver()
    assert scene.disabled_events() == []
    scene.health_monitor._is_time_certain = lambda: True
    await scene.deliver()
    assert len(scene.disabled_events()) == 1


async def test_a_circuit_that_reopens_for_a_day_is_logged_once() -> None:
    scene = Scene()
    with capture_logs() as logs:
        for _ in range(288):  # a probe fails every five minutes
            scene.health_monitor.circuit_changed(endpoint(), CircuitState.OPEN, 300.0)
            scene.now += timedelta(minutes=5)
        scene.health_monitor.circuit_changed(endpoint(), CircuitState.CLOSED, 0.0)
        scene.health_monitor.circuit_changed(endpoint(), CircuitState.OPEN, 10.0)
    said = [line["circuit"] for line in logs if line["event"] == "a circuit has changed" and line["log_level"] == "info"]
    assert said == ["open", "closed", "open"]
    scene.health_monitor.close()


async def test_a_deleted_endpoint_is_forgotten() -> None:
    scene = Scene()
    await attempted(scene, NO_ANSWER)
    scene.health_monitor.circuit_changed(endpoint(), CircuitState.OPEN, 300.0)
    scene.health_monitor.forget(endpoint().id)
    assert not scene.health_monitor._written_facts
    assert not scene.health_monitor._quiet
