"""API keys: created, listed, revoked; the first key, and two processes that start at once."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import timedelta

import pytest

from pipeline.broker.api import Partition, Record
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.web.auth import ApiKeys
from pipeline.web.errors import WrongKeyError
from pipeline.web.key_ring import FIRST_KEY_NAME, KeyRing
from schemas.api_key import Access, ApiKeyRecord
from schemas.audit import AuditAction
from schemas.codec import from_json
from tests.unit.fake_kafka import FakeProducer, settle
from tests.unit.web.endpoint_requests import NOT_FOUND, request
from tests.unit.web.service import NOW, TOPICS, Service

PATH = "/api/webhook/keys"


def body(**fields: object) -> dict[str, object]:
    return {"json": {"key": fields}}


async def test_a_key_is_shown_once_and_stored_as_a_digest(service: Service, logs: pytest.LogCaptureFixture) -> None:
    status, made = await request(service, "POST", PATH, **body(name=" Ada ", role="operator"))
    key = made.pop("key")
    assert (status, len(key), key[:5]) == (201, 48, "omsw_")
    actor = service.kafka.audits[0].actor
    assert made == {
        "id": hashlib.sha256(key.encode()).hexdigest()[:8],
        "name": "Ada",
        "role": "operator",
        "created_at": "2026-03-02T15:04:00.512Z",
        "created_by": actor,
        "owner": "",
        "last_used_at": None,
    }
    assert await request(service, "GET", PATH) == (200, {"keys": [made]})
    everything = b"".join(record.value or b"" for record in service.kafka.records).decode() + logs.text
    assert key not in everything
    assert key[5:] not in everything
    async with service.anonymous.get("/api/webhook/attempts", headers={"Authorization": f"Bearer {key}"}) as response:
        assert response.status == 200


async def test_a_revoked_key_opens_nothing(service: Service) -> None:
    _, made = await request(service, "POST", PATH, **body(name="Ada", role="admin"))
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert await request(service, "DELETE", f"{PATH}/{made['id']}") == (204, b"")
    async with service.anonymous.get("/api/webhook/endpoints", headers=headers) as response:
        assert response.status == 401
    assert await request(service, "GET", PATH) == (200, {"keys": []})
    assert await request(service, "DELETE", f"{PATH}/{made['id']}") == (404, NOT_FOUND)
    record = from_json(service.kafka.to(TOPICS.api_keys)[-1].value, ApiKeyRecord)
    assert (record.revoked_at, record.revoked_by) == (NOW, service.kafka.audits[0].actor)
    assert [(one.action, one.detail) for one in service.kafka.audits] == [
        (AuditAction.CREATE_KEY, "admin Ada"),
        (AuditAction.REVOKE_KEY, "admin Ada"),
    ]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, ["name", "role"]),
        ({"name": "", "role": "viewer"}, ["name"]),
        ({"name": "a\nb", "role": "viewer"}, ["name"]),
        ({"name": "x" * 101, "role": "viewer"}, ["name"]),
        ({"name": "nimda\u202e", "role": "viewer", "owner": "a\u2028b"}, ["name", "owner"]),
        ({"name": 1, "role": "root"}, ["name", "role"]),
        ({"name": "Ada", "role": []}, ["role"]),
        ({"name": "Ada", "role": None}, ["role"]),
    ],
)
async def test_invalid_input_is_explained(service: Service, fields: dict[str, object], wrong: list[str]) -> None:
    status, answer = await request(service, "POST", PATH, **body(**fields))
    assert (status, sorted(answer["errors"])) == (422, wrong)
    assert service.kafka.records == []


async def test_no_key_is_created_without_kafka(service: Service) -> None:
    service.kafka.is_down = True
    assert (await request(service, "POST", PATH, **body(name="Ada", role="viewer")))[0] == 503


async def test_nobody_waits_while_kafka_accepts_no_audit_entries(service: Service) -> None:
    service.kafka.stuck = {TOPICS.audit}
    status, answer = await request(service, "POST", PATH, **body(name="Ada", role="viewer"))
    assert (status, "was not carried out" in answer["error"]) == (503, True)
    assert service.kafka.records == [], "no entry about an action that was not done is written later"


async def test_a_key_has_an_owner_and_a_last_use(service: Service) -> None:
    status, made = await request(service, "POST", PATH, **body(name="support desk", role="viewer", owner=" Ada Lovelace "))
    assert (status, made["owner"], made["last_used_at"]) == (201, "Ada Lovelace", None)
    assert service.ring.person(f"api-key:{made['id']}") == "Ada Lovelace"
    assert service.ring.person(service.kafka.audits[0].actor).startswith("a key in the settings (")
    headers = {"Authorization": f"Bearer {made['key']}"}
    for later in (timedelta(0), timedelta(minutes=30), timedelta(minutes=90)):
        service.now[0] = NOW + later
        for _ in range(3):
            async with service.anonymous.get("/api/webhook/endpoints", headers=headers) as response:
                assert response.status == 200
    await settle()
    uses = [record for record in service.kafka.to(TOPICS.api_keys) if record.key == f"used:{made['id']}".encode()]
    assert len(uses) == 2, "one an hour, however often it is used"
    [shown] = (await request(service, "GET", PATH))[1]["keys"]
    assert shown["last_used_at"] == "2026-03-02T16:34:00.512Z"

    later_process = ring()
    later_process.table._apply(service.kafka.to(TOPICS.api_keys), 9, caught_up=False)
    assert later_process.last_used(made["id"]) == NOW + timedelta(minutes=90)
    assert [one.id for one in later_process.valid()] == [made["id"]], "a use is not a key"
    # A release that does not know uses reads a revoked key.
    old = from_json(uses[0].value or b"", ApiKeyRecord)
    assert (old.revoked_at is not None, old.sha256) == (True, "0" * 64)


async def test_a_use_never_restores_a_revoked_key(service: Service) -> None:
    _, made = await request(service, "POST", PATH, **body(name="Ada", role="viewer"))
    assert (await request(service, "DELETE", f"{PATH}/{made['id']}"))[0] == 204
    service.ring.note_use(service.kafka, made["id"], NOW)
    await settle()
    assert service.ring.valid() == []
    assert service.ring.person(f"api-key:{made['id']}") == "Ada", "its owner remains known"


# --- the first key ---


class Topic(FakeProducer):
    """The compacted topic. Key rings read it when the test says so."""

    def read(self, ring: KeyRing) -> None:
        table = ring.table
        new = self.sent[table._next :]
        records = [Record(Partition("k", 0), sent.position.offset, 0, sent.key, sent.value, [], 0) for sent in new]
        table._apply(records, table._next + len(records), caught_up=False)


def ring() -> KeyRing:
    made = KeyRing(MemoryBroker(), "k")
    made.table._loop = asyncio.get_running_loop()
    return made


async def first_keys(topic: Topic, rings: list[KeyRing]) -> list[str | None]:
    making = [asyncio.create_task(one.create_first(topic, at=NOW)) for one in rings]
    while not all(task.done() for task in making):
        await settle()
        for one in reversed(rings):
            topic.read(one)
    return [task.result() for task in making]


def opens(one: KeyRing, key: str) -> bool:
    try:
        return ApiKeys([], one.valid).principal(f"Bearer {key}").role is Access.ADMIN
    except WrongKeyError:
        return False


async def test_the_first_start_creates_an_admin_key_and_the_second_none() -> None:
    topic, first = Topic(), ring()
    [key] = await first_keys(topic, [first])
    assert key is not None
    assert opens(first, key)
    assert [(one.name, one.role) for one in first.valid()] == [(FIRST_KEY_NAME, Access.ADMIN)]

    later = ring()
    topic.read(later)
    assert await first_keys(topic, [later]) == [None]
    assert opens(later, key)


async def test_one_of_several_simultaneous_starts_creates_the_key() -> None:
    topic, rings = Topic(), [ring() for _ in range(3)]
    keys = await first_keys(topic, rings)
    fresh = ring()
    for one in [*rings, fresh]:
        topic.read(one)
        assert [opens(one, key) for key in keys if key] == [True]
        assert len(one.valid()) == 1
    # Compaction keeps the last record of each key: the other keys were revoked.
    last = {sent.key: sent.value for sent in topic.sent}
    assert [value is None for value in last.values()] == [False, True, True]


async def test_the_next_start_creates_an_admin_key_if_none_is_left() -> None:
    topic, first = Topic(), ring()
    [key] = await first_keys(topic, [first])
    revoking = asyncio.create_task(first.revoke(topic, first.valid()[0], revoked_by="x", at=NOW))
    await settle()
    topic.read(first)
    await revoking
    assert first.valid() == []
    [again] = await first_keys(topic, [first])
    assert again is not None
    assert again != key
    assert opens(first, again)
    assert not opens(first, key or "")


async def test_an_unusable_record_is_skipped() -> None:
    topic, one = Topic(), ring()
    topic.send("k", key=b"x", value=b"{")
    topic.send("k", key=b"x", value=json.dumps({"schema_version": 2}).encode())
    topic.read(one)
    assert one.valid() == []
    assert one.table._next == 2


async def test_no_key_is_called_wrong_before_the_keys_have_been_read(service: Service) -> None:
    """A starting process cannot know the keys yet. It must not reject a valid key, nor count it as a guess."""
    service.ring.table.is_caught_up = False
    headers = {"Authorization": "Bearer omsw_one-that-was-made-earlier"}
    for _ in range(30):
        async with service.anonymous.get("/api/webhook/endpoints", headers=headers) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "5")
    async with service.anonymous.get("/api/webhook/endpoints") as response:
        assert response.status == 401
    service.ring.table.is_caught_up = True
    async with service.anonymous.get("/api/webhook/endpoints", headers=headers) as response:
        assert response.status == 401


async def test_no_key_opens_the_api_during_the_start(service: Service) -> None:
    service.health.starting = True
    async with service.client.get("/api/webhook/endpoints") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert await response.json() == {"error": "The service is starting. Try again in a moment."}
    service.health.starting = False
    async with service.client.get("/api/webhook/endpoints") as response:
        assert response.status == 200
