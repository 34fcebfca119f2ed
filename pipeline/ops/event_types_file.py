"""Reads the file of a deployment's own event types (setting ``event_types_file``), in YAML or JSON.

Every error names the file, the entry, the field, and what to do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from schemas.configured_events import FIRST_VERSION, REFERENCES, ConfiguredEventType, EarlierVersion, texts_at
from schemas.event import EventType
from schemas.event_types import SOURCE_TOPICS

MAX_TYPES: Final = 200
_MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_ERRORS: Final = 10
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_TOPIC: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_OF_A_PIPELINE: Final = re.compile(r"(^|[._-])webhooks\.", re.IGNORECASE)
_NO_TOPIC: Final = "Write the name of a Kafka topic without the prefix: 1 to 200 of A-Z, a-z, 0-9, dots, _ and -."
_REQUIRED: Final = ("name", "topic", "description", "schema", "sample")
_KNOWN: Final = (*_REQUIRED, "references", "version", "version_at", "earlier")
_OF_A_VERSION: Final = ("version", "schema", "sample")
_MAX_VERSIONS: Final = 20
_HIGHEST_VERSION: Final = 1_000_000
_LOCAL: Final = "#"


class EventTypesFileError(ValueError):
    """The file cannot be used; ``str(error)`` has a line for each problem."""


def read_event_types(path: Path) -> tuple[ConfiguredEventType, ...]:
    """The event types in a file.

    Raises:
        EventTypesFileError: it cannot be read, or an entry is invalid.
    """
    entries = read_entries(path)
    problems: list[str] = []
    made: list[ConfiguredEventType] = []
    for number, entry in enumerate(entries, 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        place = f"{path}, entry {number}" + (f" ({name[:100]})" if isinstance(name, str) else "")
        found = list(_problems(entry, [one.name for one in made]))
        problems += [f"{place}, {field}: {message}" if field else f"{place}: {message}" for field, message in found]
        if not found:
            made.append(event_type_of(entry))
    if problems:
        more = f"\nand {len(problems) - _MAX_ERRORS} more" if len(problems) > _MAX_ERRORS else ""
        raise EventTypesFileError("\n".join(problems[:_MAX_ERRORS]) + more)
    return tuple(made)


def entry_problems(entry: Any, topics: Collection[str]) -> list[tuple[str, str]]:
    """The problems of an event type that is added at run time: field and sentence. ``topics``: those that are read anyway."""
    found = list(_problems(entry, ()))
    if not found and entry["topic"] not in topics and (problem := added_topic_problem(entry["topic"])):
        found.append(("topic", problem))
    return found[:_MAX_ERRORS]


def added_topic_problem(topic: str) -> str | None:
    """Why a topic of this name, without the prefix, is not read for an event type that is added at run time.

    Reading Kafka's own topics, or those of a pipeline, would write more records to them, without end.
    """
    if not _TOPIC.fullmatch(topic):
        return _NO_TOPIC
    if topic.startswith("__"):
        return "Topics that begin with __ are Kafka's own; choose another."
    if _OF_A_PIPELINE.search(topic):
        return "Topics whose names have webhooks. at the beginning, or after a dot, _ or -, are a pipeline's own; choose another."
    return None


def read_entries(path: Path) -> Sequence[Any]:
    """The raw entries in a file of event types.

    Raises:
        EventTypesFileError: it cannot be read, or is not a list.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise EventTypesFileError(f"{path} is larger than {_MAX_BYTES:,} bytes; remove what event types do not need.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise EventTypesFileError(f"{path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise EventTypesFileError(f"{path} is not UTF-8; save it in this encoding.") from None
    document = _document(path, text)
    entries = document.get("event_types") if isinstance(document, dict) else document
    if not isinstance(entries, list):
        raise EventTypesFileError(
            f"{path} has no list of event types; write event_types: and an entry for each, starting with - name:."
        )
    if len(entries) > MAX_TYPES:
        raise EventTypesFileError(f"{path} has {len(entries)} event types; at most {MAX_TYPES} are read.")
    if isinstance(document, dict) and (others := sorted(str(name)[:50] for name in document if name != "event_types")):
        raise EventTypesFileError(f"{path} has unknown keys beside event_types: {', '.join(others)}. Remove them.")
    return entries


def _document(path: Path, text: str) -> Any:
    if path.suffix.lower() == ".json":
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise EventTypesFileError(f"{path} is not JSON: {error}.") from None
    import yaml  # noqa: PLC0415 - only deployments with such a file load it

    class Loader(yaml.SafeLoader):
        """Keeps times as text, as in JSON."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise EventTypesFileError(f"{path} is not YAML: {' '.join(str(error).split())}.") from None


def _problems(entry: Any, before: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Field and sentence."""
    if not isinstance(entry, dict):
        yield "", f"It is not a mapping; write {', '.join(_REQUIRED)}, and references if there are any."
        return
    for field in entry:
        if field not in _KNOWN:
            yield str(field)[:50], f"There is no such field; the known ones are {', '.join(_KNOWN)}."
    missing = [field for field in _REQUIRED if field not in entry]
    for field in missing:
        yield field, "It is missing; every event type needs one."
    if missing:
        return
    yield from _of_words(entry, before)
    schema_problems = list(_of_schema(entry["schema"]))
    yield from schema_problems
    version_problems = list(_of_versions(entry))
    yield from version_problems
    yield from _of_sample(entry, check_schema=not schema_problems and not version_problems)


def _of_words(entry: Mapping[str, Any], before: Sequence[str]) -> Iterator[tuple[str, str]]:
    name, topic, description = entry["name"], entry["topic"], entry["description"]
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 100:
        yield "name", "Write 1 to 100 of a-z, 0-9 and _, beginning with a letter, such as refund_issued."
    elif name in set(EventType):
        yield "name", "It is a built-in event type, which cannot be changed; choose another."
    elif name in before:
        yield "name", "An earlier entry has this name; choose another, or remove one of them."
    if not isinstance(topic, str) or not _TOPIC.fullmatch(topic):
        yield "topic", _NO_TOPIC
    elif topic.startswith("webhooks."):
        yield (
            "topic",
            f"Topics that begin with webhooks. are the pipeline's own; choose another, or one of {', '.join(SOURCE_TOPICS)}.",
        )
    if not isinstance(description, str) or not description.strip() or len(description) > 500:
        yield "description", "Say in a sentence of at most 500 characters when the event is published."


def _of_schema(schema: Any) -> Iterator[tuple[str, str]]:
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415 - only deployments with such a file load it
    from jsonschema.validators import Draft202012Validator, validator_for  # noqa: PLC0415

    if not isinstance(schema, dict):
        yield "schema", "Write the JSON Schema of the payload as a mapping, such as type: object."
        return
    try:
        json.dumps(schema, allow_nan=False)
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        yield ".".join(["schema", *map(str, error.absolute_path)]), f"It is not a JSON Schema: {error.message[:200]}."
    except (TypeError, ValueError, RecursionError) as error:
        yield "schema", f"It cannot be written as JSON: {error}."
    else:
        leads_nowhere = _broken_references(schema)
        for reference in _references(schema):
            if not reference.startswith(_LOCAL):
                yield (
                    "schema",
                    f"$ref {reference[:100]!r} is outside the file; nothing is fetched. Put it under $defs, and write #/$defs/….",
                )
            elif reference in leads_nowhere:
                # The sample may lack the member that needs it. Events with the member would all become dead letters.
                yield "schema", f"It cannot be used: $ref {reference[:100]!r} leads nowhere. Correct it, or add what it names."


def _broken_references(schema: Mapping[str, Any]) -> Collection[str]:
    from referencing import Registry, Resource  # noqa: PLC0415 - only deployments with such a file load it
    from referencing.exceptions import Unresolvable  # noqa: PLC0415
    from referencing.jsonschema import DRAFT202012  # noqa: PLC0415

    broken: set[str] = set()
    if any(map(_identified, schema.values())):
        return broken  # references in a part with an $id of its own are relative to it
    resolver = Registry().resolver_with_root(Resource.from_contents(schema, default_specification=DRAFT202012))
    for reference in set(_references(schema)):
        if not reference.startswith("#/"):
            continue  # the library takes minutes to look for thousands of anchors
        try:
            resolver.lookup(reference)
        except Unresolvable:
            broken.add(reference)
    return broken


def _identified(part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(part.get("$id"), str) or any(map(_identified, part.values()))
    return isinstance(part, list) and any(map(_identified, part))


def _of_versions(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    version, earlier, at = entry.get("version", FIRST_VERSION), entry.get("earlier", []), entry.get("version_at", "")
    if not _is_version(version):
        yield (
            "version",
            f"Write a whole number from 1 to {_HIGHEST_VERSION}; raise it when a change of the schema breaks receivers.",
        )
        return
    if not isinstance(earlier, list) or len(earlier) >= _MAX_VERSIONS:
        yield "earlier", f"Write a list of the earlier versions that are still published, fewer than {_MAX_VERSIONS} of them."
        return
    if earlier and (not isinstance(at, str) or not at.startswith("/") or "*" in at):
        yield (
            "version_at",
            "Write the JSON pointer to the version in the payload, such as /schema_version. It distinguishes the versions.",
        )
        return
    if not earlier and at:
        yield "version_at", "It has a meaning only with earlier versions. Remove it, or list them under earlier."
        return
    known = {version}
    for number, one in enumerate(earlier, 1):
        found = list(_of_earlier(one, version, known))
        yield from ((f"earlier, number {number}" + (f", {field}" if field else ""), message) for field, message in found)
        if found:
            return
        known.add(one["version"])


def _of_earlier(one: Any, newest: int, known: Collection[int]) -> Iterator[tuple[str, str]]:
    if not isinstance(one, dict) or set(one) != set(_OF_A_VERSION):
        yield "", f"Write {', '.join(_OF_A_VERSION)}, and nothing else."
    elif not _is_version(one["version"]) or one["version"] >= newest:
        yield "version", "Write a whole number that is lower than the version of the entry."
    elif one["version"] in known:
        yield "version", "This version is listed twice; remove one of them."
    elif not isinstance(one["sample"], dict):
        yield "sample", "Write an example of the payload, as a mapping."
    else:
        yield from _of_schema(one["schema"])


def _is_version(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _HIGHEST_VERSION


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name in {"$ref", "$dynamicRef"} and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _of_sample(entry: Mapping[str, Any], *, check_schema: bool) -> Iterator[tuple[str, str]]:
    sample = entry["sample"]
    if not isinstance(sample, dict):
        yield "sample", "Write an example of the payload, as a mapping."
        return
    try:
        sample = json.loads(json.dumps(sample, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        yield "sample", f"It cannot be written as JSON: {error}."
        return
    if check_schema:
        yield from _against_its_schema(entry, sample)
    references = entry.get("references", {})
    if not isinstance(references, dict):
        yield "references", f"Write JSON pointers as a mapping. The names are {', '.join(REFERENCES)}."
        return
    for name, given in references.items():
        yield from _of_reference(str(name), given, sample)


def _against_its_schema(entry: Mapping[str, Any], sample: Any) -> Iterator[tuple[str, str]]:
    """Check each sample against the schema of its version."""
    try:
        bare = _bare(entry)
        for version in reversed(bare.versions):
            of_version = (
                sample if version == bare.version else json.loads(json.dumps(bare.in_version(version).sample, allow_nan=False))
            )
            field = "sample" if version == bare.version else f"sample of version {version}"
            if (found_version := bare.version_of(of_version)) != version:
                found = "It has no valid version" if found_version is None else f"It has version {found_version}"
                yield field, f"{found} at {bare.version_at}; write {version} there."
                continue
            for path, message in bare.problems(of_version):
                yield f"{field}{path.removeprefix('data')}", f"It breaks the schema: {message}. Correct the sample or the schema."
    except Exception as error:  # noqa: BLE001 - for example, the library has its own errors for a $ref to nowhere
        yield "schema", f"It cannot be used: {type(error).__name__}: {str(error)[:200]}."


def _of_reference(name: str, given: Any, sample: Any) -> Iterator[tuple[str, str]]:
    field = f"references.{name[:50]}"
    if name not in REFERENCES:
        yield field, f"There is no such reference; the known ones are {', '.join(REFERENCES)}."
        return
    pointers = given if isinstance(given, list) else [given]
    for pointer in pointers:
        if not isinstance(pointer, str) or not pointer.startswith("/"):
            yield field, "Write a JSON pointer into the payload, such as /order_number, or /items/*/sku for every element."
        elif not texts_at(sample, pointer):
            yield (
                field,
                f"{pointer[:100]} points to no text or whole number in the sample. Correct it, or add the member to the sample.",
            )


def _bare(entry: Mapping[str, Any]) -> ConfiguredEventType:
    return ConfiguredEventType("x", "x", "x", entry["schema"], {}, **_versions_of(entry))


def _versions_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    earlier = tuple(
        EarlierVersion(one["version"], one["schema"], json.loads(json.dumps(one["sample"])))
        for one in sorted(entry.get("earlier", ()), key=lambda one: int(one["version"]))
    )
    return {"version": entry.get("version", FIRST_VERSION), "version_at": entry.get("version_at", ""), "earlier": earlier}


def event_type_of(entry: Mapping[str, Any]) -> ConfiguredEventType:
    """The event type of a valid entry."""
    references = {
        name: tuple(given) if isinstance(given, list) else (given,) for name, given in entry.get("references", {}).items()
    }
    sample = json.loads(json.dumps(entry["sample"]))
    return ConfiguredEventType(
        entry["name"],
        entry["topic"],
        entry["description"].strip(),
        entry["schema"],
        sample,
        references,
        **_versions_of(entry),
    )
