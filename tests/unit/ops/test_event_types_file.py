"""The file of a deployment's own event types: the shipped one can be used, and every error says where it is and what to do."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.ops.event_types_file import EventTypesFileError, read_event_types
from pipeline.ops.settings import Settings

SHIPPED = Path(__file__).parents[3] / "deploy" / "event-types" / "event-types.yaml"
ENTRY: dict[str, Any] = {
    "name": "refund_issued",
    "topic": "oms.refunds",
    "description": "Money is given back.",
    "schema": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}, "at": {"type": "string"}}},
    "references": {"order_number": "/order/number"},
    "sample": {"id": 1, "order": {"number": "R1"}},
}


def written(tmp_path: Path, document: object, name: str = "types.json") -> Path:
    path = tmp_path / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def refused(path: Path) -> str:
    with pytest.raises(EventTypesFileError) as caught:
        read_event_types(path)
    return str(caught.value)


def test_the_shipped_file_can_be_used() -> None:
    found = {one.name: one for one in read_event_types(SHIPPED)}
    assert list(found) == ["order_returned", "refund_issued", "subscription_paused"]
    assert [one.topic for one in found.values()] == ["oms.orders", "oms.refunds", "oms.subscriptions"]
    assert found["order_returned"].references["skus"] == ("/items/*/sku",)
    assert all(one.problems(one.sample) == [] for one in found.values())


def test_lists_and_mappings_in_json_and_yaml_are_equivalent(tmp_path: Path) -> None:
    wanted = read_event_types(written(tmp_path, [ENTRY]))
    assert read_event_types(written(tmp_path, {"event_types": [ENTRY]})) == wanted
    assert read_event_types(written(tmp_path, json.dumps([ENTRY]), "types.yaml")) == wanted
    assert read_event_types(written(tmp_path, [])) == ()


def test_times_in_yaml_stay_text(tmp_path: Path) -> None:
    text = "- {name: a_b, topic: t, description: d, schema: {}, sample: {at: 2026-03-02T15:04:00Z, on: 2026-03-02}}"
    (one,) = read_event_types(written(tmp_path, text, "types.yml"))
    assert one.sample["at"] == "2026-03-02T15:04:00Z"


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"note": {"$ref": "#/$defs/note"}}, "$defs": {"note": {"type": "string"}}},
        {"properties": {"note": {"$ref": "#note"}}, "$defs": {"any": {"$anchor": "note"}}},
        {"properties": {"note": {"$ref": "#"}}},
        {"properties": {"note": {"$id": "urn:note", "$ref": "#/$defs/own", "$defs": {"own": {}}}}},
    ],
)
def test_references_inside_a_schema_are_resolved(tmp_path: Path, schema: dict[str, Any]) -> None:
    changed = ENTRY | {"schema": schema, "sample": {"order": {"number": "R1"}}}
    assert read_event_types(written(tmp_path, json.dumps({"event_types": [changed]}), "types.json"))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "Refund", "name: Write 1 to 100 of a-z, 0-9 and _"),
        ("name", "order_completed", "name: It is a built-in event type, which cannot be changed"),
        ("name", 7, "name: Write 1 to 100"),
        ("topic", "webhooks.attempts", "topic: Topics that begin with webhooks. are the pipeline's own"),
        ("topic", "a b", "topic: Write the name of a Kafka topic"),
        ("description", " ", "description: Say in a sentence"),
        ("schema", [], "schema: Write the JSON Schema of the payload as a mapping"),
        ("schema", {"type": "objekt"}, "schema.type: It is not a JSON Schema: "),
        ("schema", {"$ref": "https://example.com/x.json"}, "is outside the file; nothing is fetched"),
        ("schema", {"$ref": "#/$defs/none"}, "schema: It cannot be used: "),
        (
            "schema",
            {"properties": {"note": {"$ref": "#/$defs/none"}}},
            "schema: It cannot be used: $ref '#/$defs/none' leads nowhere",
        ),
        ("sample", [], "sample: Write an example of the payload"),
        ("sample", {"id": "1", "order": {"number": "R1"}}, "sample.id: It breaks the schema: It should be integer."),
        ("sample", {"order": {"number": "R1"}}, "sample: It breaks the schema: id is required."),
        ("references", [], "references: Write JSON pointers"),
        ("references", {"order": "/order/number"}, "references.order: There is no such reference; the known ones are"),
        ("references", {"order_number": "order/number"}, "references.order_number: Write a JSON pointer into the payload"),
        (
            "references",
            {"order_number": "/number"},
            "references.order_number: /number points to no text or whole number in the sample",
        ),
        ("colour", "red", "colour: There is no such field; the known ones are name, topic"),
    ],
)
def test_an_error_names_file_entry_field_and_what_to_do(tmp_path: Path, field: str, value: object, said: str) -> None:
    good = ENTRY | {"name": "good_one"}
    path = written(tmp_path, [good, copy.deepcopy(ENTRY) | {field: value}])
    message = refused(path)
    name = value if field == "name" and isinstance(value, str) else None if field == "name" else "refund_issued"
    assert message.startswith(f"{path}, entry 2" + (f" ({name}), " if name else ", "))
    assert said in message
    assert "\n" not in message


def test_missing_and_duplicate_parts_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, [ENTRY, ENTRY, {"name": "a"}, "x"])
    assert refused(path).splitlines() == [
        f"{path}, entry 2 (refund_issued), name: An earlier entry has this name; choose another, or remove one of them.",
        *(
            f"{path}, entry 3 (a), {field}: It is missing; every event type needs one."
            for field in ("topic", "description", "schema", "sample")
        ),
        f"{path}, entry 4: It is not a mapping; write name, topic, description, schema, sample, and references if there are any.",
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.json", "{", "is not JSON: "),
        ("t.yaml", "a: [", "is not YAML: "),
        ("t.yaml", "just text", "has no list of event types"),
        ("t.json", '{"event_types": [], "more": 1}', "has unknown keys beside event_types: more"),
        ("t.yaml", "!!python/object/apply:os.system [ls]", "is not YAML: "),
        ("t.json", json.dumps([{}] * 201), "has 201 event types; at most 200 are read"),
    ],
)
def test_an_unreadable_file_is_an_error(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = written(tmp_path, text, name)
    assert said in refused(path)
    assert str(path) in refused(path)


def test_a_missing_file_is_an_error_at_the_start(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    with pytest.raises(ValidationError, match=r"none\.yaml cannot be read: No such file"):
        Settings(_env_file=None, event_types_file=missing)


def test_its_topics_are_read_and_created() -> None:
    settings = Settings(
        _env_file=None, event_types_file=SHIPPED, kafka_topic_prefix="eu.", producer_forms="eu.oms.refunds=outbox"
    )
    assert settings.topics.sources[3:] == ("eu.oms.refunds", "eu.oms.subscriptions")
    assert {"eu.oms.refunds", "eu.oms.subscriptions"} <= {spec.name for spec in settings.topics.specs() if spec.broker_time}
    assert Settings(_env_file=None).topics.sources == ("oms.orders", "oms.shipments", "oms.stock-items")


@pytest.mark.parametrize(
    ("forms", "said"), [("oms.lost=outbox", "does not name a topic of events"), ("oms.orders=avro", "'avro' is not a form")]
)
def test_producer_forms_with_an_unknown_topic_or_form_are_refused(forms: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Settings(_env_file=None, producer_forms=forms)


VERSIONS = ENTRY | {
    "version": 2,
    "version_at": "/v",
    "sample": ENTRY["sample"] | {"v": 2},
    "earlier": [{"version": 1, "schema": {"type": "object", "required": ["total"]}, "sample": {"total": "1"}}],
}


def test_an_entry_may_have_earlier_versions(tmp_path: Path) -> None:
    (one,) = read_event_types(written(tmp_path, [VERSIONS]))
    assert (one.versions, one.version_at) == ((1, 2), "/v")
    assert one.in_version(1).sample == {"total": "1"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"version": 0}, "version: Write a whole number from 1"),
        ({"version": True}, "version: Write a whole number from 1"),
        ({"version_at": ""}, "version_at: Write the JSON pointer"),
        ({"version_at": "/items/*/v"}, "version_at: Write the JSON pointer"),
        ({"earlier": []}, "version_at: It has a meaning only with earlier versions"),
        ({"earlier": {}}, "earlier: Write a list"),
        ({"earlier": [{"version": 1}]}, "earlier, number 1: Write version, schema, sample"),
        (
            {"earlier": [VERSIONS["earlier"][0] | {"version": 2}]},
            "earlier, number 1, version: Write a whole number that is lower",
        ),
        ({"earlier": [VERSIONS["earlier"][0]] * 2}, "earlier, number 2, version: This version is listed twice"),
        (
            {"earlier": [VERSIONS["earlier"][0] | {"schema": {"type": 1}}]},
            "earlier, number 1, schema.type: It is not a JSON Schema",
        ),
        (
            {"earlier": [VERSIONS["earlier"][0] | {"sample": {"v": 1}}]},
            "sample of version 1: It breaks the schema: total is required",
        ),
        (
            {"earlier": [VERSIONS["earlier"][0] | {"sample": {"v": 2}}]},
            "sample of version 1: It has version 2 at /v; write 1 there",
        ),
        ({"sample": ENTRY["sample"]}, "sample: It has version 1 at /v; write 2 there"),
    ],
)
def test_errors_in_versions_are_named(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    assert said in refused(written(tmp_path, [VERSIONS | fields]))
