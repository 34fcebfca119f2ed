"""Checks an event for its producer before it is published. Pure.

First, would the fan-out accept the event? This uses the fan-out's own function, so an accepted event does not become a dead
letter (except because of its key, which is not part of the event). Second, is the payload as documented? It is delivered even if
it is not, but receivers rely on it. Findings contain no values of an event, which may be customers' data.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError

from pipeline.core.event_file import EventInFile
from schemas.codec import InvalidRecordError, format_time
from schemas.delivery import DeadLetterReason
from schemas.event import EventMeta, OrderEvent, names_of
from schemas.event_codec import DecodedEvent, event_name_of
from schemas.event_reader import EventReader
from schemas.event_types import BUILT_IN, EventTypes
from schemas.producer_event import is_envelope
from schemas.published_event import json_schema
from schemas.topics import Topics

MAX_FINDINGS: Final = 20
"""The maximum number of warnings about one event; a list of a thousand elements may cause a thousand."""

_ADVICE: Final = {
    "id": "Give it a unique id of 1 to 128 of A-Z a-z 0-9 _ : = + / - (no dots), such as a UUID.",
    "occurred_at": "Write when it happened, with an offset or Z.",
    "data": "Put the Order, the Shipment or the Stock Item there, as an object.",
    "data.number": "Put the number of the order or the shipment there, as text of 1 to 255 characters.",
    "data.id": "Put the id of the stock item there, as a whole number.",
    "schema_version": "Leave it out, or write 1.",
    "references": "Leave it out, or write an object with subscription_id or order_number.",
}
_KINDS: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_JSON_TYPES: Final[dict[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}
_TOKEN: Final = "It gives access to the order, and is removed before delivery. Do not publish it."
_TWICE: Final = "Receivers treat the second as a retry of the first and drop it. Give each event its own id."


def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


_formats: Final = FormatChecker(formats=())
_formats.checks("date-time", raises=ValueError)(_is_time)


@dataclass(frozen=True, slots=True)
class EventProblem:
    """A problem with an event: where (``data.number``; empty for the whole event), what, and what to do.

    A fatal problem makes the event a dead letter. Any other affects what is delivered, and may break a receiver.
    """

    path: str
    message: str
    is_fatal: bool


@dataclass(frozen=True, slots=True)
class CheckedEvent:
    """A checked event. ``event`` is None if the fan-out would refuse it, and ``reason`` is the dead letter's reason."""

    source: EventInFile
    event: EventMeta | None
    reason: str
    problems: Sequence[EventProblem]


def check_events(
    events: Iterable[EventInFile], *, max_bytes: int, types: EventTypes = BUILT_IN, reader: EventReader | None = None
) -> Iterator[CheckedEvent]:
    """Check events, in their order. ``max_bytes`` is the fan-out's limit (setting ``max_event_bytes``).

    The ``reader`` knows the types, and the forms of records that are set for topics; by default, the content decides.
    """
    reader = reader or EventReader(types, Topics([]), max_bytes=max_bytes)
    types = reader.types
    seen: dict[str, EventInFile] = {}
    for source in events:
        try:
            decoded = reader.read_unpublished(source.value)
        except InvalidRecordError as error:
            yield CheckedEvent(source, None, error.reason.value, list(_fatal(error, source.value, types)))
            continue
        problems = list(_warnings(decoded, source.value, types))
        first = seen.setdefault(decoded.meta.id, source)
        if first is not source:
            problems.append(EventProblem("id", f"{first.place} has it too. {_TWICE}", is_fatal=False))
        yield CheckedEvent(source, decoded.meta, "", problems)


def _fatal(error: InvalidRecordError, value: bytes, types: EventTypes) -> Iterator[EventProblem]:
    # In the payload of an event type that the deployment adds, the same paths mean something else.
    is_payload_ours = error.reason is not DeadLetterReason.INVALID_PAYLOAD or event_name_of(value) not in types.configured
    advice = _ADVICE if is_payload_ours else {}
    if not error.problems:
        yield EventProblem("", str(error), is_fatal=True)
    for path, message in error.problems:
        yield EventProblem(
            path,
            " ".join(filter(None, (f"{message}.", _names(types) if path == "event_name" else advice.get(path)))),
            is_fatal=True,
        )


def _names(types: EventTypes) -> str:
    return f"Use one of {', '.join(types.names)}."


def _warnings(decoded: DecodedEvent, value: bytes, types: EventTypes) -> Iterator[EventProblem]:
    try:
        event = msgspec.json.decode(value if is_envelope(value) else _in_our_envelope(decoded))
    except (msgspec.DecodeError, RecursionError):
        yield EventProblem("", "Few receivers can read its numbers or its nesting.", is_fatal=False)
        return
    if "token" in event["data"] and decoded.meta.event_name in names_of(OrderEvent):
        yield EventProblem("data.token", _TOKEN, is_fatal=False)
    for name in sorted(event.keys() - OrderEvent.model_fields.keys()):
        # A name may contain anything, for example control sequences of a terminal.
        yield EventProblem(
            name[:100].encode("unicode_escape").decode(),
            "The envelope has no such member: it is ignored, and not delivered.",
            is_fatal=False,
        )
    if decoded.meta.event_name in types.configured:
        return  # decode_event has checked it against its own schema
    errors = [leaf for error in _validator(decoded.meta.event_name).iter_errors(event) for leaf in _leaves(error)]
    for error in errors[:MAX_FINDINGS]:
        yield EventProblem(_path(error), _deviation(error), is_fatal=False)
    if len(errors) > MAX_FINDINGS:
        yield EventProblem("data", f"{len(errors) - MAX_FINDINGS} more members are not as documented.", is_fatal=False)


def _in_our_envelope(decoded: DecodedEvent) -> bytes:
    """An event in another form, such as a CloudEvent. The rest of that form is not ours to judge."""
    meta = decoded.meta
    envelope = {"id": meta.id, "event_name": meta.event_name, "occurred_at": format_time(meta.created_at)}
    return msgspec.json.encode(envelope)[:-1] + b',"data":' + decoded.data + b"}"


@functools.cache
def _validator(event_name: str) -> Draft202012Validator:
    """A validator for an event type's branch of the schema. For the union, it would only report that no branch matches."""
    schema = json_schema()
    branches = [one["$ref"] for one in schema["oneOf"]]
    definitions = schema["$defs"]
    (reference,) = (
        one for one in branches if event_name in definitions[one.rpartition("/")[2]]["properties"]["event_name"]["enum"]
    )
    return Draft202012Validator({"$ref": reference, "$defs": definitions}, format_checker=_formats)


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    """The errors inside an object that may also be null, instead of "neither this nor null"."""
    inside = [one for one in error.context or () if one.path]
    if not inside:
        yield error
    for one in inside:
        yield from _leaves(one)


def _path(error: ValidationError) -> str:
    return ".".join(str(part) for part in error.absolute_path)


def _deviation(error: ValidationError) -> str:
    rule: Any = error.validator_value
    match error.validator:
        case "type" | "anyOf":
            return f"It is {_kind(error.instance)}, but documented as {_expected(error.schema)}."
        case "required":
            return f"Required, but missing: {', '.join(name for name in rule if name not in error.instance)}."
        case "pattern":
            return f"It is not as documented: {error.schema.get('description', f'text of the form {rule}')}"
        case "format":
            return "It is not a time. Write ISO 8601 with an offset, such as 2026-03-02T15:04:00.512Z."
    return f"It is not as documented: {error.validator} {rule}."


def _kind(value: object) -> str:
    return _KINDS[_JSON_TYPES.get(type(value), "null")]


def _expected(schema: dict[str, Any]) -> str:
    types = [one for part in schema.get("anyOf", [schema]) for one in _types(part)]
    named = " or ".join(_KINDS[one] for one in types)
    description = schema.get("description")
    return f"{named} ({description.rstrip('.')})" if description else named


def _types(schema: dict[str, Any]) -> Sequence[str]:
    given: str | list[str] = schema.get("type", "object")
    return [given] if isinstance(given, str) else given
