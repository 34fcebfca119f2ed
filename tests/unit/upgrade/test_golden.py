"""Every record type has golden files, which still have the meaning that they had when they were written."""

from __future__ import annotations

import importlib
import json
import pkgutil
from typing import Any

import pytest
from msgspec.structs import replace

import schemas
from pipeline.core.filters.stored import filters_of
from schemas.attempt import Attempt
from schemas.batch import read_attempts, read_dispatches
from schemas.codec import InvalidRecordError, from_header, from_json, to_json
from schemas.delivery import DeadLetterReason, DeliveryRecord
from schemas.endpoint import EXPRESSIONS_VERSION, EndpointRecord
from schemas.event import SCHEMA_VERSION, EventMeta
from schemas.event_codec import decode_event, webhook_body
from schemas.filter_texts import expressions_of
from schemas.health import HealthRecord
from schemas.operational import OperationalEvent
from schemas.own_records import OwnRecord, RewrittenRecord, has_unknown_members, members_of
from tests.unit.sample_events import GOLDEN
from tests.unit.upgrade.golden import HEADERS, KINDS, MODELS, golden, wire


def test_every_record_type_has_golden_files() -> None:
    """A model with a schema_version is a record. A new one needs golden files and a line in MODELS."""
    modules = [importlib.import_module(f"schemas.{module.name}") for module in pkgutil.iter_modules(schemas.__path__)]
    records = {
        found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, OwnRecord) and "schema_version" in found.__struct_fields__
    }

    assert records == set(MODELS.values())
    wanted = {f"{name}{kind}.v1.json" for name in (*MODELS, "event") for kind in KINDS} | {"webhook_body.v1.json"}
    wanted |= {f"{name}.v1.json" for name in ADDED}
    assert {path.name for path in GOLDEN.glob("*.v1.json")} == wanted
    assert {path.name for path in (GOLDEN / "wire").glob("*.json")} == {
        f"{name}.v1.json" for name in (*MODELS, "event", "endpoint_claim", "attempt_bundle", "dispatch_bundle")
    }


def test_a_new_major_version_needs_its_own_golden_files() -> None:
    assert SCHEMA_VERSION == 1, "add NAME.v2.json beside the files of version 1, and keep reading those"
    assert EXPRESSIONS_VERSION == 2
    assert {path.name for path in GOLDEN.glob("*.v2.json")} == {"endpoint.v2.json"}


def test_an_endpoint_of_version_2_has_expressions_that_an_older_release_refuses() -> None:
    value = (GOLDEN / "endpoint.v2.json").read_bytes().strip()
    read = from_json(value, EndpointRecord)

    assert read.filters == {}
    assert _within(json.loads(value), json.loads(to_json(read)))
    assert filters_of(read).expressions[0].text == 'decimal(data.total) >= decimal("100")'
    with pytest.raises(InvalidRecordError) as caught:
        from_json(value, HealthRecord)  # any model that reads up to version 1, as older releases read endpoints
    assert caught.value.reason is DeadLetterReason.UNSUPPORTED_VERSION


def test_filters_of_the_first_release_are_read_as_expressions() -> None:
    read = from_json(golden("endpoint"), EndpointRecord)

    assert read.filters
    assert filters_of(read).equalities == tuple(read.filters.items())
    assert filters_of(read).texts == expressions_of(read.filters)


@pytest.mark.parametrize("name", MODELS)
def test_whole_records_contain_the_expected_record(name: str) -> None:
    whole = wire(name)
    expected = from_json(golden(name), MODELS[name])

    if name in HEADERS:
        assert from_header(whole.headers, HEADERS[name], MODELS[name]) == expected
    else:
        assert from_json(whole.value, MODELS[name]) == expected


def test_a_record_of_several_attempts() -> None:
    found = read_attempts(wire("attempt_bundle").value)

    assert found == [
        from_json(golden("attempt"), Attempt),
        replace(from_json(golden("attempt"), Attempt), endpoint_id=12),
    ]


def test_a_record_of_several_dispatches() -> None:
    whole = wire("dispatch_bundle")

    (first, one), (second, other) = read_dispatches(whole.headers, whole.value)

    assert (first.event.id, second.event.id) == ("evt_2", "evt_3")
    assert one == wire("dispatch").value
    assert (other[:13], other[-16:]) == (b'{"id":"evt_3"', b'"price":1.1000}}')


ADDED: dict[str, type[OwnRecord]] = {
    "delivery.traced": DeliveryRecord,
    "delivery.keyed": DeliveryRecord,
    "health.ordered": HealthRecord,
    "endpoint.ordered": EndpointRecord,
    "endpoint.pinned": EndpointRecord,
    "health.held": HealthRecord,
    "health.filter": HealthRecord,
    "health.told": HealthRecord,
    "health.circuit": HealthRecord,
    "operational.notice": OperationalEvent,
    "endpoint.dropped": EndpointRecord,
    "endpoint.expressions": EndpointRecord,
    "endpoint.retries": EndpointRecord,
}
"""Records with fields that came after the first golden files of their type."""


@pytest.mark.parametrize("name", ADDED)
def test_an_added_field_is_read_and_written_unchanged(name: str) -> None:
    read = from_json(golden(name), ADDED[name])

    assert not has_unknown_members(read), "every member is a field"
    assert _within(json.loads(golden(name)), json.loads(to_json(read)))


OLDEST: dict[str, dict[str, Any]] = {
    "attempt": {"schema_version": 1, "http_status_code": None, "failure": None, "error": None, "next_attempt_at": None}
    | {"first_byte_ms": None, "response_headers": (), "response_body": "", "response_body_encoding": "text"}
    | {"response_truncated": False, "request_headers": {}},
    "delivery": {"schema_version": 1, "trigger": "repeat", "parked": 0, "traceparent": None, "tracestate": None},
    "dispatch": {"schema_version": 1, "body_bytes": None},
    "dead_letter": {"schema_version": 1, "null_value": False, "truncated": False},
    "endpoint": {"schema_version": 1, "description": "", "active": True, "filters": {}, "sealed_token": None, "secrets": ()}
    | {"version": 1, "deleted": False, "change": "create", "changed_by": "", "max_per_second": None, "activated_version": 1}
    | {"sealed_headers": {}, "drops": (), "expressions": (), "disabled_at": None, "disabled_by": "", "retry_policy": "standard"}
    | {"authentication": None, "key_pairs": (), "signature_header": None, "client_certificate": None, "ordered": False}
    | {"verification": "none", "verified_url": None, "verified_at": None, "verified_origin": None, "verification_problem": ""}
    | {"event_type_versions": {}},
    "health": {"schema_version": 1, "since": None, "circuit": "", "until": None, "reason": "", "detail": ""}
    | {"partition": None, "held": 0, "done": 0, "done_at": None, "counted": 0, "counted_at": None}
    | {"event_id": "", "expression": "", "count": 0, "process": "", "told": ()},
    "operational": {"schema_version": 1},
    "api_key": {"schema_version": 1, "is_first": False, "revoked_at": None, "revoked_by": "", "owner": "", "last_used_at": None},
    "audit": {"schema_version": 1, "detail": "", "remote_address": "", "actor_name": ""},
    "ended_session": {"schema_version": 1},
    "missing": {"schema_version": 1},
    "topic_ids": {"schema_version": 1},
    "rate_share": {"schema_version": 1},
    "event_type": {
        "schema_version": 1,
        "entry": None,
        "revision": 1,
        "change": "create",
        "changed_by": "",
        "former_topics": (),
    },
    "lane_progress": {
        "schema_version": 1,
        "done": 0,
        "done_ms": 0,
        "head": None,
        "attempt": 1,
        "due_ms": 0,
        "delay_ms": 0,
        "taken": {},
    },
}
"""The meaning of a record whose producer knew only the required fields. These defaults are a promise, too."""


@pytest.mark.parametrize("name", MODELS)
def test_records_of_the_oldest_producer_are_read(name: str) -> None:
    read = members_of(from_json(golden(f"{name}.oldest"), MODELS[name]))

    required = json.loads(golden(f"{name}.oldest"))
    assert {field: read[field] for field in OLDEST[name]} == OLDEST[name]
    assert set(read) == set(required) | set(OLDEST[name])
    if "event" in read:
        assert set(read["event"]) | {"later"} == set(EventMeta.__struct_fields__)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_reading_and_writing_keeps_every_member(name: str, kind: str) -> None:
    value = golden(f"{name}{kind}")

    written = json.loads(to_json(from_json(value, MODELS[name])))

    # Records that are only read need not keep what a newer release adds; but what it adds about the event is passed on.
    known = json.loads(value)
    if not issubclass(MODELS[name], RewrittenRecord):
        known = {member: part for member, part in known.items() if member in MODELS[name].__struct_fields__}
    assert _within(known, written)


def _within(part: Any, whole: Any) -> bool:
    """Return whether everything in one document is also in the other."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(name in whole and _within(value, whole[name]) for name, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(_within, part, whole))
    return bool(part == whole) and type(part) is type(whole)


def test_an_event_of_the_oldest_producer_is_read() -> None:
    event = decode_event(golden("event.oldest"), max_bytes=10_000)

    assert (event.meta.event_name, event.meta.shipment_numbers) == ("shipment_shipped", ("H10000000801",))
    assert (event.meta.order_number, event.meta.subscription_id, event.meta.skus) == (None, None, ())
    assert event.data == b'{"number":"H10000000801"}'


def test_additions_of_a_newer_producer_are_delivered_only_inside_the_payload() -> None:
    event = decode_event(golden("event.newer"), max_bytes=10_000)

    body = json.loads(webhook_body(event))
    assert list(body) == ["id", "event_name", "created_at", "data"]
    assert body["data"] == json.loads(golden("event.newer"))["data"]
    assert event.meta == decode_event(golden("event"), max_bytes=10_000).meta
