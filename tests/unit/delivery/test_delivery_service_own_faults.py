"""What is written for a delivery that could not be sent because of an own fault: nothing that counts against its endpoint."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.core.circuit import CircuitLimits
from pipeline.core.exchange import Failure, NoResponse
from pipeline.core.local_faults import PARKED_IN_DOUBT, LocalFault, NotSent, NotSentError
from pipeline.delivery.delivery import Delivery
from pipeline.ops import metrics
from schemas.attempt import Outcome
from schemas.delivery import DeliveryRecord, Trigger
from tests.unit.delivery.delivery_case import BODY, NO_ANSWER, Scene, answer, delivery_of, endpoint
from tests.unit.sample_events import META

SHORT = NotSent(LocalFault.DESCRIPTORS, "This process is short of resources: too many open files.")
IN_DOUBT = NotSent(LocalFault.RESOLVER, "The resolver is silent.", NoResponse(Failure.DNS, "a.test: it does not resolve.", 3.0))
ONE_FAILURE = CircuitLimits(failures=1, open_seconds=5, max_open_seconds=60)


@pytest.mark.parametrize("sent", [SHORT, IN_DOUBT], ids=["certain", "in doubt"])
async def test_it_is_parked_with_the_same_attempt_and_nothing_is_recorded(sent: NotSent) -> None:
    scene = Scene(limits=ONE_FAILURE)
    scene.sender.exchange = sent
    counted = metrics.OWN_FAULTS.labels(sent.fault.value)._value.get()
    parked = metrics.PARKED.labels(sent.fault.value)._value.get()

    for _ in range(3):
        await scene.deliver(attempt=4, trigger=Trigger.RETRY, parked=1)

    assert [delivery_of(each) for each in scene.delayed()] == [
        DeliveryRecord(event=META, endpoint_id=7, attempt=4, trigger=Trigger.RETRY, parked=2)
    ] * 3
    assert {each.topic for each in scene.delayed()} == {"t.webhooks.delay.1m"}
    assert scene.attempts() == []
    assert scene.facts() == []
    assert metrics.OWN_FAULTS.labels(sent.fault.value)._value.get() == counted + 3
    assert metrics.PARKED.labels(sent.fault.value)._value.get() == parked + 3
    assert scene.delivery_service.own_faults.warning() is not None
    scene.sender.exchange = answer(200)
    await scene.deliver()
    assert [attempt.outcome for attempt in scene.attempts()] == [Outcome.DELIVERED], "no circuit was opened"


async def test_a_fault_that_may_be_the_endpoints_eventually_uses_up_attempts() -> None:
    scene = Scene()
    scene.sender.exchange = IN_DOUBT

    await scene.deliver(attempt=2, parked=PARKED_IN_DOUBT)

    assert [(attempt.attempt, attempt.failure) for attempt in scene.attempts()] == [(2, "dns")]
    assert [delivery_of(each).attempt for each in scene.delayed()] == [3]


async def test_a_probe_that_could_not_be_sent_is_repeated() -> None:
    scene = Scene(limits=ONE_FAILURE)
    scene.sender.exchange = NO_ANSWER
    await scene.deliver()
    scene.seconds += 6
    scene.sender.exchange = SHORT
    await scene.deliver()
    scene.sender.exchange = answer(200)
    await scene.deliver()
    assert [attempt.outcome for attempt in scene.attempts()] == [Outcome.RETRIED, Outcome.DELIVERED]


async def test_it_is_parked_for_at_most_ten_minutes() -> None:
    scene = Scene()
    scene.sender.exchange = SHORT
    await scene.deliver(parked=50)
    assert [each.topic for each in scene.delayed()] == ["t.webhooks.delay.10m"]


async def test_a_test_delivery_reports_that_nothing_was_sent() -> None:
    scene = Scene()
    scene.sender.exchange = SHORT
    with pytest.raises(NotSentError, match="too many open files"):
        await scene.delivery_service.test(Delivery(META, BODY, endpoint(), trigger=Trigger.TEST))
    assert scene.attempts() == []


async def test_the_time_to_the_first_attempt_counts_only_attempts_that_were_made() -> None:
    scene = Scene()
    before = metrics.registry.get_sample_value("oms_webhooks_event_to_first_attempt_seconds_count") or 0.0
    for exchange in (SHORT, answer(200)):
        scene.sender.exchange = exchange
        written_at = (scene.now - timedelta(seconds=1)).timestamp()
        await scene.delivery_service.deliver(Delivery(META, BODY, endpoint(), written_at=written_at))
    assert metrics.registry.get_sample_value("oms_webhooks_event_to_first_attempt_seconds_count") == before + 1
