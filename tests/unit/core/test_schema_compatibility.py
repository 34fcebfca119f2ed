"""Which changes of an event type break receivers, and which do not."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.core.schema_compatibility import changes
from schemas.configured_events import ConfiguredEventType, EarlierVersion

OLD: dict[str, Any] = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "kind": {"enum": ["a", "b"]},
        "note": {"type": ["string", "null"]},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
        "any": True,
        "never": False,
        "list": {"type": "array"},
        "number": {"type": ["integer", "number"]},
    },
    "$defs": {"item": {"type": "object", "properties": {"sku": {"type": "string", "maxLength": 10}}}},
}


def kind(schema: dict[str, Any], **fields: Any) -> ConfiguredEventType:
    return ConfiguredEventType(**{"name": "a_b", "topic": "t", "description": "", "json_schema": schema, "sample": {}} | fields)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The schema with another value at a path; None removes it."""

    def put(schema: Any, steps: list[str]) -> Any:
        if not steps:
            return value
        inner = put(schema.get(steps[0]), steps[1:])
        return {name: one for name, one in {**schema, steps[0]: inner}.items() if one is not None}

    found: dict[str, Any] = put(OLD, path.split("."))
    return found


@pytest.mark.parametrize(
    ("path", "value", "where", "said"),
    [
        ("properties.note", None, "data.note", "It was removed"),
        ("required", ["id", "kind"], "data.kind", "It is required now"),
        ("properties.id.type", "string", "data.id", "Its type was integer, and is string"),
        ("properties.note.type", "string", "data.note", "Its type was null or string, and is string"),
        ("properties.kind.enum", ["a"], "data.kind", "No longer allowed: 'b'"),
        ("properties.id.enum", [1], "data.id", "Only some values are allowed now"),
        ("properties.id.minimum", 2, "data.id", "minimum was 1, and is 2"),
        ("properties.id.maximum", 9, "data.id", "maximum was not set, and is 9"),
        ("$defs.item.properties.sku.maxLength", 5, "data.items[].sku", "maxLength was 10, and is 5"),
        ("$defs.item.properties.sku.pattern", "^x", "data.items[].sku", "pattern changed"),
        ("additionalProperties", False, "data", "Other members are refused now"),
        ("additionalProperties", {"type": "string"}, "data.*", "Its type was anything, and is string"),
        ("properties.id", False, "data.id", "The allowed values changed"),
        ("properties.any", {"type": "string"}, "data.any", "Its type was anything, and is string"),
        ("properties.number.type", ["string"], "data.number", "Its type was integer or number, and is string"),
    ],
)
def test_breaking_changes(path: str, value: Any, where: str, said: str) -> None:
    (one,) = changes([kind(OLD)], [kind(changed(path, value))])
    assert (one.event_type, one.path, one.breaks) == ("a_b", where, True)
    assert one.message.startswith(said)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("properties.more", {"type": "string"}, "It is new."),
        ("required", [], "It is no longer required: receivers may not get it."),
        ("properties.id.type", "number", "It may also be number."),
        ("properties.kind.enum", ["a", "b", "c"], "New values: 'c'."),
        ("properties.kind.enum", None, "It may have any value now."),
    ],
)
def test_changes_that_are_only_reported(path: str, value: Any, said: str) -> None:
    assert [(one.message, one.breaks) for one in changes([kind(OLD)], [kind(changed(path, value))])] == [(said, False)]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("properties.id.minimum", 0),
        ("properties.id.description", "x"),
        ("title", "y"),
        ("properties.any", {"description": "Anything."}),
        ("properties.never", {"type": "string"}),
        ("properties.list.items", {}),
        ("properties.number.type", "number"),
    ],
)
def test_changes_that_are_not_reported(path: str, value: Any) -> None:
    """They break nobody and allow nothing new."""
    assert list(changes([kind(OLD)], [kind(changed(path, value))])) == []


def test_types_topics_and_references() -> None:
    old = [kind(OLD, references={"skus": ("/a", "/b")}), kind(OLD, name="gone")]
    new = [kind(OLD, topic="u", references={"skus": ("/a",)}), kind(OLD, name="fresh")]
    assert [(one.event_type, one.path, one.breaks) for one in changes(old, new)] == [
        ("a_b", "topic", True),
        ("a_b", "references.skus", True),
        ("gone", "", True),
        ("fresh", "", False),
    ]


def test_recursive_schemas_terminate() -> None:
    tree = {"$ref": "#/$defs/node", "$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}}}}
    assert list(changes([kind(tree)], [kind(tree)])) == []
    loop = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert list(changes([kind(loop)], [kind(loop)])) == []


def test_a_new_version_breaks_nobody_but_a_removed_or_changed_version_does() -> None:
    old = kind(OLD)
    new = kind({"type": "object"}, version=2, version_at="/v", earlier=(EarlierVersion(1, OLD, {}),))
    assert [(one.message, one.breaks) for one in changes([old], [new])] == [("Version 2 is new.", False)]
    gone = [one for one in changes([new], [kind({"type": "object"}, version=2)]) if one.breaks]
    assert [one.message[:22] for one in gone] == ["Version 1 was removed:"]
    tighter = kind(
        {"type": "object"}, version=2, version_at="/v", earlier=(EarlierVersion(1, OLD | {"required": ["id", "kind"]}, {}),)
    )
    assert [one.path for one in changes([new], [tighter]) if one.breaks] == ["version 1, data.kind"]
    moved = kind({"type": "object"}, version=2, version_at="/w", earlier=new.earlier)
    assert [one.path for one in changes([new], [moved]) if one.breaks] == ["version_at"]


@pytest.mark.parametrize("word", ["anyOf", "oneOf", "allOf", "prefixItems"])
def test_what_an_unchanged_rule_refers_to_is_compared(word: str) -> None:
    def with_item(**item: Any) -> ConfiguredEventType:
        rule = [{"$ref": "#/$defs/item"}, {"type": "null"}]
        return kind({"properties": {"item": {word: rule}}, "$defs": {"item": {"type": "object", **item}}})

    (found,) = changes([with_item(required=["sku"])], [with_item(required=["sku", "size"])])
    assert (found.path, found.message, found.breaks) == (
        "data.item.size",
        "It is required now: events without it become dead letters.",
        True,
    )
    assert not list(changes([with_item(description="a")], [with_item(description="b")]))


def test_a_schema_that_refers_to_itself_is_compared_once() -> None:
    def tree(name: str) -> ConfiguredEventType:
        branches = {one: {"$ref": "#"} for one in ("left", "middle", "right")}
        return kind({"properties": {"name": {"type": name}, **branches}, "anyOf": [{"$ref": "#"}, {"$ref": "#/properties/left"}]})

    assert not list(changes([tree("string")], [tree("string")]))
    (found,) = changes([tree("string")], [tree("integer")])
    assert (found.path, found.breaks) == ("data.name", True)


def test_a_new_lowest_version_takes_the_events_without_a_version() -> None:
    before = kind({"type": "object"}, version=2)
    lower = kind({"type": "object"}, version=2, version_at="/v", earlier=(EarlierVersion(1, OLD, {}),))
    higher = kind({"type": "object"}, version=3, version_at="/v", earlier=(EarlierVersion(2, {"type": "object"}, {}),))

    (found,) = changes([before], [lower])
    assert (found.message, found.breaks) == ("Version 1 is new, and the lowest: events that state no version get it.", True)
    assert not [one for one in changes([before], [higher]) if one.breaks]


def test_a_removed_pattern_breaks_if_its_members_are_now_refused() -> None:
    def with_patterns(*patterns: str, others: Any = False) -> ConfiguredEventType:
        texts = {one: {"type": "string"} for one in patterns}
        return kind({"patternProperties": texts, "additionalProperties": others})

    (found,) = changes([with_patterns("^x-", "^y-")], [with_patterns("^y-")])
    assert (found.path, found.message, found.breaks) == ("data./^x-/", "The allowed values changed.", True)
    assert not any(one.breaks for one in changes([with_patterns("^x-", others=True)], [with_patterns(others=True)]))
    narrower = with_patterns(others={"type": "string", "maxLength": 3})
    paths = {one.path for one in changes([with_patterns("^x-", others={"type": "string"})], [narrower]) if one.breaks}
    assert paths == {"data.*", "data./^x-/"}


def test_each_newly_refused_member_is_named() -> None:
    def schema(allowed: bool) -> ConfiguredEventType:
        return kind({"properties": {"a": allowed, "b": allowed}})

    assert [one.path for one in changes([schema(True)], [schema(False)])] == ["data.a", "data.b"]


@pytest.mark.parametrize("reference", ["#sku", "#/allOf/0/items", "#/$defs/a%20sku", "#/$defs/a sku", "#/$defs/a~1b"])
def test_every_form_of_a_local_reference_is_followed(reference: str) -> None:
    def with_length(length: int) -> ConfiguredEventType:
        text = {"type": "string", "maxLength": length}
        definitions = {"a sku": text, "a/b": text, "c": {"$anchor": "sku", **text}}
        return kind({"properties": {"sku": {"$ref": reference}}, "allOf": [{"items": text}], "$defs": definitions})

    assert ("data.sku", "maxLength was 9, and is 5.") in {
        (one.path, one.message) for one in changes([with_length(9)], [with_length(5)])
    }
