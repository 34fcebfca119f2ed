from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from pipeline.broker.errors import PublishError
from pipeline.core.signing import SigningKey
from schemas.health import HealthFact, HealthRecord
from tests.unit.sample_events import NOW
from tests.unit.web.endpoint_requests import INVALID, NOT_FOUND, PATH, SHOWN, authenticated, request, wrapped
from tests.unit.web.service import API_KEY, LATER, TOPICS, Service

ACTOR = f"api-key:{hashlib.sha256(API_KEY.encode()).hexdigest()[:8]}"


@pytest.mark.parametrize("path", [PATH, f"{PATH}/", f"/v1{PATH}/"])
async def test_the_location_of_a_new_endpoint_exists(service: Service, path: str) -> None:
    async with service.client.post(path, **wrapped(target_url="http://127.0.0.1/", events=["order_completed"])) as response:
        location = response.headers["Location"]
    assert (location, (await request(service, "GET", location))[0]) == (f"{path.rstrip('/')}/1", 200)


async def test_a_new_endpoints_secret_is_returned_once(service: Service) -> None:
    fields = wrapped(
        target_url="http://127.0.0.1/hooks",
        events=["shipment_shipped", "order_completed"],
        token="t0ken-of-theirs",
        filters={"channel": "spree"},
        description="ERP",
        favourite_colour="blue",
    )
    async with service.client.post(PATH, **fields) as response:
        created = await response.json()

    assert (response.status, response.headers["Location"]) == (201, f"{PATH}/{created['id']}")
    SigningKey(created.pop("secret"))  # raises if it is invalid
    assert created.pop("ignored_fields") == ["favourite_colour"]
    assert created == {
        "id": 1,
        "target_url": "http://127.0.0.1/hooks",
        "events": ["order_completed", "shipment_shipped"],
        "active": True,
        "description": "ERP",
        "filters": ['data.channel == "spree"'],
        "filter_failure": None,
        "has_token": True,
        "authentication": authenticated("bearer"),
        "signature_versions": ["v1"],
        "public_keys": [],
        "signature_header": None,
        "client_certificate": None,
        "header_names": [],
        "unsent_headers": [],
        "created_at": "2026-03-02T15:04:00.512Z",
        "updated_at": "2026-03-02T15:04:00.512Z",
        "version": 1,
        "max_per_second": None,
        "state": "active",
        "disabled_reason": None,
        "disabled_at": None,
        "disabled_by": None,
        "failing_since": None,
        "circuit": "closed",
        "problem": None,
        "held_count": 0,
        "held_since": None,
        "will_be_disabled_at": None,
        "owner_told": [],
        "retry_policy": "standard",
        "retry_delays": ["5s", "1m", "10m", "1h", "6h"],
        "retry_words": "Retries after 5 s, 1 min, 10 min, 1 h and 6 h; gives up after 7 h 11 min.",
        "verification": "none",
        "verified_at": None,
        "verification_problem": None,
        "ordered": False,
        "event_type_versions": {},
        "in_order": None,
    }
    assert await request(service, "GET", f"{PATH}/1") == (200, created)
    assert (await request(service, "GET"))[1]["endpoints"] == [created]


async def test_the_record_has_encrypted_secrets_and_its_author(service: Service) -> None:
    _, created = await request(
        service, "POST", **wrapped(target_url="http://127.0.0.1/", events=["order_completed"], token="t0ken")
    )
    (record,) = service.kafka.changes
    assert (record.change, record.changed_by, record.version) == ("create", ACTOR, 1)
    assert service.vault.open(record.secrets[0].sealed) == created["secret"]
    assert service.vault.open(record.sealed_token or "") == "t0ken"
    written = b"".join(one.value or b"" for one in service.kafka.written)
    assert created["secret"].encode() not in written
    assert b"t0ken" not in written.replace(b"sealed_token", b"")


async def test_registering_a_known_url_returns_its_endpoint(service: Service) -> None:
    first = await service.create("http://127.0.0.1/one", description="first")
    status, again = await request(
        service, "POST", **wrapped(target_url="http://127.0.0.1/one", events=["order_cancelled"], description="second")
    )
    assert (status, again["id"], again["description"], again["events"]) == (200, first, "first", ["order_completed"])
    assert list(again) == [*SHOWN, "ignored_fields"]
    assert len(service.kafka.changes) == 1


async def test_simultaneous_creates_of_one_url_create_one_endpoint(service: Service) -> None:
    fields = wrapped(target_url="http://127.0.0.1/race", events=["order_completed"])
    answers = await asyncio.gather(*(request(service, "POST", **fields) for _ in range(5)))
    assert sorted(status for status, _ in answers) == [200, 200, 200, 200, 201]
    assert len({body["id"] for _, body in answers}) == 1
    assert [("secret" in body) for _, body in answers].count(True) == 1
    assert (await request(service, "GET"))[1]["total_count"] == 1


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_only_given_fields_change(service: Service, method: str) -> None:
    identifier = await service.create(token="t0ken", description="old", filters={"channel": "spree"})
    before = service.kafka.changes[-1]
    service.now[0] = LATER

    status, updated = await request(service, method, f"{PATH}/{identifier}", **wrapped(active=False, description="new", x=1))

    assert status == 200
    assert updated.pop("ignored_fields") == ["x"]
    assert updated == {
        "id": identifier,
        "target_url": "http://127.0.0.1/hooks",
        "events": ["order_completed"],
        "active": False,
        "description": "new",
        "filters": ['data.channel == "spree"'],
        "filter_failure": None,
        "has_token": True,
        "authentication": authenticated("bearer"),
        "signature_versions": ["v1"],
        "public_keys": [],
        "signature_header": None,
        "client_certificate": None,
        "header_names": [],
        "unsent_headers": [],
        "created_at": "2026-03-02T15:04:00.512Z",
        "updated_at": "2026-03-02T16:00:00.000Z",
        "version": 2,
        "max_per_second": None,
        "state": "paused",
        "disabled_reason": None,
        "disabled_at": None,
        "disabled_by": None,
        "failing_since": None,
        "circuit": "closed",
        "problem": None,
        "held_count": 0,
        "held_since": None,
        "will_be_disabled_at": None,
        "owner_told": [],
        "retry_policy": "standard",
        "retry_delays": ["5s", "1m", "10m", "1h", "6h"],
        "retry_words": "Retries after 5 s, 1 min, 10 min, 1 h and 6 h; gives up after 7 h 11 min.",
        "verification": "none",
        "verified_at": None,
        "verification_problem": None,
        "ordered": False,
        "event_type_versions": {},
        "in_order": None,
    }
    assert await request(service, "GET", f"{PATH}/{identifier}") == (200, updated)
    after = service.kafka.changes[-1]
    assert (after.change, after.changed_by, after.version) == ("update", ACTOR, 2)
    assert (after.secrets, after.sealed_token) == (before.secrets, before.sealed_token)


async def test_a_token_is_changed_and_removed(service: Service) -> None:
    identifier = await service.create()
    status, updated = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(token="n3w"))
    assert (status, updated["has_token"]) == (200, True)
    assert service.vault.open(service.kafka.changes[-1].sealed_token or "") == "n3w"
    status, updated = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(token=None))
    assert (status, updated["has_token"], service.kafka.changes[-1].sealed_token) == (200, False, None)


async def test_an_update_without_known_fields_changes_nothing(service: Service) -> None:
    identifier = await service.create()
    status, same = await request(service, "PUT", f"{PATH}/{identifier}", **wrapped(unknown=1))
    assert (status, same["version"], same["ignored_fields"]) == (200, 1, ["unknown"])
    assert len(service.kafka.changes) == 1


async def test_simultaneous_updates_are_all_kept(service: Service) -> None:
    identifier = await service.create()
    changes: list[dict[str, Any]] = [{"description": "d"}, {"active": False}, {"token": "t"}, {"filters": {"channel": "x"}}]
    answers = await asyncio.gather(*(request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(**one)) for one in changes))
    assert sorted(body["version"] for _, body in answers) == [2, 3, 4, 5]
    _, endpoint = await request(service, "GET", f"{PATH}/{identifier}")
    kept = [endpoint["description"], endpoint["active"], endpoint["has_token"], endpoint["filters"], endpoint["version"]]
    assert kept == ["d", False, True, ['data.channel == "x"'], 5]


async def test_the_url_of_another_endpoint_cannot_be_used(service: Service) -> None:
    first, second = await service.create("http://127.0.0.1/1"), await service.create("http://127.0.0.1/2")
    status, body = await request(service, "PATCH", f"{PATH}/{second}", **wrapped(target_url="http://127.0.0.1/1"))
    sentence = f"target_url is already registered as endpoint {first}. Change or delete that endpoint."
    assert (status, body) == (422, {"error": INVALID, "errors": {"target_url": [sentence]}})

    status, body = await request(service, "PATCH", f"{PATH}/{second}", **wrapped(target_url="http://127.0.0.1/2", active=False))
    assert (status, body["active"]) == (200, False)


async def test_deleting_an_endpoint_also_removes_its_secrets(service: Service) -> None:
    identifier = await service.create(token="t0ken", filters={"channel": "spree"})
    assert await request(service, "DELETE", f"{PATH}/{identifier}") == (204, b"")

    for method in ("GET", "DELETE", "PATCH"):
        body = wrapped(active="wrong") if method in ("PUT", "PATCH") else {}
        assert await request(service, method, f"{PATH}/{identifier}", **body) == (404, NOT_FOUND)
    last = service.kafka.changes[-1]
    assert (last.deleted, last.change, last.changed_by, last.version) == (True, "delete", ACTOR, 2)
    assert (last.sealed_token, last.secrets, last.filters) == (None, (), {})
    # The URL is free again, for an endpoint with another id.
    assert await service.create() > identifier


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("ftp://127.0.0.1/", "must start with http"),
        ("http://10.0.0.5/", "must be reachable from the public internet: 10.0.0.5 is a private address (10.0.0.0/8)."),
        ("http://[::1]/", "loopback"),
        ("http://169.254.169.254/latest", "link-local"),
        ("http://u:hunter2@127.0.0.1/", "must not contain a user name or a password"),
        ("http://127.0.0.1/#x", "fragment"),
        ("http://127.0.0.1/ x", "spaces"),
        ("http://127.0.0.1/\0", "control characters"),
        ("http://127.0.0.1/" + "x" * 2048, "longer than 2048"),
    ],
)
async def test_an_invalid_target_url_is_refused(service: Service, url: str, part: str) -> None:
    identifier = await service.create()
    for method, path in (("POST", PATH), ("PATCH", f"{PATH}/{identifier}")):
        status, body = await request(service, method, path, **wrapped(target_url=url, events=["order_completed"]))
        assert (status, body["error"], list(body["errors"])) == (422, INVALID, ["target_url"])
        assert part in body["errors"]["target_url"][0]
        assert "hunter2" not in str(body)
    assert len(service.kafka.changes) == 1


@pytest.mark.parametrize("data", [b"", b"not json", b"{}", b'{"endpoint": 1}', b"[" * 100_000, b"\0"])
async def test_a_body_without_an_endpoint_is_explained(service: Service, data: bytes) -> None:
    identifier = await service.create()
    for method, path in (("POST", PATH), ("PUT", f"{PATH}/{identifier}")):
        status, body = await request(service, method, path, data=data)
        assert (status, body["error"]) == (422, INVALID)
        assert list(body["errors"]) in (["body"], ["endpoint"])


async def test_every_invalid_field_is_named(service: Service) -> None:
    status, body = await request(
        service, "POST", **wrapped(target_url=1, events=["x"], token="a b", filters="x", active="yes", description={})
    )
    assert (status, body["error"]) == (422, INVALID)
    assert sorted(body["errors"]) == ["active", "description", "events", "filters", "target_url", "token"]
    assert "a b" not in str(body)
    status, body = await request(service, "POST", **wrapped())
    assert body["errors"] == {"target_url": ["target_url is required."], "events": ["events is required."]}
    assert not service.kafka.written


@pytest.mark.parametrize("identifier", ["0", "2", "x", "-1", "1.0", "1e3", "%31%00", "9" * 18, "9" * 5000, "१", "1%20", "null"])
async def test_invalid_ids_are_not_found(service: Service, identifier: str) -> None:
    assert await service.create() == 1
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        body = wrapped(active=False) if method in ("PUT", "PATCH") else {}
        assert await request(service, method, f"{PATH}/{identifier}", **body) == (404, NOT_FOUND)
    assert len(service.kafka.changes) == 1


async def test_no_change_is_begun_while_kafka_accepts_none(service: Service) -> None:
    """In a long outage, each change would wait for ten seconds, and take effect when nobody expects it any more."""
    identifier = await service.create()
    written = len(service.kafka.records)
    service.kafka.stuck = {TOPICS.endpoints}
    sentence = "Kafka is not accepting changes to endpoints right now (see /readyz), so nothing was changed. Try again later."
    fields = wrapped(target_url="http://127.0.0.1/new", events=["order_completed"])
    assert await request(service, "POST", **fields) == (503, {"error": sentence})
    assert await request(service, "DELETE", f"{PATH}/{identifier}") == (503, {"error": sentence})
    assert len(service.kafka.records) == written
    service.kafka.stuck = set()
    assert (await request(service, "DELETE", f"{PATH}/{identifier}"))[0] == 204


async def test_a_change_is_not_confirmed_without_kafka(service: Service) -> None:
    identifier = await service.create()
    service.kafka.is_down = True
    sentence = "Kafka did not confirm the change in time. It may still take effect. Check the endpoint before you try again."
    fields = wrapped(target_url="http://127.0.0.1/new", events=["order_completed"])
    changes = [
        request(service, "POST", **fields),
        request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(active=False)),
        request(service, "DELETE", f"{PATH}/{identifier}"),
    ]
    assert await asyncio.gather(*changes) == [(503, {"error": sentence})] * 3
    # Reading continues, and writing resumes as soon as Kafka is back.
    assert (await request(service, "GET", f"{PATH}/{identifier}"))[1]["active"] is True
    service.kafka.is_down = False
    assert (await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(active=False)))[0] == 200
    assert (await request(service, "POST", **fields))[0] == 201


async def test_endpoints_are_unavailable_until_they_have_been_read(service: Service) -> None:
    service.kafka.registry.table.is_caught_up = False
    sentence = {"error": "The endpoints are still being loaded. Try again in a moment."}
    fields = wrapped(target_url="http://127.0.0.1/", events=["order_completed"])
    for method, path in (("GET", PATH), ("POST", PATH), ("GET", f"{PATH}/1"), ("PUT", f"{PATH}/1"), ("DELETE", f"{PATH}/1")):
        body = fields if method in ("POST", "PUT") else {}
        assert await request(service, method, path, **body) == (503, sentence)


async def test_secrets_appear_in_no_answer_and_no_log(service: Service, logs: pytest.LogCaptureFixture) -> None:
    token = "t0ken-of-theirs"
    _, created = await request(
        service, "POST", **wrapped(target_url="http://127.0.0.1/", events=["order_completed"], token=token, extra=token)
    )
    secret, identifier = created.pop("secret"), created["id"]
    texts = [str(created)]
    for method, path, fields in (
        ("GET", PATH, {}),
        ("GET", f"{PATH}/{identifier}", {}),
        ("POST", PATH, wrapped(target_url="http://127.0.0.1/", events=["order_completed"], token=token)),
        ("PATCH", f"{PATH}/{identifier}", wrapped(token=token)),
        ("PATCH", f"{PATH}/{identifier}", wrapped(token=f"{token} ")),
        ("PATCH", f"{PATH}/{identifier}", wrapped(token=[token], secret=secret)),
        ("GET", f"{PATH}?q[token_eq]={token}", {}),
        ("DELETE", f"{PATH}/{identifier}", {}),
    ):
        _, body = await request(service, method, path, **fields)
        if "q[" not in path:
            texts.append(str(body))
    assert logs.text.count("an endpoint was") == 3
    for hidden in (token, secret, secret.removeprefix("whsec_"), API_KEY, service.kafka.changes[0].sealed_token):
        assert hidden is not None
        assert hidden not in "".join(texts)
        assert hidden not in logs.text


async def test_a_failing_filter_is_shown_until_it_is_changed(service: Service) -> None:
    identifier = await service.create(filters=["data.total > 100"])
    service.learn(
        HealthRecord(
            endpoint_id=identifier,
            endpoint_version=1,
            fact=HealthFact.FILTER,
            at=NOW,
            reason="type",
            detail="Values of different kinds were compared.",
            event_id="evt_9",
            expression="data.total > 100",
            count=3,
        )
    )
    _, shown = await request(service, "GET", f"{PATH}/{identifier}")
    assert shown["filter_failure"] == {
        "expression": "data.total > 100",
        "reason": "Values of different kinds were compared.",
        "event_id": "evt_9",
        "count": 3,
        "at": "2026-03-02T15:04:00.512Z",
    }
    status, shown = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(description="other"))
    assert shown["filter_failure"] is not None
    corrected = 'decimal(data.total) > decimal("100")'
    status, shown = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(filters=[corrected]))
    assert (status, shown["filters"], shown["filter_failure"]) == (200, [corrected], None)
    assert service.kafka.changes[-1].schema_version == 2
    status, shown = await request(service, "PATCH", f"{PATH}/{identifier}", **wrapped(filters=["data.state == 'complete'"]))
    assert (service.kafka.changes[-1].schema_version, shown["filters"]) == (1, ["data.state == 'complete'"])


async def test_a_refusal_by_kafka_is_reported_with_the_reason(service: Service) -> None:
    await service.create()
    service.kafka.errors[TOPICS.endpoints] = PublishError("no permission to write webhooks.endpoints")
    status, body = await request(service, "PATCH", f"{PATH}/1", **wrapped(description="x"))
    reason = "had no effect. no permission to write webhooks.endpoints. Trying again will not help until this is fixed."
    assert (status, body["error"].endswith(reason)) == (503, True)
