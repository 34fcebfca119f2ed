"""Event types are created, changed and removed through the API, and take effect at once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.broker.errors import TopicError, UnavailableError
from pipeline.broker.memory.broker import MemoryTopicAdmin
from pipeline.endpoints.source_topics import SourceTopics
from pipeline.ops.event_types_file import entry_problems
from pipeline.web import event_type_changes
from schemas.audit import AuditAction, AuditEntry
from schemas.codec import from_json, to_json
from schemas.event import EventType
from schemas.event_type_record import EventTypeRecord
from tests.unit.schemas.producer_records import Published
from tests.unit.web.endpoint_requests import INVALID, request, wrapped
from tests.unit.web.service import NOW, Service

PATH = "/api/webhook/event_types"
ENTRY: dict[str, Any] = {
    "name": "refund_issued",
    "topic": "oms.orders",
    "description": "Money is given back.",
    "schema": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}},
    "sample": {"id": 7, "order": "R1"},
    "references": {"order_number": "/order"},
}


def given(**fields: Any) -> dict[str, Any]:
    return {"json": {"event_type": ENTRY | fields}}


async def test_a_new_type_is_decoded_subscribed_tested_and_shown_without_a_restart(service: Service) -> None:
    before = (await request(service, "GET", "/api/webhook/openapi.json"))[1]
    status, made = await request(service, "POST", PATH, **given())
    assert (status, made["event_type"]["origin"], made["event_type"]["sample"]["data"]) == (201, "api", ENTRY["sample"])
    listed = (await request(service, "GET", PATH))[1]["event_types"]
    assert [one["origin"] for one in listed] == ["built_in"] * len(EventType) + ["api"]

    value = {"id": "e1", "event_name": "refund_issued", "occurred_at": "2026-03-02T15:04:00Z", "data": {"id": 1, "order": "R9"}}
    assert service.events.read(Published(b"R9", json.dumps(value).encode(), []), "oms.orders").meta.order_number == "R9"
    identifier = await service.create(events=["refund_issued"])
    assert (await request(service, "POST", f"/api/webhook/endpoints/{identifier}/test"))[1]["attempt"][
        "event_name"
    ] == "refund_issued"
    after = (await request(service, "GET", "/api/webhook/openapi.json"))[1]
    assert len(before["components"]["schemas"]["EventType"]["enum"]) == len(EventType)
    assert "refund_issued" in after["components"]["schemas"]["EventType"]["enum"]
    async with service.anonymous.get("/webhooks/guide") as guide:
        assert "Money is given back." in await guide.text()
    audited = from_json(service.kafka.to("webhooks.audit")[0].value, AuditEntry)
    assert (audited.action, audited.subject) == (AuditAction.CREATE_EVENT_TYPE, "event type refund_issued")


@pytest.fixture
def checked_on(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads on which entries are checked. A large schema takes seconds."""
    threads: list[threading.Thread] = []

    def note(*arguments: Any) -> list[tuple[str, str]]:
        threads.append(threading.current_thread())
        return entry_problems(*arguments)

    monkeypatch.setattr(event_type_changes, "entry_problems", note)
    return threads


async def test_schemas_are_checked_outside_the_event_loop(service: Service, checked_on: list[threading.Thread]) -> None:
    assert (await request(service, "POST", PATH, **given()))[0] == 201
    assert (await request(service, "PUT", f"{PATH}/refund_issued", **given(description="Other.")))[0] == 200
    assert len(checked_on) == 2, "once for each change"
    assert threading.current_thread() not in checked_on


async def test_a_change_is_not_saved_if_another_is_made_while_its_schema_is_checked(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saving it would restore an event type that somebody has removed meanwhile."""
    await request(service, "POST", PATH, **given())
    is_checking, may_end = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> list[tuple[str, str]]:
        is_checking.set()
        may_end.wait(10)
        return entry_problems(*arguments)

    monkeypatch.setattr(event_type_changes, "entry_problems", slowly)
    change = asyncio.create_task(request(service, "PUT", f"{PATH}/refund_issued", **given(description="Other.")))
    await asyncio.to_thread(is_checking.wait, 10)
    assert (await request(service, "DELETE", f"{PATH}/refund_issued"))[0] == 204
    may_end.set()
    assert (await change)[0] == 409
    assert "refund_issued" not in service.events.types.names


async def test_a_type_with_subscribers_is_not_removed(service: Service) -> None:
    await request(service, "POST", PATH, **given())
    identifier = await service.create(events=["refund_issued", "order_completed"])
    status, refused = await request(service, "DELETE", f"{PATH}/refund_issued")
    assert (status, refused["error"]) == (
        409,
        f"Endpoints subscribe to refund_issued: {identifier}. Remove it from their events first.",
    )
    await request(service, "PATCH", f"/api/webhook/endpoints/{identifier}", **wrapped(events=["order_completed"]))
    assert (await request(service, "DELETE", f"{PATH}/refund_issued"))[0] == 204
    assert (await request(service, "DELETE", f"{PATH}/refund_issued"))[0] == 404
    assert len((await request(service, "GET", PATH))[1]["event_types"]) == len(EventType)
    assert (await request(service, "POST", PATH, **given()))[0] == 201, "it can be added again"


async def test_a_breaking_change_must_be_explicitly_allowed(service: Service) -> None:
    await request(service, "POST", PATH, **given())
    tighter = ENTRY["schema"] | {"required": ["id", "order"]}
    status, refused = await request(service, "PUT", f"{PATH}/refund_issued", **given(schema=tighter))
    assert status == 409
    assert "data.order: It is required now" in refused["error"]
    status, changed = await request(service, "PUT", f"{PATH}/refund_issued", **given(schema=tighter, allow_breaking=True))
    assert (status, changed["changes"]) == (200, ["data.order: It is required now: events without it become dead letters."])
    status, changed = await request(service, "PUT", f"{PATH}/refund_issued", **given(schema=tighter, description="Other."))
    assert (status, changed["event_type"]["description"], changed["changes"]) == (200, "Other.", [])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"topic": "webhooks.attempts"}, "topic"),
        ({"topic": "eu.webhooks.attempts"}, "topic"),
        ({"topic": "eu-Webhooks.attempts"}, "topic"),
        ({"topic": "__consumer_offsets"}, "topic"),
        ({"topic": "oms refunds"}, "topic"),
        ({"topic": ".."}, "topic"),
        ({"topic": "x" * 201}, "topic"),
        ({"topic": ["oms.orders"]}, "topic"),
        ({"name": "Refund"}, "name"),
        ({"name": "order_completed"}, "name"),
        ({"schema": {"type": 7}}, "schema.type"),
        ({"schema": {"$ref": "file:///etc/passwd"}}, "schema"),
        ({"sample": {}}, "sample"),
        ({"sample": None}, "sample"),
        ({"extra": 1}, "extra"),
        ({"description": "x" * 300_000}, "schema"),
    ],
)
async def test_an_invalid_field_is_refused_and_named(service: Service, fields: dict[str, Any], field: str) -> None:
    status, refused = await request(service, "POST", PATH, **given(**fields))
    assert (status, refused["error"]) == (422, INVALID)
    assert field in refused["errors"]
    assert service.kafka.to("webhooks.event-types") == []
    assert service.kafka.audits == [], "a refused change is not audited as made"


async def test_existing_built_in_and_unknown_names(service: Service) -> None:
    await request(service, "POST", PATH, **given())
    assert (await request(service, "POST", PATH, **given()))[0] == 409
    assert (await request(service, "DELETE", f"{PATH}/order_completed"))[0] == 409
    assert (await request(service, "PUT", f"{PATH}/order_completed", **given()))[0] == 409
    assert (await request(service, "PUT", f"{PATH}/nobody", **given()))[0] == 404
    assert (await request(service, "PUT", f"{PATH}/refund_issued", **given(name="other")))[0] == 422


async def test_a_type_may_have_the_name_of_another_path(service: Service) -> None:
    assert (await request(service, "POST", PATH, **given(name="preview")))[0] == 201
    assert (await request(service, "GET", f"{PATH}/preview"))[1]["entry"]["name"] == "preview"
    assert (await request(service, "PUT", f"{PATH}/preview", **given(name="preview", description="Other.")))[0] == 200
    assert (await request(service, "DELETE", f"{PATH}/preview/"))[0] == 204


async def test_without_kafka_it_answers_503(service: Service) -> None:
    service.kafka.is_down = True
    assert (await request(service, "POST", PATH, **given()))[0] == 503


async def test_a_single_type_is_shown_with_an_entry_that_can_be_sent_back(service: Service) -> None:
    versioned = ENTRY | {
        "version": 2,
        "version_at": "/v",
        "schema": {"type": "object", "required": ["v"]},
        "sample": {"v": 2, "order": "R1"},
        "earlier": [{"version": 1, "schema": {"type": "object"}, "sample": {"order": "R1"}}],
    }
    await request(service, "POST", PATH, json={"event_type": versioned})
    status, shown = await request(service, "GET", f"{PATH}/refund_issued")
    assert (status, shown["event_type"]["origin"], shown["updated_at"]) == (200, "api", "2026-03-02T15:04:00.512Z")
    assert shown["entry"] == versioned | {"references": {"order_number": ["/order"]}}
    status, again = await request(service, "PUT", f"{PATH}/refund_issued", json={"event_type": shown["entry"]})
    assert (status, again["changes"]) == (200, [])

    status, built_in = await request(service, "GET", f"{PATH}/order_completed")
    assert (status, built_in["event_type"]["origin"], built_in["entry"], built_in["updated_at"]) == (200, "built_in", None, None)
    assert (await request(service, "GET", f"{PATH}/nobody"))[0] == 404


async def test_removed_and_unusable_types_are_listed(service: Service) -> None:
    await request(service, "POST", PATH, **given())
    await request(service, "DELETE", f"{PATH}/refund_issued")
    unusable = ENTRY | {"name": "parcel_lost", "topic": "webhooks.parcels"}
    record = EventTypeRecord(name="parcel_lost", entry=unusable, created_at=NOW, updated_at=NOW)
    position = await service.kafka.send("webhooks.event-types", key=b"parcel_lost", value=to_json(record))
    await service.kafka._tables["webhooks.event-types"].wait_for(position.offset)
    listed = (await request(service, "GET", PATH))[1]
    assert [one["name"] for one in listed["removed_event_types"]] == ["refund_issued"]
    (unusable_type,) = listed["unusable_event_types"]
    assert unusable_type["name"] == "parcel_lost"
    assert "topic: Topics that begin with webhooks. are the pipeline's own" in unusable_type["problem"]
    assert (await request(service, "GET", f"{PATH}/parcel_lost"))[0] == 404
    assert (await request(service, "DELETE", f"{PATH}/parcel_lost"))[0] == 204
    assert (await request(service, "GET", PATH))[1]["unusable_event_types"] == []


REFUNDS = "oms.refunds"


async def test_a_missing_topic_is_created_before_the_type_is_written(service: Service) -> None:
    status, made = await request(service, "POST", PATH, **given(topic=REFUNDS))
    assert (status, made["changes"]) == (201, ["refund_issued: It is new.", "The topic oms.refunds was created."])
    assert list(service.topics.cluster.topics) == [REFUNDS]
    assert service.events.sources[-1] == REFUNDS
    status, changed = await request(service, "PUT", f"{PATH}/refund_issued", **given(topic=REFUNDS, description="Other."))
    assert (status, changed["changes"]) == (200, []), "it exists, and fan-outs read it"


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_change_made_while_a_topic_is_created_is_not_overwritten(
    service: Service, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    path = PATH if method == "POST" else f"{PATH}/refund_issued"
    if method == "PUT":
        await request(service, "POST", PATH, **given())
    provide = SourceTopics.provide

    async def slowly(topics: SourceTopics, topic: str, *, is_read: bool) -> Sequence[str]:
        monkeypatch.setattr(SourceTopics, "provide", provide)
        assert (await request(service, method, path, **given(description="Theirs.")))[0] in (200, 201)
        return await provide(topics, topic, is_read=is_read)

    monkeypatch.setattr(SourceTopics, "provide", slowly)
    status, answer = await request(service, method, path, **given(topic=REFUNDS, allow_breaking=True))

    assert status == 409
    assert "your change was not saved" in answer["error"]
    entry = (await request(service, "GET", f"{PATH}/refund_issued"))[1]["entry"]
    assert (entry["description"], entry["topic"]) == ("Theirs.", "oms.orders")


async def test_the_consequences_of_an_existing_topic_are_reported(service: Service) -> None:
    service.topics.cluster.create(REFUNDS)
    status, made = await request(service, "POST", PATH, **given(topic=REFUNDS))
    assert status == 201
    assert "existed already. It is read from its beginning" in made["changes"][1]


async def test_a_topic_that_cannot_be_created_is_refused_with_instructions(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> list[str]:
        raise TopicError("Topic oms.refunds could not be made: TopicAuthorizationFailedError")

    monkeypatch.setattr(MemoryTopicAdmin, "create_missing", refused)
    status, answer = await request(service, "POST", PATH, **given(topic=REFUNDS))
    assert status == 409
    for part in ("topics --create --event-topic oms.refunds", "grants --event-topic oms.refunds", "TopicAuthorizationFailed"):
        assert part in answer["error"]
    assert (await request(service, "POST", PATH, **given()))[0] == 201, "a topic that is already read needs no rights"
    status, answer = await request(service, "PUT", f"{PATH}/refund_issued", **given(topic=REFUNDS, allow_breaking=True))
    assert status == 409
    assert (await request(service, "GET", f"{PATH}/refund_issued"))[1]["entry"]["topic"] == "oms.orders"


async def test_no_type_is_added_while_kafka_does_not_list_topics(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> list[str]:
        raise UnavailableError("no answer")

    monkeypatch.setattr(MemoryTopicAdmin, "create_missing", silent)
    assert (await request(service, "POST", PATH, **given(topic=REFUNDS)))[0] == 503
    assert service.kafka.to("webhooks.event-types") == []


async def test_former_topics_are_still_read(service: Service) -> None:
    await request(service, "POST", PATH, **given(topic=REFUNDS))
    moved = given(topic="oms.returns", allow_breaking=True)
    assert (await request(service, "PUT", f"{PATH}/refund_issued", **moved))[0] == 200
    assert service.events.sources[-2:] == ("oms.returns", REFUNDS)
    assert (await request(service, "DELETE", f"{PATH}/refund_issued"))[0] == 204
    assert service.events.sources[-2:] == (REFUNDS, "oms.returns")
    last = from_json(service.kafka.to("webhooks.event-types")[-1].value, EventTypeRecord)
    assert last.former_topics == (REFUNDS, "oms.returns")
    assert (await request(service, "POST", PATH, **given(topic=REFUNDS)))[0] == 201, "it can be added again"
    assert service.events.sources[-2:] == (REFUNDS, "oms.returns")


async def test_the_number_of_topics_is_limited(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.web.event_type_changes.MAX_TOPICS", 1)
    assert (await request(service, "POST", PATH, **given(topic=REFUNDS)))[0] == 201
    status, answer = await request(service, "POST", PATH, **given(name="b_b", topic="oms.returns"))
    assert (status, "which is the maximum" in answer["error"]) == (409, True)
    assert (await request(service, "POST", PATH, **given(name="b_b", topic=REFUNDS)))[0] == 201
