"""What the delivery service sends, and which records it writes."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta

import msgspec
import pytest
from msgspec import structs
from standardwebhooks.webhooks import Webhook

from pipeline.core.exchange import Exchange
from pipeline.core.redaction import REDACTED
from pipeline.core.signing import SigningKey, new_secret, sign
from pipeline.delivery.delivery import Delivery, DiscardedDelivery
from pipeline.endpoints.endpoint import Endpoint, open_endpoint
from pipeline.ops import metrics
from schemas.attempt import AttemptState, Outcome
from schemas.codec import from_header, to_json
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord, Trigger
from schemas.endpoint import SealedSecret
from tests.unit.delivery.delivery_case import (
    BODY,
    DELAYS,
    NO_ANSWER,
    OLD_SECRET,
    SECRET,
    TOPICS,
    VAULT,
    Scene,
    answer,
    delivery_of,
    endpoint,
)
from tests.unit.sample_events import META, NOW, endpoint_record
from tests.waiting import until

# --- the request ---


async def test_the_body_is_posted_unchanged_and_signed() -> None:
    scene = Scene()

    await scene.deliver()

    [request] = scene.sender.requests
    assert request.url == "https://hooks.example.com/7"
    assert request.body is BODY
    assert request.headers == {
        "content-type": "application/json",
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": sign([SigningKey(SECRET)], "evt_1", int(NOW.timestamp()), BODY),
    }


async def test_headers_for_ordering_are_sent() -> None:
    scene = Scene()
    event = structs.replace(META, key="oms.orders/3/R%0A1", sequence=41)

    await scene.delivery_service.deliver(Delivery(event, BODY, endpoint()))

    [request] = scene.sender.requests
    assert (request.headers["oms-event-key"], request.headers["oms-event-sequence"]) == ("oms.orders/3/R%0A1", "41")
    assert scene.attempts()[0].request_headers["oms-event-sequence"] == "41"


async def test_the_public_verifier_accepts_the_request() -> None:
    scene = Scene()
    scene.now = datetime.now(NOW.tzinfo)

    await scene.deliver(endpoint(rotated=True))

    [request] = scene.sender.requests
    Webhook(SECRET).verify(request.body, dict(request.headers), json_parse=False)


async def test_a_rotated_secret_also_signs_until_its_grace_period_ends() -> None:
    scene = Scene()

    await scene.deliver(endpoint(rotated=True))
    scene.now += timedelta(hours=2)
    await scene.deliver(endpoint(rotated=True))

    assert [len(request.headers["webhook-signature"].split()) for request in scene.sender.requests] == [2, 1]


async def test_a_token_is_sent_and_appears_nowhere_else(capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene()
    scene.sender.exchange = answer(503)

    await scene.deliver(endpoint(token="t0ken-of-7"))

    [request] = scene.sender.requests
    assert request.headers["authorization"] == "Bearer t0ken-of-7"
    assert "t0ken" not in repr(request)
    assert len(scene.left_behind()) == 2
    for sent in scene.left_behind():
        assert b"t0ken" not in repr((sent.key, sent.value, sent.headers)).encode()
    assert "authorization" not in {name.lower() for name in scene.attempts()[0].request_headers}
    for secret in ("t0ken", SECRET.removeprefix("whsec_")):
        assert secret not in "".join(capsys.readouterr())


async def test_all_attempts_have_the_same_id_and_body_but_their_own_time() -> None:
    scene = Scene()
    scene.sender.exchange = answer(500)

    for attempt in range(1, 7):
        scene.now += timedelta(minutes=1)
        await scene.deliver(attempt=attempt)

    assert {request.headers["webhook-id"] for request in scene.sender.requests} == {"evt_1"}
    assert {request.body for request in scene.sender.requests} == {BODY}
    assert len({request.headers["webhook-timestamp"] for request in scene.sender.requests}) == 6
    assert {sent.value for sent in scene.delayed()} == {BODY}


# --- the records ---


async def test_an_acknowledged_attempt_writes_its_record() -> None:
    scene = Scene()
    scene.sender.exchange = answer(204, (("Server", "x"),), b"\xff")

    await scene.deliver(trigger=Trigger.RESEND, attempt=4)

    [sent] = scene.left_behind()
    assert (sent.topic, sent.key, sent.headers) == ("t.webhooks.attempts", None, [])
    [attempt] = scene.attempts()
    assert (attempt.event, attempt.endpoint_id, attempt.target_url) == (META, 7, "https://hooks.example.com/7")
    assert (attempt.attempt, attempt.trigger, attempt.state, attempt.outcome) == (
        4,
        Trigger.RESEND,
        AttemptState.SUCCEEDED,
        Outcome.DELIVERED,
    )
    assert (attempt.http_status_code, attempt.response_body, attempt.response_body_encoding) == (204, "/w==", "base64")
    assert attempt.created_at == NOW - timedelta(milliseconds=250)
    assert attempt.request_headers == dict(scene.sender.requests[0].headers)


@pytest.mark.parametrize("exchange", [answer(500), answer(301), answer(203), NO_ANSWER], ids=["500", "301", "203", "no answer"])
@pytest.mark.parametrize("attempt", range(1, 6))
async def test_a_failed_attempt_writes_its_record_and_the_next_attempt(exchange: Exchange, attempt: int) -> None:
    scene = Scene()
    scene.sender.exchange = exchange

    await scene.deliver(attempt=attempt, parked=3)

    [record] = scene.attempts()
    assert (record.state, record.outcome) == (AttemptState.FAILED, Outcome.RETRIED)
    assert record.next_attempt_at == NOW + DELAYS[attempt - 1]
    [later] = scene.delayed()
    assert (later.topic, later.key) == (TOPICS.delay(DELAYS[attempt - 1]), b"evt_1")
    assert later.value == BODY
    assert delivery_of(later) == DeliveryRecord(event=META, endpoint_id=7, attempt=attempt + 1, trigger=Trigger.RETRY, parked=0)


@pytest.mark.parametrize("exchange", [answer(500), NO_ANSWER], ids=["500", "no answer"])
@pytest.mark.parametrize("attempt", [6, 7, 100])
async def test_the_last_attempt_writes_only_its_record(exchange: Exchange, attempt: int) -> None:
    scene = Scene()
    scene.sender.exchange = exchange

    await scene.deliver(attempt=attempt)

    assert [record.outcome for record in scene.attempts()] == [Outcome.EXHAUSTED]
    assert len(scene.left_behind()) == 1


async def test_a_notification_is_sent_at_most_six_times() -> None:
    scene = Scene()
    scene.sender.exchange = answer(500)
    await scene.deliver()

    while waiting := scene.delayed()[len(scene.sender.requests) - 1 :]:
        delivery = delivery_of(waiting[0])
        await scene.deliver(attempt=delivery.attempt, trigger=delivery.trigger)

    assert len(scene.sender.requests) == 6
    assert [record.attempt for record in scene.attempts()] == [1, 2, 3, 4, 5, 6]
    assert [sent.topic for sent in scene.delayed()] == [TOPICS.delay(delay) for delay in DELAYS]


async def test_retry_after_selects_the_delay() -> None:
    scene = Scene()
    scene.sender.exchange = answer(429, (("Retry-After", "61"),))

    await scene.deliver()

    assert [sent.topic for sent in scene.delayed()] == ["t.webhooks.delay.10m"]
    assert scene.attempts()[0].next_attempt_at == NOW + timedelta(minutes=10)


async def test_a_discarded_attempt_writes_its_record() -> None:
    scene = Scene()
    before = metrics.DISCARDED.labels("endpoint_deleted")._value.get()

    await scene.delivery_service.settle(
        DiscardedDelivery(
            DeliveryRecord(event=META, endpoint_id=7, attempt=2, trigger=Trigger.RETRY),
            "",
            "endpoint_deleted",
            "It was deleted.",
        )
    )

    [record] = scene.attempts()
    assert (record.outcome, record.error, record.attempt, record.endpoint_id) == (Outcome.DISCARDED, "It was deleted.", 2, 7)
    assert scene.sender.requests == []
    assert len(scene.left_behind()) == 1
    assert metrics.DISCARDED.labels("endpoint_deleted")._value.get() == before + 1


async def test_a_delivery_to_an_unknown_endpoint_is_parked_unchanged() -> None:
    scene = Scene()
    before = metrics.PARKED.labels("endpoint_unknown")._value.get()
    later = {"added_later": msgspec.Raw(b"1")}
    due = DeliveryRecord(event=META, endpoint_id=7, attempt=2, trigger=Trigger.RESEND, parked=1, later=later)

    await scene.delivery_service.park_for_unknown_endpoint(due, BODY)

    [sent] = scene.left_behind()
    assert (sent.topic, sent.value) == ("t.webhooks.delay.1m", BODY)
    assert delivery_of(sent) == structs.replace(due, parked=2)
    assert metrics.PARKED.labels("endpoint_unknown")._value.get() == before + 1


# --- the endpoint's concurrency limit ---


async def test_a_delivery_above_the_limit_is_parked_without_using_up_an_attempt() -> None:
    scene = Scene(width=1)
    await scene.limiter.enter(7)

    await scene.deliver(attempt=4, trigger=Trigger.RESEND, parked=2)

    assert scene.sender.requests == []
    [sent] = scene.left_behind()
    assert (sent.topic, sent.key) == ("t.webhooks.delay.10m", b"evt_1")
    assert sent.value == BODY
    assert delivery_of(sent) == DeliveryRecord(event=META, endpoint_id=7, attempt=4, trigger=Trigger.RESEND, parked=3)


async def test_parking_is_done_when_it_is_acknowledged() -> None:
    scene = Scene(width=1, hold=True)
    await scene.limiter.enter(7)
    delivering = asyncio.create_task(scene.deliver())
    [sent] = await until(scene.left_behind)
    assert not delivering.done()

    sent.acknowledge()
    await delivering


async def test_a_delivery_to_a_paused_endpoint_is_held_without_using_up_an_attempt() -> None:
    scene = Scene()
    paused = open_endpoint(endpoint_record(active=False), VAULT)
    await scene.deliver(paused, attempt=3, parked=2)

    assert scene.sender.requests == []
    [held] = scene.left_behind()
    assert (held.topic, held.key, held.value) == (TOPICS.held, b"7", BODY)
    waiting = from_header(held.headers, DELIVERY_HEADER, DeliveryRecord)
    assert (waiting.endpoint_id, waiting.attempt, waiting.parked) == (7, 3, 2)


async def _waiting_while_its_endpoint_becomes(changed: Endpoint | None) -> Scene:
    """Two deliveries to an endpoint that accepts one at a time. While the second waits, the endpoint changes."""
    scene = Scene(width=1, current=lambda _: known)
    known: Endpoint | None = endpoint()
    release = asyncio.Event()
    scene.sender.before = release.wait
    delivering = [asyncio.create_task(scene.deliver(known)) for _ in range(2)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(scene.sender.requests) == 1
    known = changed
    release.set()
    await asyncio.gather(*delivering)
    return scene


async def test_a_waiting_delivery_is_sent_to_the_current_version_of_the_endpoint() -> None:
    secret = new_secret()
    changed = endpoint_record(
        target_url="https://new.example.com/", secrets=(SealedSecret(sealed=VAULT.seal(secret)),), version=2
    )

    scene = await _waiting_while_its_endpoint_becomes(open_endpoint(changed, VAULT))

    first, second = scene.sender.requests
    assert first.url == "https://hooks.example.com/7"
    assert second.url == scene.attempts()[1].target_url == "https://new.example.com/"
    assert second.headers["webhook-signature"] == sign([SigningKey(secret)], "evt_1", int(NOW.timestamp()), BODY)


@pytest.mark.parametrize("becomes", [open_endpoint(endpoint_record(active=False), VAULT), None], ids=["paused", "deleted"])
async def test_a_waiting_delivery_is_held_if_its_endpoint_is_paused_or_deleted(becomes: Endpoint | None) -> None:
    scene = await _waiting_while_its_endpoint_becomes(becomes)

    assert len(scene.sender.requests) == len(scene.attempts()) == 1
    [held] = scene.producer.to(TOPICS.held)
    assert from_header(held.headers, DELIVERY_HEADER, DeliveryRecord).attempt == 1


async def test_a_waiting_delivery_is_parked_if_its_endpoint_becomes_unusable() -> None:
    scene = await _waiting_while_its_endpoint_becomes(open_endpoint(endpoint_record(secrets=()), VAULT))

    assert len(scene.sender.requests) == 1
    [parked] = scene.delayed()
    assert (delivery_of(parked).attempt, delivery_of(parked).parked) == (1, 1)


async def test_concurrent_requests_to_one_endpoint_are_limited() -> None:
    scene = Scene(width=3)
    release = asyncio.Event()
    scene.sender.before = release.wait
    delivering = [asyncio.create_task(scene.deliver()) for _ in range(10)]
    await until(lambda: len(scene.delayed()) >= 7)

    assert len(scene.sender.requests) == 3
    assert len(scene.delayed()) == 7
    release.set()
    await asyncio.gather(*delivering)
    assert len(scene.attempts()) == 3


async def test_one_endpoint_at_its_limit_leaves_room_for_another() -> None:
    scene = Scene(width=1)
    await scene.limiter.enter(8)

    await scene.deliver()

    assert len(scene.attempts()) == 1


@pytest.mark.parametrize(
    ("trigger", "retry"),
    [(Trigger.EVENT, Trigger.RETRY), (Trigger.RETRY, Trigger.RETRY), (Trigger.RESEND, Trigger.RESEND)],
)
async def test_retries_of_a_resend_are_resends(trigger: Trigger, retry: Trigger) -> None:
    scene = Scene()
    scene.sender.exchange = answer(500)

    await scene.deliver(trigger=trigger)

    [delayed] = scene.delayed()
    assert (delivery_of(delayed).trigger, delivery_of(delayed).attempt) == (retry, 2)


async def test_a_test_delivery_is_attempted_once_and_its_record_returned() -> None:
    scene = Scene()
    scene.sender.exchange = answer(500)

    attempt, place = await scene.delivery_service.test(Delivery(META, BODY, endpoint(), trigger=Trigger.TEST))

    assert (attempt.trigger, attempt.outcome, attempt.next_attempt_at) == (Trigger.TEST, Outcome.EXHAUSTED, None)
    assert scene.attempts() == [attempt]
    assert place == (0, 0, 0)
    assert scene.delayed() == []


async def test_custom_headers_are_sent_but_only_their_names_are_recorded() -> None:
    scene = Scene()
    record = structs.replace(
        endpoint().record, sealed_headers={"x-tenant": VAULT.seal("s3cret"), "webhook-id": VAULT.seal("never ours")}
    )

    await scene.deliver(open_endpoint(record, VAULT))

    [sent] = scene.sender.requests
    assert (sent.headers["x-tenant"], sent.headers["webhook-id"]) == ("s3cret", META.id)
    [attempt] = scene.attempts()
    assert (attempt.request_headers["x-tenant"], attempt.request_headers["webhook-id"]) == (REDACTED, META.id)
    assert "s3cret" not in to_json(attempt).decode()
    assert "s3cret" not in repr(open_endpoint(record, VAULT))


@pytest.mark.parametrize("is_test", [False, True], ids=["delivery", "test delivery"])
async def test_our_secrets_in_a_receivers_answer_are_never_recorded(is_test: bool, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    record = structs.replace(
        endpoint(token="t0ken-of-the-endpoint", rotated=True).record,
        sealed_headers={"x-api-key": VAULT.seal("value-of-a-header")},
    )

    async def echo() -> None:
        sent = scene.sender.requests[-1].headers
        headers = tuple((f"Echo-{name}", value) for name, value in sent.items())
        scene.sender.exchange = answer(500, headers, json.dumps(dict(sent) | {"env": [SECRET, OLD_SECRET]}).encode())

    scene.sender.before = echo

    if is_test:
        await scene.delivery_service.test(Delivery(META, BODY, open_endpoint(record, VAULT), trigger=Trigger.TEST))
    else:
        await scene.deliver(open_endpoint(record, VAULT))

    [attempt] = scene.attempts()
    written = b"".join(sent.value or b"" for sent in scene.producer.sent).decode() + to_json(attempt).decode() + caplog.text
    for secret in ("t0ken-of-the-endpoint", "value-of-a-header", SECRET[6:], OLD_SECRET[6:]):
        assert secret not in written
    headers = dict(attempt.response_headers)
    assert (headers["Echo-authorization"], headers["Echo-x-api-key"]) == (f"Bearer {REDACTED}", REDACTED)
    assert headers["Echo-webhook-signature"].startswith("v1,")  # it is no secret
    assert json.loads(attempt.response_body)["env"] == [f"whsec_{REDACTED}"] * 2
