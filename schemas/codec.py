"""Bytes to records and back. Pure functions; the payload of an event is never parsed and written again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from schemas.delivery import DeadLetterReason
from schemas.event import OMS_EVENT, SCHEMA_VERSION, EventMeta, OrderEvent, event_meta
from schemas.quick import read_quickly

RecordT = TypeVar("RecordT", bound=BaseModel)
Headers = Iterable[tuple[str, bytes]]

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
# JSON knows no largest number: 1e999 is infinity, not an error.
_payload = msgspec.json.Decoder(float_hook=float)
_object = msgspec.json.Decoder(msgspec.defstruct("_Object", ()))
_any_value = json.JSONDecoder(parse_int=str, parse_float=str)

_TOKEN = re.compile(r'"token"')
_ESCAPED_TOKEN = re.compile(r'"(?:t|\\u0074)(?:o|\\u006[fF])(?:k|\\u006[bB])(?:e|\\u0065)(?:n|\\u006[eE])"')
_COLON = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_SPACE = re.compile(r"[ \t\r\n]*")
MAX_METADATA_BYTES = 2 * 1024 * 1024
"""A record of ours without a body (an attempt, an endpoint, a header) is far smaller; what is not may cost seconds to refuse."""
_MOST_PATH = 200
_MOST_TOKENS = 20
"""Members of this name, nested ones included, that are looked at one by one."""


class InvalidRecordError(ValueError):
    """A record that cannot be used: ``reason`` as a word, ``str(error)`` as a sentence that says what to do.

    ``problems`` are those of single members, where there are such: where (``data.number``), and what.
    """

    def __init__(self, reason: DeadLetterReason, message: str, problems: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.problems = problems


@dataclass(slots=True)  # one each event, and a frozen one takes three times as long to make
class DecodedEvent:
    """A usable event: its metadata, and the payload's bytes as they came."""

    meta: EventMeta
    data: bytes

    def payload(self) -> Any:
        """Parse the payload (for endpoints with filters only). Never raises: one that Python cannot hold is taken for null."""
        try:
            return _payload.decode(self.data)
        except (msgspec.DecodeError, RecursionError):  # a whole number of thousands of digits, say
            return None


def decode_event(value: bytes | None, *, max_bytes: int, received_at: datetime | None = None) -> DecodedEvent:
    """Decode the value of a record from a source topic; ``received_at`` is when it was written there, if that is known.

    Raises:
        InvalidRecordError: the value is null, too large, not JSON, of a newer major version, of an unknown event type, or breaks
            the envelope or what is relied on in the payload.
    """
    if value is None:
        raise InvalidRecordError(DeadLetterReason.NULL_VALUE, "The record has no value; publish the event as JSON.")
    if len(value) > max_bytes:
        message = f"The record has {len(value):,} bytes; at most {max_bytes:,} are accepted (setting max_event_bytes)."
        raise InvalidRecordError(DeadLetterReason.TOO_LARGE, message)
    if quickly := read_quickly(value, received_at):
        meta, data, has_token = quickly
        return DecodedEvent(meta, _without_token(data) if has_token else data)
    members = _split(value)
    _check_version(members, "Upgrade OMS webhooks before its producers")
    try:
        event = OMS_EVENT.validate_json(value)
    except ValidationError as error:
        raise _explained(error) from error
    data = bytes(members["data"])
    return DecodedEvent(event_meta(event, received_at), _without_token(data) if isinstance(event, OrderEvent) else data)


def _split(value: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _members.decode(value)
    except msgspec.ValidationError as error:
        raise InvalidRecordError(DeadLetterReason.INVALID_ENVELOPE, f"The value is not a JSON object: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRecordError(DeadLetterReason.NOT_JSON, f"The value is not JSON: {error}.") from error
    except RecursionError as error:
        raise InvalidRecordError(DeadLetterReason.NOT_JSON, "The value is nested too deeply.") from error


def _check_version(members: dict[str, msgspec.Raw], advice: str) -> None:
    raw = bytes(members.get("schema_version", b"1"))
    if raw.isdigit() and (len(raw) > 9 or int(raw) > SCHEMA_VERSION):
        message = (
            f"The record has schema_version {raw[:20].decode()}; this release reads up to {SCHEMA_VERSION}. "
            f"{advice}, then publish this one again."
        )
        raise InvalidRecordError(DeadLetterReason.UNSUPPORTED_VERSION, message)


def _explained(error: ValidationError) -> InvalidRecordError:
    """Turn pydantic's findings into one sentence, without the values (they may be customers' data)."""
    findings = error.errors(include_url=False, include_input=False, include_context=False)
    kinds = {finding["type"] for finding in findings}
    if "json_invalid" in kinds:
        return InvalidRecordError(DeadLetterReason.NOT_JSON, f"The value is not JSON: {findings[0]['msg']}.")
    if "union_tag_not_found" in kinds:
        message = "event_name: Field required."
        return InvalidRecordError(DeadLetterReason.INVALID_ENVELOPE, message, [("event_name", "Field required")])
    if "union_tag_invalid" in kinds:
        message = "event_name is none of the seven event types."
        return InvalidRecordError(
            DeadLetterReason.UNKNOWN_EVENT, message, [("event_name", "It is none of the seven event types")]
        )
    # The first element of a location is the tag of the union; the rest is the path inside the envelope.
    paths = [(finding["loc"][1:], finding["msg"]) for finding in findings[:5]]
    in_payload = all(path[:1] == ("data",) and len(path) > 1 for path, _ in paths)
    reason = DeadLetterReason.INVALID_PAYLOAD if in_payload else DeadLetterReason.INVALID_ENVELOPE
    problems = [(".".join(map(str, path)), message) for path, message in paths]
    return InvalidRecordError(reason, "; ".join(f"{path}: {message}" for path, message in problems) + ".", problems)


def _without_token(data: bytes) -> bytes:
    """Take an Order's guest token out: it gives access to the order, and a body is stored, shown and sent to third parties.

    Every other member keeps its bytes and its place.
    """
    text = data.decode()
    names = list((_ESCAPED_TOKEN if "\\u00" in text else _TOKEN).finditer(text))
    if len(names) > _MOST_TOKENS:
        return _without_token_anew(data)
    # From the end, so that what stands before keeps its place.
    for name in reversed(names):
        if _is_member(text, name.start()):
            try:
                text = _without_member(text, *name.span())
            except RecursionError:
                return _without_token_anew(data)
    return text.encode()


def _is_member(text: str, position: int) -> bool:
    """Whether a name stands at this position in the outermost object, and not further inside or in a string."""
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


def _without_token_anew(data: bytes) -> bytes:
    """The same for odd payloads, in a time that does not depend on how odd: of a name that is there twice, the last value stays."""
    members = _members.decode(data)
    kept = (msgspec.json.encode(name) + b":" + bytes(value) for name, value in members.items() if name != "token")
    return b"{" + b",".join(kept) + b"}"


def webhook_body(event: DecodedEvent) -> bytes:
    """The body that receivers get: ``{"id", "event_name", "created_at", "data"}``, ``data`` as the bytes that came."""
    head = {
        "id": event.meta.id,
        "event_name": event.meta.event_name,
        "created_at": format_time(event.meta.created_at),
    }
    return msgspec.json.encode(head)[:-1] + b',"data":' + event.data + b"}"


def format_time(time: datetime) -> str:
    """ISO 8601 in UTC with milliseconds: ``2026-03-02T15:04:00.512Z``."""
    in_utc = time if time.tzinfo is UTC else time.astimezone(UTC)
    return in_utc.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def to_json(record: BaseModel) -> bytes:
    """One of our own records as JSON on one line: what ``model_dump_json`` writes, in a third of its time."""
    try:
        return _records.encode(record)
    except OverflowError:  # an id of the OMS beyond 64 bits
        return record.model_dump_json().encode()


def _members_of(record: object) -> dict[str, Any]:
    if not isinstance(record, BaseModel):
        raise TypeError(f"{type(record).__name__} is no part of a record")
    return {**record.__dict__, **record.__pydantic_extra__} if record.__pydantic_extra__ else record.__dict__


_records = msgspec.json.Encoder(enc_hook=_members_of)


def to_header(name: str, record: BaseModel) -> tuple[str, bytes]:
    """A record's metadata as a Kafka header."""
    return name, to_json(record)


def from_header(headers: Headers, name: str, model: type[RecordT]) -> RecordT:
    """Read a record's metadata from its header.

    Raises:
        InvalidRecordError: no such header, or it does not fit the model.
    """
    return from_json(header_value(headers, name), model)


def header_value(headers: Headers, name: str) -> bytes | None:
    """The value of a header.

    Raises:
        InvalidRecordError: there is no such header.
    """
    for header, value in headers:
        if header == name:
            return value
    raise InvalidRecordError(DeadLetterReason.INVALID_RECORD, f"The record has no header {name}.")


def from_json(value: bytes | None, model: type[RecordT]) -> RecordT:
    """Read one of our own records.

    Raises:
        InvalidRecordError: null, too large, not JSON, of a newer major version, or not of the model's shape.
    """
    if value is None:
        raise InvalidRecordError(DeadLetterReason.NULL_VALUE, "The record has no value.")
    if len(value) > MAX_METADATA_BYTES:
        message = f"The record has {len(value):,} bytes; no record of the pipeline has more than {MAX_METADATA_BYTES:,}."
        raise InvalidRecordError(DeadLetterReason.TOO_LARGE, message)
    _check_version(_split(value), "Upgrade the roles that read a record before the roles that write it")
    try:
        return model.model_validate_json(value)
    except ValidationError as error:
        findings = error.errors(include_url=False, include_input=False, include_context=False)[:5]
        # A name in the path may be somebody else's, and of any length.
        paths = [f"{'.'.join(map(str, finding['loc']))[:_MOST_PATH]}: {finding['msg']}" for finding in findings]
        raise InvalidRecordError(DeadLetterReason.INVALID_RECORD, "; ".join(paths) + ".") from error
