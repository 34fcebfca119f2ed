"""Endpoints that are verified before anything is delivered to them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from pipeline.broker.errors import PublishError
from pipeline.core.exchange import Failure, NoResponse, Response
from pipeline.core.local_faults import LocalFault, NotSent
from pipeline.delivery.delivery import Delivery
from pipeline.delivery.signed_request import signed_request
from schemas.batch import read_attempts
from schemas.delivery import Trigger
from tests.unit.delivery.delivery_case import answer
from tests.unit.sample_events import META
from tests.unit.web.endpoint_requests import INVALID, PATH, request, wrapped
from tests.unit.web.service import NOW, TOPICS, Service

HANDSHAKE = "cloudevents_handshake"
EVENT_ASKED = "signed_event"


def allowing(origin: str = "hooks.example.com", **more: str) -> Response:
    headers = {"WebHook-Allowed-Origin": origin} | more
    return replace(answer(200), headers=tuple(headers.items()))


async def test_an_endpoint_is_verified_only_on_request(service: Service) -> None:
    identifier = await service.create()
    _, shown = await request(service, "GET", f"{PATH}/{identifier}")
    assert (shown["verification"], shown["state"], shown["verified_at"]) == ("none", "active", None)
    assert service.sender.requests == []
    status, refused = await request(service, "POST", f"{PATH}/{identifier}/verify")
    assert status == 409
    assert "Set verification to" in refused["error"]


async def test_a_handshake_at_registration(service: Service) -> None:
    service.sender.exchange = allowing()
    identifier = await service.create(verification=HANDSHAKE, token="t0ken", headers={"X-Key": "hunter2"})
    [asked] = service.sender.requests
    assert (asked.method, dict(asked.headers), asked.body) == ("OPTIONS", {"webhook-request-origin": "hooks.example.com"}, b"")
    _, shown = await request(service, "GET", f"{PATH}/{identifier}")
    assert (shown["state"], shown["active"], shown["verification_problem"]) == ("active", True, None)
    assert shown["verified_at"] is not None
    assert [change.change for change in service.kafka.changes] == ["create", "verify"]

    endpoint = service.kafka.registry.get(identifier)
    assert endpoint is not None
    sent = signed_request(Delivery(META, b"{}", endpoint), None, NOW)
    assert sent.request.headers["origin"] == "hooks.example.com"  # the receiver has allowed this origin, and may check it


@pytest.mark.parametrize(
    ("field", "setting"),
    [
        ("headers", {"Origin": "https://shop.example"}),
        ("authentication", {"type": "api_key", "header": "Origin", "key": "hunter2-key-of-theirs"}),
        ("signature_header", {"name": "Origin"}),
    ],
)
async def test_a_header_that_a_handshake_would_overwrite_is_refused(
    service: Service, field: str, setting: dict[str, str]
) -> None:
    """A verified endpoint's own Origin header used to be replaced silently."""
    service.sender.exchange = allowing()
    given: dict[str, Any] = {field: setting}
    fields = {"target_url": "http://127.0.0.1/", "events": ["order_completed"], "verification": HANDSHAKE} | given
    status, refused = await request(service, "POST", **wrapped(**fields))
    assert (status, list(refused["errors"])) == (422, [field])
    assert "deliveries have the header origin" in refused["errors"][field][0]

    with_header = await service.create(verification=EVENT_ASKED, **given)
    with_handshake = await service.create("http://127.0.0.1/other", verification=HANDSHAKE)
    for identifier, more in ((with_header, {"verification": HANDSHAKE}), (with_handshake, given)):
        status, refused = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(**more))
        assert (status, list(refused["errors"])) == (422, [field])
    cleared: dict[str, Any] = {"headers": None, "authentication": {"type": "none"}, "signature_header": None}
    status, changed = await request(
        service, "PATCH", f"{PATH}/{with_header}", **wrapped(verification=HANDSHAKE, **{field: cleared[field]})
    )
    assert (status, changed["state"]) == (200, "active")


async def test_an_endpoint_that_refuses_is_unverified_and_can_be_verified_later(service: Service) -> None:
    status, made = await request(
        service, "POST", **wrapped(target_url="http://127.0.0.1/", events=["order_completed"], verification=HANDSHAKE)
    )
    assert (status, made["state"], made["active"]) == (201, "unverified", False)
    assert made["secret"]
    assert "no WebHook-Allowed-Origin header" in made["verification_problem"]

    _, sent_back = await request(service, "PUT", f"{PATH}/{made['id']}", **wrapped(**made | {"description": "new"}))
    assert (sent_back["state"], sent_back["description"]) == ("unverified", "new")  # not paused

    service.sender.exchange = allowing("*")
    status, found = await request(service, "POST", f"{PATH}/{made['id']}/verify")
    assert (status, found["state"], found["verification_problem"]) == (200, "active", None)

    service.sender.exchange = answer(405)  # a refusal of a later verification makes the endpoint unverified
    status, found = await request(service, "POST", f"{PATH}/{made['id']}/verify")
    assert (status, found["state"], found["verified_at"]) == (200, "unverified", None)


async def test_the_allowed_rate_becomes_the_limit(service: Service) -> None:
    service.sender.exchange = allowing(**{"WebHook-Allowed-Rate": "120"})
    identifier = await service.create(verification=HANDSHAKE, max_per_second=10)
    assert service.kafka.changes[-1].max_per_second == 2
    await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(max_per_second=1))
    await request(service, "POST", f"{PATH}/{identifier}/verify")
    assert service.kafka.changes[-1].max_per_second == 1


async def test_a_rate_above_our_maximum_becomes_that_maximum(service: Service) -> None:
    service.sender.exchange = allowing(**{"WebHook-Allowed-Rate": "999999999999"})
    identifier = await service.create(verification=HANDSHAKE)
    limit = service.kafka.changes[-1].max_per_second
    status, _ = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(max_per_second=limit))
    assert (status, limit) == (200, 10_000), "a form that is sent back unchanged is accepted"


async def test_a_signed_event_must_be_acknowledged(service: Service) -> None:
    identifier = await service.create(verification=EVENT_ASKED, token="t0ken")
    [asked] = service.sender.requests
    body = json.loads(asked.body)
    assert (asked.method, body["event_name"], body["data"]["endpoint_id"]) == ("POST", "webhook.verify", identifier)
    assert asked.headers["webhook-id"] == body["id"]
    assert asked.headers["webhook-signature"].startswith("v1,")
    assert "Bearer t0ken" in asked.headers.values()
    assert [change.change for change in service.kafka.changes] == ["create", "verify"]
    [attempt] = read_attempts(service.kafka.to(TOPICS.attempts)[0].value or b"")
    assert (attempt.event.event_name, attempt.trigger) == ("webhook.verify", Trigger.TEST)  # it does not count as a delivery
    assert service.kafka.to(TOPICS.dispatches)[0].value == asked.body


@pytest.mark.parametrize("status", [200, 201, 202, 204, 203, 301, 400, 401, 404, 500])
async def test_which_statuses_acknowledge_a_signed_event(service: Service, status: int) -> None:
    service.sender.exchange = answer(status)
    identifier = await service.create(verification=EVENT_ASKED)
    _, shown = await request(service, "GET", f"{PATH}/{identifier}")
    is_good = status in (200, 201, 202, 204)
    assert shown["state"] == ("active" if is_good else "unverified")
    assert is_good or str(status) in shown["verification_problem"]


@pytest.mark.parametrize("topic", [TOPICS.attempts, TOPICS.dispatches])
async def test_a_verification_that_cannot_be_recorded_does_not_fail_the_registration(service: Service, topic: str) -> None:
    service.kafka.errors[topic] = PublishError(f"no permission to write {topic}")
    status, made = await request(
        service, "POST", **wrapped(target_url="http://127.0.0.1/", events=["order_completed"], verification=EVENT_ASKED)
    )
    assert (status, made["state"]) == (201, "unverified")
    assert made["secret"], "it is shown only once"

    status, refused = await request(service, "POST", f"{PATH}/{made['id']}/verify")
    assert status == 503
    assert refused["error"] == f"The verification could not be recorded, so it does not count. no permission to write {topic}"

    service.kafka.errors.clear()
    status, found = await request(service, "POST", f"{PATH}/{made['id']}/verify")
    assert (status, found["state"]) == (200, "active")


async def test_a_timeout_or_own_fault_does_not_verify(service: Service) -> None:
    service.sender.exchange = NoResponse(Failure.TIMEOUT, "no answer within 15 s", 15_000.0)
    identifier = await service.create(verification=HANDSHAKE)
    assert "no answer within 15 s" in service.kafka.changes[-1].verification_problem
    service.sender.exchange = NotSent(LocalFault.DESCRIPTORS, "There are no file descriptors left.")
    _, found = await request(service, "POST", f"{PATH}/{identifier}/verify")
    assert "fault on our side" in found["verification_problem"]
    assert "file descriptors" in found["verification_problem"]


async def test_an_own_fault_does_not_unverify_an_endpoint(service: Service) -> None:
    service.sender.exchange = answer(204)
    identifier = await service.create(verification=EVENT_ASKED)
    service.sender.exchange = NotSent(LocalFault.DESCRIPTORS, "There are no file descriptors left.")
    status, found = await request(service, "POST", f"{PATH}/{identifier}/verify")
    assert (status, "The endpoint stays verified." in found["error"]) == (503, True)
    _, shown = await request(service, "GET", f"{PATH}/{identifier}")
    assert shown["state"] == "active"


async def test_only_a_new_url_is_verified_again(service: Service) -> None:
    identifier = await service.create(verification=EVENT_ASKED)
    await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(description="x", token="n3w"))
    await request(
        service, "PATCH", f"{PATH}/{identifier}", **wrapped(target_url="http://127.0.0.1/hooks", verification=EVENT_ASKED)
    )
    assert len(service.sender.requests) == 1

    service.sender.exchange = answer(404)
    _, moved = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(target_url="http://127.0.0.1/other"))
    assert (moved["state"], moved["verified_at"]) == ("unverified", None)
    assert service.sender.requests[-1].url == "http://127.0.0.1/other"

    _, back = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(target_url="http://127.0.0.1/hooks"))
    assert back["state"] == "unverified", "a URL that was verified before is verified again, too"

    _, unasked = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(verification=None))
    assert (unasked["verification"], unasked["state"], unasked["verification_problem"]) == ("none", "active", None)


async def test_a_url_changed_by_an_older_process_is_unverified(service: Service) -> None:
    identifier = await service.create(verification=EVENT_ASKED)
    endpoint = service.kafka.registry.get(identifier)
    assert endpoint is not None
    assert not endpoint.is_unverified
    moved = structs.replace(endpoint.record, target_url="http://127.0.0.1/else")
    assert replace(endpoint, record=moved).is_unverified
    assert not replace(endpoint, record=moved).active


async def test_a_url_changed_during_verification_is_not_verified(service: Service) -> None:
    service.sender.exchange = answer(500)
    identifier = await service.create(verification=EVENT_ASKED)
    service.sender.exchange = answer(200)

    async def move() -> None:
        service.sender.before = None
        service.sender.exchange = answer(500)
        await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(target_url="http://127.0.0.1/moved"))
        service.sender.exchange = answer(200)

    service.sender.before = move
    _, found = await request(service, "POST", f"{PATH}/{identifier}/verify")
    assert (found["target_url"], found["state"]) == ("http://127.0.0.1/moved", "unverified")


async def test_a_paused_endpoint_stays_paused(service: Service) -> None:
    identifier = await service.create(verification=EVENT_ASKED, active=False)
    _, shown = await request(service, "GET", f"{PATH}/{identifier}")
    assert (shown["state"], shown["verified_at"] is not None) == ("paused", True)


async def test_the_secret_is_shown_even_if_the_verdict_cannot_be_written(service: Service) -> None:
    async def kafka_fails() -> None:
        service.kafka.is_down = True

    service.sender.before = kafka_fails
    status, made = await request(
        service, "POST", **wrapped(target_url="http://127.0.0.1/", events=["order_completed"], verification=HANDSHAKE)
    )
    assert (status, made["state"], made["verification_problem"]) == (201, "unverified", None)
    assert made["secret"].startswith("whsec_")


async def test_no_request_is_made_if_the_version_does_not_match(service: Service) -> None:
    identifier = await service.create(verification=EVENT_ASKED)
    status, _ = await request(service, "POST", f"{PATH}/{identifier}/verify", headers={"If-Match": '"1"'})
    assert status == 412
    assert len(service.sender.requests) == 1


@pytest.mark.parametrize("value", ["always", "", 1, ["none"], True])
async def test_invalid_verification_is_refused(service: Service, value: object) -> None:
    status, refused = await request(
        service, "POST", **wrapped(target_url="http://127.0.0.1/", events=["order_completed"], verification=value)
    )
    assert (status, refused["error"]) == (422, INVALID)
    assert refused["errors"]["verification"] == ["verification must be one of none, cloudevents_handshake, signed_event."]
