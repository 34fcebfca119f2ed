"""Every record type has golden files, and they are read as what they meant when they were written."""

from __future__ import annotations

import importlib
import json
import pkgutil
from typing import Any

import pytest
from pydantic import BaseModel

import schemas
from schemas.attempt import Attempt
from schemas.bundle import read_attempts, read_dispatches
from schemas.codec import decode_event, from_header, from_json, to_json, webhook_body
from schemas.delivery import Delivery
from schemas.endpoint import EndpointRecord
from schemas.event import SCHEMA_VERSION, EventMeta
from schemas.health import HealthRecord
from tests.unit.sample_events import GOLDEN
from tests.unit.upgrade.golden import HEADERS, KINDS, MODELS, golden, wire


def test_every_record_type_has_golden_files() -> None:
    """A model with a schema_version is a record. One that is added needs golden files and a line in MODELS."""
    modules = [importlib.import_module(f"schemas.{module.name}") for module in pkgutil.iter_modules(schemas.__path__)]
    records = {
        found
        for module in modules
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, BaseModel) and "schema_version" in found.model_fields
        # Events are the producers'; they have tests of their own here.
        if not found.__name__.startswith("_") and found.__module__ != "schemas.event"
    }

    assert records == set(MODELS.values())
    wanted = {f"{name}{kind}.v1.json" for name in (*MODELS, "event") for kind in KINDS} | {"webhook_body.v1.json"}
    wanted |= {f"{name}.v1.json" for name in ADDED}
    assert {path.name for path in GOLDEN.glob("*.v1.json")} == wanted
    assert {path.name for path in (GOLDEN / "wire").glob("*.json")} == {
        f"{name}.v1.json" for name in (*MODELS, "event", "endpoint_claim", "attempt_bundle", "dispatch_bundle")
    }


def test_a_new_major_version_needs_golden_files_of_its_own() -> None:
    assert SCHEMA_VERSION == 1, "add NAME.v2.json beside the files of version 1, and keep reading those"


@pytest.mark.parametrize("name", MODELS)
def test_the_wire_holds_the_record_that_is_expected(name: str) -> None:
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
        from_json(golden("attempt"), Attempt).model_copy(update={"endpoint_id": 12}),
    ]


def test_a_record_of_several_dispatches() -> None:
    whole = wire("dispatch_bundle")

    (first, one), (second, other) = read_dispatches(whole.headers, whole.value)

    assert (first.event.id, second.event.id) == ("evt_2", "evt_3")
    assert one == wire("dispatch").value
    assert (other[:13], other[-16:]) == (b'{"id":"evt_3"', b'"price":1.1000}}')


ADDED: dict[str, type[BaseModel]] = {"delivery.traced": Delivery, "health.held": HealthRecord, "endpoint.dropped": EndpointRecord}
"""Records with fields that came after the first golden files of their type."""


@pytest.mark.parametrize("name", ADDED)
def test_a_field_that_was_added_is_read_and_written_as_it_was(name: str) -> None:
    read = from_json(golden(name), ADDED[name])

    assert read.model_extra == {}, "every member is a field"
    assert to_json(read) == golden(name)


OLDEST: dict[str, dict[str, Any]] = {
    "attempt": {"schema_version": 1, "http_status_code": None, "failure": None, "error": None, "next_attempt_at": None}
    | {"first_byte_ms": None, "response_headers": (), "response_body": "", "response_body_encoding": "text"}
    | {"response_truncated": False, "request_headers": {}},
    "delivery": {"schema_version": 1, "trigger": "repeat", "parked": 0, "traceparent": None, "tracestate": None},
    "dispatch": {"schema_version": 1, "body_bytes": None},
    "dead_letter": {"schema_version": 1, "null_value": False, "truncated": False},
    "endpoint": {"schema_version": 1, "description": "", "active": True, "filters": {}, "sealed_token": None, "secrets": ()}
    | {"version": 1, "deleted": False, "change": "create", "changed_by": "", "max_per_second": None, "activated_version": 1}
    | {"sealed_headers": {}, "drops": ()},
    "health": {"schema_version": 1, "since": None, "circuit": "", "until": None, "reason": "", "detail": ""}
    | {"partition": None, "held": 0, "done": 0, "done_at": None, "counted": 0, "counted_at": None},
    "operational": {"schema_version": 1},
    "api_key": {"schema_version": 1, "is_first": False, "revoked_at": None, "revoked_by": ""},
    "audit": {"schema_version": 1, "detail": "", "remote_address": ""},
    "ended_session": {"schema_version": 1},
    "missing": {"schema_version": 1},
    "topic_ids": {"schema_version": 1},
}
"""What a record means whose producer knew the required fields only. These defaults are a promise, too."""


@pytest.mark.parametrize("name", MODELS)
def test_what_the_oldest_producer_wrote_is_read(name: str) -> None:
    read = from_json(golden(f"{name}.oldest"), MODELS[name]).model_dump()

    required = json.loads(golden(f"{name}.oldest"))
    assert {field: read[field] for field in OLDEST[name]} == OLDEST[name]
    assert set(read) == set(required) | set(OLDEST[name])
    if "event" in read:
        assert set(read["event"]) == set(EventMeta.model_fields)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_reading_and_writing_again_keeps_every_member(name: str, kind: str) -> None:
    value = golden(f"{name}{kind}")

    written = json.loads(from_json(value, MODELS[name]).model_dump_json())

    assert _within(json.loads(value), written)


def _within(part: Any, whole: Any) -> bool:
    """Whether all that stands in one document stands in the other."""
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


def test_what_a_newer_producer_adds_to_the_payload_is_delivered_and_to_the_envelope_is_not() -> None:
    event = decode_event(golden("event.newer"), max_bytes=10_000)

    body = json.loads(webhook_body(event))
    assert list(body) == ["id", "event_name", "created_at", "data"]
    assert body["data"] == json.loads(golden("event.newer"))["data"]
    assert event.meta == decode_event(golden("event"), max_bytes=10_000).meta
