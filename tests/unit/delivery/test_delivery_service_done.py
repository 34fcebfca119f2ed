"""When an attempt is done: only when everything is acknowledged; and an endpoint's answer never raises an error."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.broker.record_batcher import EntryPosition
from pipeline.delivery.delivery import DiscardedDelivery
from pipeline.endpoints.endpoint import open_endpoint
from schemas.attempt import Attempt
from schemas.delivery import DeliveryRecord, Trigger
from tests.unit.delivery.delivery_case import (
    BODY,
    VAULT,
    Scene,
    answer,
    delivery_of,
    endpoint,
)
from tests.unit.fake_kafka import settle
from tests.unit.sample_events import META, endpoint_record
from tests.waiting import until

# --- when it is done ---


@pytest.mark.parametrize("first", [0, 1])
async def test_an_attempt_is_done_when_everything_is_acknowledged(first: int) -> None:
    scene = Scene(hold=True)
    scene.sender.exchange = answer(500)
    delivering = asyncio.create_task(scene.deliver())
    await settle()
    assert len(scene.left_behind()) == 2, "both are sent at once"

    scene.left_behind()[first].acknowledge()
    await settle()
    assert not delivering.done()
    scene.left_behind()[1 - first].acknowledge()
    await delivering


async def test_a_discarded_delivery_is_done_when_it_is_acknowledged() -> None:
    scene = Scene(hold=True)
    discarding = asyncio.create_task(
        scene.delivery_service.settle(
            DiscardedDelivery(DeliveryRecord(event=META, endpoint_id=7, attempt=2, trigger=Trigger.RETRY), "", "y", "x")
        )
    )
    await settle()
    assert not discarding.done()

    scene.left_behind()[0].acknowledge()
    await discarding


@pytest.mark.parametrize("in_place", [False, True])
async def test_the_attempt_is_written_at_once_when_the_next_delivery_of_its_lane_waits(
    in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene()
    publisher = scene.delivery_service.publisher
    written: list[bool] = []
    attempt = publisher.attempt

    def write(record: Attempt, *, urgent: bool = False) -> asyncio.Future[EntryPosition]:
        written.append(urgent)
        return attempt(record, urgent=urgent)

    monkeypatch.setattr(publisher, "attempt", write)
    discarded = DiscardedDelivery(DeliveryRecord(event=META, endpoint_id=7, attempt=2, trigger=Trigger.RETRY), "", "y", "x")

    await scene.delivery_service.settle(discarded, in_place=in_place)

    assert written == [in_place]


@pytest.mark.parametrize("topic", ["t.webhooks.attempts", "t.webhooks.delay.5s"])
async def test_a_record_that_kafka_refuses_is_an_error(topic: str) -> None:
    scene = Scene()
    scene.sender.exchange = answer(500)
    scene.producer.errors[topic] = PermissionError("not allowed")

    with pytest.raises(PermissionError):
        await scene.deliver()


async def test_no_request_starts_while_kafka_accepts_no_more() -> None:
    scene = Scene()
    scene.producer.rooms = 0
    delivering = asyncio.create_task(scene.deliver())
    await settle()
    assert scene.sender.requests == []

    scene.producer.freed.set()
    await delivering
    assert len(scene.sender.requests) == 1


async def test_a_retry_waits_until_kafka_accepts_its_body() -> None:
    scene = Scene()
    scene.sender.exchange = answer(500)
    scene.producer.rooms = 1  # for the attempt
    delivering = asyncio.create_task(scene.deliver())
    await settle()
    assert (len(scene.attempts()), scene.delayed()) == (1, [])

    scene.producer.freed.set()
    await delivering
    assert len(scene.delayed()) == 1


async def test_a_parked_delivery_waits_until_kafka_accepts_its_body() -> None:
    scene = Scene(width=1)
    assert await scene.limiter.enter(7) is not None
    scene.producer.rooms = 1
    parking = asyncio.create_task(scene.deliver())
    await until(lambda: scene.producer.rooms == -1 or scene.delayed())  # first, the delivery waits a moment for a slot
    await settle()
    assert scene.delayed() == []

    scene.producer.freed.set()
    await parking
    assert len(scene.delayed()) == 1


async def test_a_held_delivery_waits_until_kafka_accepts_its_body() -> None:
    scene = Scene()
    scene.producer.rooms = 0
    holding = asyncio.create_task(scene.deliver(open_endpoint(endpoint_record(active=False), VAULT)))
    await settle()
    assert scene.left_behind() == []

    scene.producer.freed.set()
    await holding
    assert len(scene.left_behind()) == 1


async def test_the_slot_is_free_while_the_records_are_being_written() -> None:
    scene = Scene(hold=True, width=1)
    delivering = asyncio.create_task(scene.deliver())
    await settle()

    assert await scene.limiter.enter(7) is not None
    scene.left_behind()[0].acknowledge()
    await delivering


async def test_a_cancelled_attempt_writes_no_records_and_frees_its_slot() -> None:
    scene = Scene(width=1)
    scene.sender.before = asyncio.Event().wait
    delivering = asyncio.create_task(scene.deliver())
    await settle()

    delivering.cancel()
    await asyncio.gather(delivering, return_exceptions=True)

    assert delivering.cancelled()
    assert scene.left_behind() == []
    assert await scene.limiter.enter(7) is not None


async def test_an_attempt_that_is_cancelled_before_its_acknowledgements_is_not_done() -> None:
    scene = Scene(hold=True)
    delivering = asyncio.create_task(scene.deliver())
    await settle()

    delivering.cancel()
    await asyncio.gather(delivering, return_exceptions=True)

    assert delivering.cancelled()
    scene.left_behind()[0].acknowledge()  # late, and nobody is waiting


async def test_an_error_of_the_sender_frees_the_slot_and_is_raised() -> None:
    scene = Scene(width=1)

    async def fail() -> None:
        raise RuntimeError("the sender is not started")

    scene.sender.before = fail

    with pytest.raises(RuntimeError):
        await scene.deliver()
    assert scene.left_behind() == []
    assert await scene.limiter.enter(7) is not None


# --- what must not stop a role ---


async def test_an_endpoints_answer_never_raises_an_error() -> None:
    scene = Scene()
    scene.sender.exchange = answer(503, (("Retry-After", "Mon, 02 Mar 2026 15:06:00 +9999999999999999"),))

    await scene.deliver()

    assert len(scene.delayed()) == 1


async def test_a_delivery_to_an_endpoint_without_a_secret_is_parked() -> None:
    scene = Scene()

    await scene.deliver(endpoint(secret=None), attempt=2, parked=4)

    [sent] = scene.delayed()
    parked = delivery_of(sent)
    assert (parked.attempt, parked.parked, sent.value) == (2, 5, BODY)
    assert scene.attempts() == []
    assert scene.sender.requests == []
