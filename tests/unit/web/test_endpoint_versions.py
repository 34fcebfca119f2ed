"""ETags, secret rotation, custom headers, and concurrent changes by another process."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.core.signing import SigningKey, verify
from schemas.codec import to_json
from schemas.endpoint import EndpointRecord
from tests.unit.web.endpoint_requests import INVALID, NOT_FOUND, PATH, SHOWN, request, wrapped
from tests.unit.web.service import NOW, Service


async def tagged(service: Service, method: str, path: str, **options: Any) -> tuple[int, str | None]:
    async with service.client.request(method, path, **options) as response:
        return response.status, response.headers.get("ETag")


# --- If-Match ---


async def test_the_etag_is_the_version(service: Service) -> None:
    fields = wrapped(target_url="http://127.0.0.1/", events=["order_completed"])
    assert await tagged(service, "POST", PATH, **fields) == (201, '"1"')
    assert await tagged(service, "POST", PATH, **fields) == (200, '"1"')
    assert await tagged(service, "GET", f"{PATH}/1") == (200, '"1"')
    assert await tagged(service, "PATCH", f"{PATH}/1", **wrapped(active=False)) == (200, '"2"')
    assert await tagged(service, "POST", f"{PATH}/1/rotate_secret") == (200, '"3"')
    assert await tagged(service, "GET", f"{PATH}/1") == (200, '"3"')


@pytest.mark.parametrize("tag", ['"2"', '"1", "3"', 'W/"1"', "1", "", '""', "nonsense, and more", '"01"'])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
async def test_a_change_for_another_version_is_refused(service: Service, method: str, tag: str) -> None:
    await service.create()
    matches = tag == '"1", "3"'
    path = f"{PATH}/1" + ("/rotate_secret" if method == "POST" else "")

    body = wrapped(description="new") if method in ("PUT", "PATCH") else {}
    status, etag = await tagged(service, method, path, headers={"If-Match": tag}, **body)

    if tag == "":  # as with an unset variable: the change would apply to whatever version is current
        assert (status, len(service.kafka.changes)) == (422, 1)
    elif matches:
        assert status in (200, 204)
    else:
        assert (status, etag) == (412, '"1"')
        assert len(service.kafka.changes) == 1


@pytest.mark.parametrize("tag", ["1", 'W/"1"', "nonsense"])
async def test_an_if_match_without_a_version_is_not_reported_as_a_conflict(service: Service, tag: str) -> None:
    await service.create()
    status, body = await request(service, "PATCH", f"{PATH}/1", headers={"If-Match": tag}, **wrapped(active=False))
    assert (status, body["error"]) == (
        412,
        'If-Match must contain a version of the endpoint. Send the ETag that you read, including the quotes, such as "1".',
    )


@pytest.mark.parametrize("tag", ['"1"', "*", '"7", "1"'])
async def test_a_change_for_the_current_version_is_made(service: Service, tag: str) -> None:
    await service.create()
    assert await tagged(service, "PATCH", f"{PATH}/1", headers={"If-Match": tag}, **wrapped(active=False)) == (200, '"2"')


async def test_one_of_two_changes_to_the_same_version_is_refused(service: Service) -> None:
    await service.create()
    changes = [
        tagged(service, "PATCH", f"{PATH}/1", headers={"If-Match": '"1"'}, **wrapped(description=text)) for text in ("a", "b")
    ]
    assert sorted(await asyncio.gather(*changes)) == [(200, '"2"'), (412, '"2"')]


# --- another process ---


class Other:
    """Another API process: it writes to the topic just before this process's next record."""

    def __init__(self, service: Service, *records: EndpointRecord) -> None:
        self._kafka = service.kafka
        self._records = list(records)
        self._send = service.kafka.send
        service.kafka.send = self.send  # type: ignore[method-assign]

    def send(self, topic: str, **more: Any) -> Any:
        if topic == self._kafka.registry._topic and self._records:
            record = self._records.pop(0)
            self._send(topic, key=str(record.id).encode(), value=to_json(record))
        return self._send(topic, **more)


async def test_a_change_is_applied_on_top_of_a_concurrent_one(service: Service) -> None:
    await service.create(description="old", headers={"X-A": "1"})
    theirs = replace(service.kafka.changes[-1], version=2, description="theirs", active=False)
    Other(service, theirs)

    status, body = await request(service, "PATCH", f"{PATH}/1", **wrapped(events=["order_cancelled"]))

    assert (status, body["version"]) == (200, 3)
    assert (body["description"], body["active"], body["events"]) == ("theirs", False, ["order_cancelled"])


async def test_a_conditional_change_is_refused_after_a_concurrent_one_which_stays(service: Service) -> None:
    await service.create(description="old")
    Other(service, replace(service.kafka.changes[-1], version=2, description="theirs"))

    status, _ = await tagged(service, "PATCH", f"{PATH}/1", headers={"If-Match": '"1"'}, **wrapped(description="ours"))

    assert status == 412
    assert (await request(service, "GET", f"{PATH}/1"))[1]["description"] == "theirs"
    # Compaction keeps only the last record, which must be theirs again.
    assert service.kafka.changes[-1].description == "theirs"


async def test_the_first_of_two_processes_that_set_the_same_url_wins(service: Service) -> None:
    for path in ("a", "b"):
        await service.create(f"http://127.0.0.1/{path}")
    first, second = (one.record for one in service.kafka.registry.all())
    Other(service, replace(first, version=2, target_url="http://127.0.0.1/same"))

    status, body = await request(service, "PATCH", f"{PATH}/{second.id}", **wrapped(target_url="http://127.0.0.1/same"))

    assert (status, body["error"]) == (422, INVALID)
    assert f"as endpoint {first.id}" in body["errors"]["target_url"][0]
    shown = (await request(service, "GET", PATH))[1]["endpoints"]
    assert [one["target_url"] for one in shown] == ["http://127.0.0.1/same", "http://127.0.0.1/b"]
    last = [one for one in service.kafka.changes if one.id == second.id][-1]
    assert last.target_url == "http://127.0.0.1/b"


async def test_a_change_does_not_restore_an_endpoint_deleted_by_another_process(service: Service) -> None:
    await service.create(token="t0ken")
    theirs = replace(service.kafka.changes[-1], version=2, deleted=True, secrets=(), sealed_token=None)
    Other(service, theirs)
    assert await request(service, "PATCH", f"{PATH}/1", **wrapped(active=False)) == (404, NOT_FOUND)
    last = service.kafka.changes[-1]
    assert (last.deleted, last.secrets, last.sealed_token) == (True, (), None)


# --- rotation ---


async def test_after_a_rotation_both_secrets_sign_for_a_day(service: Service) -> None:
    _, created = await request(service, "POST", **wrapped(target_url="http://127.0.0.1/", events=["order_completed"]))

    status, rotated = await request(service, "POST", f"{PATH}/1/rotate_secret")

    assert (status, list(rotated)) == (200, [*SHOWN, "ignored_fields", "secret"])
    assert (rotated["version"], service.kafka.changes[-1].change) == (2, "rotate_secret")
    assert rotated["secret"] != created["secret"]
    old, new = SigningKey(created["secret"]), SigningKey(rotated["secret"])
    for hours, valid in ((0, [new, old]), (23.9, [new, old]), (24, [new])):
        service.now[0] = NOW + timedelta(hours=hours)
        await request(service, "POST", f"{PATH}/1/test")
        sent = service.sender.requests[-1]
        assert len(sent.headers["webhook-signature"].split(" ")) == len(valid)
        for key in valid:
            verify([key], sent.headers, sent.body, now=int(service.now[0].timestamp()))
    assert "secret" not in (await request(service, "GET", f"{PATH}/1"))[1]


async def test_every_rotated_secret_expires_a_day_after_its_own_rotation(service: Service) -> None:
    await service.create()
    ends = []
    for hours in range(0, 28, 4):
        service.now[0] = NOW + timedelta(hours=hours)
        assert (await request(service, "POST", f"{PATH}/1/rotate_secret"))[0] == 200
        ends = [secret.expires_at for secret in service.kafka.changes[-1].secrets]
    assert ends == [None, *(NOW + timedelta(hours=hours) for hours in (48, 44, 40, 36))], "at most five sign"
    assert await request(service, "POST", f"{PATH}/9/rotate_secret") == (404, NOT_FOUND)


# --- custom headers ---


async def test_headers_change_individually_and_are_never_shown(service: Service) -> None:
    await service.create(headers={"X-A": "one-secret", "X-B": "two"})
    for given, names in (
        ({"x-c": "three"}, ["x-a", "x-b", "x-c"]),
        ({"X-A": None, "x-d": None}, ["x-b", "x-c"]),
        ({}, ["x-b", "x-c"]),
        (None, []),
    ):
        status, body = await request(service, "PATCH", f"{PATH}/1", **wrapped(headers=given))
        assert (status, body["header_names"]) == (200, names)
    written = b"".join(record.value or b"" for record in service.kafka.written)
    assert b"one-secret" not in written
    assert b"two" not in written
    await request(service, "PATCH", f"{PATH}/1", **wrapped(headers={"x-a": "again"}))
    await request(service, "DELETE", f"{PATH}/1")
    assert service.kafka.changes[-1].sealed_headers == {}


async def test_the_limit_of_headers_holds_across_changes(service: Service) -> None:
    await service.create(headers={f"x-{number}": "v" for number in range(20)})
    status, body = await request(service, "PATCH", f"{PATH}/1", **wrapped(headers={"x-20": "v"}))
    assert (status, body["errors"]) == (422, {"headers": ["headers may have at most 20 headers, and 6,000 characters in all."]})
    assert (await request(service, "PATCH", f"{PATH}/1", **wrapped(headers={"x-20": "v", "x-1": None})))[0] == 200
