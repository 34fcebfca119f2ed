"""Decodes and checks events, and builds the bodies of webhooks. A payload is never parsed and written again. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import msgspec
from pydantic import ValidationError

from schemas.codec import InvalidRecordError, check_version, format_time, payload_of, split_members
from schemas.configured_events import ConfiguredEventType
from schemas.delivery import DeadLetterReason
from schemas.event import OMS_EVENT, ConfiguredEvent, EventMeta, OrderEvent, event_meta
from schemas.event_fast_path import decode_event_fast

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_object = msgspec.json.Decoder(msgspec.defstruct("_Object", ()))
_any_value = json.JSONDecoder(parse_int=str, parse_float=str)
_TOKEN = re.compile(r'"token"')
_ESCAPED_TOKEN = re.compile(r'"(?:t|\\u0074)(?:o|\\u006[fF])(?:k|\\u006[bB])(?:e|\\u0065)(?:n|\\u006[eE])"')
_COLON = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_SPACE = re.compile(r"[ \t\r\n]*")
_NONE: Mapping[str, ConfiguredEventType] = MappingProxyType({})
_MAX_TOKENS = 20
"""The maximum members of this name, including nested ones, that are examined one by one."""


@dataclass(slots=True)  # one per event; a frozen dataclass takes three times as long to create
class DecodedEvent:
    """A usable event: its metadata, and the payload's bytes as received."""

    meta: EventMeta
    data: bytes

    def payload(self) -> Any:
        """Parse the payload (for endpoints with filters only). Never raises: None if Python cannot represent it."""
        return payload_of(self.data)


def decode_event(
    value: bytes | None,
    *,
    max_bytes: int,
    received_at: datetime | None = None,
    configured: Mapping[str, ConfiguredEventType] = _NONE,
) -> DecodedEvent:
    """Decode the value of a record from a source topic; ``received_at`` is when it was written there, if known.

    ``configured`` are the event types that the deployment adds to the built-in ones, by name.

    Raises:
        InvalidRecordError: the value is null, too large, not JSON, of a newer major version or of an unknown event type; or its
            envelope or the identity in its payload is invalid.
    """
    value = checked_value(value, max_bytes)
    if read := decode_event_fast(value, received_at):
        meta, data, has_token = read
        return DecodedEvent(meta, without_token(data) if has_token else data)
    members = split_members(value)
    check_version(members, "Upgrade OMS webhooks before its producers")
    if configured and (kind := configured.get(_event_name(members))):
        return _configured_event(value, bytes(members["data"]) if "data" in members else b"", kind, received_at)
    try:
        event = OMS_EVENT.validate_json(value)
    except ValidationError as error:
        raise _explained(error, configured) from error
    data = bytes(members["data"])
    return DecodedEvent(event_meta(event, received_at), without_token(data) if isinstance(event, OrderEvent) else data)


def event_name_of(value: bytes) -> str:
    """The ``event_name`` in an envelope, which may be invalid otherwise; empty if it has none."""
    try:
        return _event_name(split_members(value))
    except InvalidRecordError:
        return ""


def _event_name(members: dict[str, msgspec.Raw]) -> str:
    try:
        return msgspec.json.decode(members["event_name"], type=str)
    except (KeyError, msgspec.DecodeError):
        return ""


def _configured_event(value: bytes, data: bytes, kind: ConfiguredEventType, received_at: datetime | None) -> DecodedEvent:
    try:
        event = ConfiguredEvent.model_validate_json(value)
    except ValidationError as error:
        raise _explained(error, is_tagged=False) from error
    payload = payload_of(data)
    try:
        problems = kind.problems(payload)
    except RecursionError:
        problems = [("data", "It is nested too deeply")]
    except Exception as error:  # noqa: BLE001 - the library divides numbers, and has many errors of its own
        problems = [("data", f"It cannot be compared with the schema ({type(error).__name__}); a number may be too large")]
    if problems:
        message = "; ".join(f"{path}: {what}" for path, what in problems) + "."
        raise InvalidRecordError(DeadLetterReason.INVALID_PAYLOAD, message, problems)
    envelope = EventMeta(id=event.id, event_name=event.event_name, created_at=event.occurred_at, received_at=received_at)
    return DecodedEvent(kind.meta(envelope, payload, event.references), data)


def checked_value(value: bytes | None, max_bytes: int) -> bytes:
    """The value of a record from a source topic.

    Raises:
        InvalidRecordError: it is null, or too large.
    """
    if value is None:
        raise InvalidRecordError(DeadLetterReason.NULL_VALUE, "The record has no value; publish the event as JSON.")
    if len(value) > max_bytes:
        message = f"The record has {len(value):,} bytes; at most {max_bytes:,} are accepted (OMS_WEBHOOKS_MAX_EVENT_BYTES)."
        raise InvalidRecordError(DeadLetterReason.TOO_LARGE, message)
    return value


def _explained(
    error: ValidationError, configured: Mapping[str, ConfiguredEventType] = _NONE, *, is_tagged: bool = True
) -> InvalidRecordError:
    """Turn pydantic's errors into one sentence, without values, which may be customers' data."""
    findings = error.errors(include_url=False, include_input=False, include_context=False)
    kinds = {finding["type"] for finding in findings}
    if "json_invalid" in kinds:
        return InvalidRecordError(DeadLetterReason.NOT_JSON, f"The value is not JSON: {findings[0]['msg']}.")
    if "union_tag_not_found" in kinds:
        message = "event_name: Field required."
        return InvalidRecordError(DeadLetterReason.INVALID_ENVELOPE, message, [("event_name", "Field required")])
    if "union_tag_invalid" in kinds:
        known = "built-in event types" + (f", nor {', '.join(configured)}" if configured else "")
        message = f"event_name is not one of the {known}."
        return InvalidRecordError(DeadLetterReason.UNKNOWN_EVENT, message, [("event_name", f"It is not one of the {known}")])
    # The first element of a location is the tag of the union; the rest is the path inside the envelope.
    paths = [(finding["loc"][1:] if is_tagged else finding["loc"], finding["msg"]) for finding in findings[:5]]
    in_payload = all(path[:1] == ("data",) and len(path) > 1 for path, _ in paths)
    reason = DeadLetterReason.INVALID_PAYLOAD if in_payload else DeadLetterReason.INVALID_ENVELOPE
    problems = [(".".join(map(str, path)), message) for path, message in paths]
    return InvalidRecordError(reason, "; ".join(f"{path}: {message}" for path, message in problems) + ".", problems)


def without_token(data: bytes) -> bytes:
    """Remove an Order's guest token: it gives access to the order, and a body is stored, shown and sent to third parties.

    Every other member keeps its bytes and its position.
    """
    text = data.decode()
    names = list((_ESCAPED_TOKEN if "\\u00" in text else _TOKEN).finditer(text))
    if len(names) > _MAX_TOKENS:
        return _without_token_rebuilt(data)
    # From the end, so that earlier positions stay valid.
    for name in reversed(names):
        if _is_member(text, name.start()):
            try:
                text = _without_member(text, *name.span())
            except RecursionError:
                return _without_token_rebuilt(data)
    return text.encode()


def _is_member(text: str, position: int) -> bool:
    """Whether the name at this position is a member of the outermost object, and neither nested nor inside a string."""
    try:
        _object.decode(text[:position] + '"":0}')
    except msgspec.DecodeError:
        return False
    return True


def _without_member(text: str, start: int, name_end: int) -> str:
    _, end = _any_value.raw_decode(text, _after(_COLON, text, name_end))
    if text.startswith(",", following := _after(_SPACE, text, end)):
        return text[:start] + text[_after(_SPACE, text, following + 1) :]
    return text[:start].rstrip(" \t\r\n").removesuffix(",") + text[end:]


def _after(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return position if match is None else match.end()


def _without_token_rebuilt(data: bytes) -> bytes:
    """The same for odd payloads, in linear time. If a name occurs twice, the last value is kept."""
    members = _members.decode(data)
    kept = (msgspec.json.encode(name) + b":" + bytes(value) for name, value in members.items() if name != "token")
    return b"{" + b",".join(kept) + b"}"


def webhook_body(event: DecodedEvent) -> bytes:
    """The body that receivers get: ``{"id", "event_name", "created_at", "data"}``, with the bytes of ``data`` as received."""
    return msgspec.json.encode(webhook_members(event.meta))[:-1] + b',"data":' + event.data + b"}"


def read_webhook_body(body: bytes) -> tuple[dict[str, str], bytes]:
    """The inverse of :func:`webhook_body`: its members except ``data``, and the bytes of ``data``."""
    members = _members.decode(body)
    data = bytes(members.pop("data"))
    return {name: str(msgspec.json.decode(value)) for name, value in members.items()}, data


def webhook_members(event: EventMeta) -> dict[str, str]:
    """The members of the body except ``data``, in their order."""
    return {"id": event.id, "event_name": event.event_name, "created_at": format_time(event.created_at)}
