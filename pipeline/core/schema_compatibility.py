"""Finds what a change of an event type breaks: valid events that are now refused, or members that receivers lose. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from schemas.configured_events import ConfiguredEventType

_DEPTH: Final = 40
_LOWER_BOUNDS: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains")
_UPPER_BOUNDS: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains")
_COMPARED: Final = frozenset(
    {
        "$ref", "$defs", "definitions", "properties", "items", "required", "type", "enum",
        "patternProperties", "additionalProperties",
        *_LOWER_BOUNDS, *_UPPER_BOUNDS,
    }
)  # fmt: skip
_WORDS: Final = frozenset(
    {
        "$schema",
        "$id",
        "$anchor",
        "$comment",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
    }
)
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A change of an event type: where (``data.items.sku``; empty for all of it), what, and whether it breaks anyone."""

    event_type: str
    path: str
    message: str
    breaks: bool


def changes(old: Sequence[ConfiguredEventType], new: Sequence[ConfiguredEventType]) -> Iterator[SchemaChange]:
    """Every change that matters to producers or receivers, in the order of the older file."""
    by_name = {one.name: one for one in new}
    for before in old:
        after = by_name.pop(before.name, None)
        if after is None:
            message = "It was removed: its events become dead letters, and nobody can subscribe to it. Keep it."
            yield SchemaChange(before.name, "", message, breaks=True)
        else:
            yield from _of_one(before, after)
    for name in by_name:
        yield SchemaChange(name, "", "It is new.", breaks=False)


def _of_one(before: ConfiguredEventType, after: ConfiguredEventType) -> Iterator[SchemaChange]:
    name = before.name
    if before.topic != after.topic:
        message = f"Its topic was {before.topic}, and is {after.topic}: events in the old one may not be delivered."
        yield SchemaChange(name, "topic", message, breaks=True)
    for reference, pointers in before.references.items():
        if lost := [one for one in pointers if one not in after.references.get(reference, ())]:
            message = f"{', '.join(lost)} is no longer used: new events cannot be found by it."
            yield SchemaChange(name, f"references.{reference}", message, breaks=True)
    if before.earlier and after.earlier and before.version_at != after.version_at:
        message = f"The version was at {before.version_at}, and is at {after.version_at}: events get the wrong version."
        yield SchemaChange(name, "version_at", message, breaks=True)
    for version in before.versions:
        if version not in after.versions:
            message = (
                f"Version {version} was removed: its events become dead letters, and endpoints that pin it get nothing. Keep it."
            )
            yield SchemaChange(name, "", message, breaks=True)
            continue
        old, new = before.in_version(version).json_schema, after.in_version(version).json_schema
        several = before.earlier or after.earlier
        yield from _Walk(name, old, new).compare(old, new, f"version {version}, data" if several else "data", 0)
    for version in after.versions:
        if version not in before.versions:
            is_lowest = version == min(after.versions)  # a removed lowest version is reported above
            told = f"Version {version} is new" + (", and the lowest: events that state no version get it." if is_lowest else ".")
            yield SchemaChange(name, "", told, breaks=is_lowest)


class _Walk:
    def __init__(self, name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self._name, self._old, self._new = name, old, new
        self._compared: set[tuple[int, int, str]] = set()

    def compare(self, old: Any, new: Any, path: str, depth: int) -> Iterator[SchemaChange]:
        # All True are one object, so they also need the path.
        compared = id(old), id(new), path if isinstance(new, bool) else ""
        if compared in self._compared:  # a schema that refers to itself twice has 2^40 paths of this depth
            return
        self._compared.add(compared)
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        if depth > _DEPTH or old is False:  # nothing was allowed before
            return
        old, new = {} if old is True else old, {} if new is True else new
        if not isinstance(old, Mapping) or not isinstance(new, Mapping):
            if old != new:
                yield self._broken(path, "The allowed values changed")
            return
        yield from self._types(old, new, path)
        yield from self._values(old, new, path)
        yield from self._bounds(old, new, path)
        yield from self._members(old, new, path, depth)
        if "items" in new:
            yield from self.compare(old.get("items", True), new["items"], f"{path}[]", depth + 1)
        for word in sorted((old.keys() | new.keys()) - _COMPARED - _WORDS):
            if old.get(word, _MISSING) != new.get(word, _MISSING) and word in new:
                yield self._broken(path, f"{word} changed: what was valid may be invalid now")
            elif word in new:  # its text is the same, but it may refer to something that changed
                for before, after in _with_references(old[word], new[word]):
                    yield from self.compare(before, after, path, depth + 1)

    def _broken(self, path: str, message: str) -> SchemaChange:
        return SchemaChange(self._name, path, f"{message}.", breaks=True)

    def _noted(self, path: str, message: str) -> SchemaChange:
        return SchemaChange(self._name, path, f"{message}.", breaks=False)

    def _types(self, old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[SchemaChange]:
        before, after = _types_of(old), _types_of(new)
        if before == after:
            return
        if after is not None and (before is None or not before <= after | ({"integer"} if "number" in after else set())):
            was = " or ".join(sorted(before)) if before else "anything"
            yield self._broken(path, f"Its type was {was}, and is {' or '.join(sorted(after))}")
        elif after is None:
            yield self._noted(path, "It may also be anything")
        elif added := after - (before or set()):
            yield self._noted(path, f"It may also be {' or '.join(sorted(added))}")

    def _values(self, old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[SchemaChange]:
        if "enum" not in new:
            if "enum" in old:
                yield self._noted(path, "It may have any value now")
            return
        if "enum" not in old:
            yield self._broken(path, "Only some values are allowed now")
        elif lost := [one for one in old["enum"] if one not in new["enum"]]:
            yield self._broken(path, f"No longer allowed: {', '.join(map(repr, lost[:10]))}")
        elif added := [one for one in new["enum"] if one not in old["enum"]]:
            yield self._noted(path, f"New values: {', '.join(map(repr, added[:10]))}")

    def _bounds(self, old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[SchemaChange]:
        for words, sign in ((_LOWER_BOUNDS, 1), (_UPPER_BOUNDS, -1)):
            for word in words:
                before, after = old.get(word), new.get(word)
                if after is not None and after != before and (before is None or sign * after > sign * before):
                    yield self._broken(path, f"{word} was {'not set' if before is None else before}, and is {after}")

    def _members(self, old: Mapping[str, Any], new: Mapping[str, Any], path: str, depth: int) -> Iterator[SchemaChange]:
        yield from self._required(old, new, path)
        before, after = old.get("properties", {}), new.get("properties", {})
        for name, schema in before.items():
            if name in after:
                yield from self.compare(schema, after[name], f"{path}.{name}", depth + 1)
            else:
                yield self._broken(f"{path}.{name}", "It was removed: receivers can no longer rely on it")
        for name in after.keys() - before.keys():
            yield self._noted(f"{path}.{name}", "It is new")
        if old.get("additionalProperties", True) is not False and new.get("additionalProperties", True) is False:
            yield self._broken(path, "Other members are refused now")
        elif isinstance(others := new.get("additionalProperties"), Mapping):
            yield from self.compare(old.get("additionalProperties", True), others, f"{path}.*", depth + 1)
        # The members of a pattern that only one of the two has are described by additionalProperties in the other.
        old_patterns, new_patterns = old.get("patternProperties", {}), new.get("patternProperties", {})
        for pattern in dict.fromkeys([*old_patterns, *new_patterns]):
            before = old_patterns.get(pattern, old.get("additionalProperties", True))
            after = new_patterns.get(pattern, new.get("additionalProperties", True))
            yield from self.compare(before, after, f"{path}./{pattern}/", depth + 1)

    def _required(self, old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[SchemaChange]:
        for name in new.get("required", ()):
            if name not in old.get("required", ()):
                yield self._broken(f"{path}.{name}", "It is required now: events without it become dead letters")
        for name in old.get("required", ()):
            if name not in new.get("required", ()):
                yield self._noted(f"{path}.{name}", "It is no longer required: receivers may not get it")


def _resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    """The target of a local reference; a schema without a reference is returned unchanged."""
    for _ in range(_DEPTH):
        if not isinstance(schema, Mapping) or not isinstance(reference := schema.get("$ref"), str):
            return schema
        found = _target(reference, root)
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**found, **beside} if isinstance(found, Mapping) else found
    return True


def _target(reference: str, root: Mapping[str, Any]) -> Any:
    """What ``#/$defs/item`` or ``#item`` (an ``$anchor``) names; True, which allows everything, if it names nothing."""
    fragment = unquote(reference.removeprefix("#"))
    if fragment and not fragment.startswith("/"):
        return _anchored(root, fragment)
    found: Any = root
    for step in fragment.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(name, True)
        elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name[:9]) < len(found):
            found = found[int(name[:9])]
        else:
            return True
    return found


def _anchored(part: Any, anchor: str) -> Any:
    if isinstance(part, Mapping) and part.get("$anchor") == anchor:
        return part
    inside = part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ()
    return next((found for one in inside if (found := _anchored(one, anchor)) is not True), True)


def _with_references(old: Any, new: Any) -> Iterator[tuple[Any, Any]]:
    """The parts of two equal schemas that refer to others."""
    if isinstance(old, Mapping):
        if isinstance(old.get("$ref"), str):
            yield old, new
        for name, part in old.items():
            yield from _with_references(part, new[name])
    elif isinstance(old, list):
        for before, after in zip(old, new, strict=True):
            yield from _with_references(before, after)


def _types_of(schema: Mapping[str, Any]) -> set[str] | None:
    given = schema.get("type")
    return None if given is None else {given} if isinstance(given, str) else set(given)
