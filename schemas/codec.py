"""Encodes and decodes our own records. Pure. Events are decoded in `schemas.event_codec`."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from schemas.delivery import DeadLetterReason
from schemas.event import SCHEMA_VERSION
from schemas.own_records import OwnRecord, explained, has_unknown_members, members_of, with_unknown_members

RecordT = TypeVar("RecordT", bound=OwnRecord)
Headers = Iterable[tuple[str, bytes]]

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
# JSON knows no largest number: 1e999 is infinity, not an error.
_payload = msgspec.json.Decoder(float_hook=float)
_making_decoder = threading.Lock()

MAX_METADATA_BYTES = 2 * 1024 * 1024
"""A record of ours without a body (an attempt, an endpoint, a header) is far smaller. Refusing a larger one may take seconds."""


class InvalidRecordError(ValueError):
    """A record that cannot be used: ``reason`` as a word, ``str(error)`` as a sentence that says what to do.

    ``problems`` are those of single members, if any: where (``data.number``), and what.
    """

    def __init__(self, reason: DeadLetterReason, message: str, problems: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.problems = problems


def payload_of(data: bytes) -> Any:
    """A parsed payload; None if Python cannot represent it."""
    try:
        return _payload.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError):  # a whole number of thousands of digits, for example
        return None


def split_members(value: bytes) -> dict[str, msgspec.Raw]:
    """The members of a JSON object, as raw bytes.

    Raises:
        InvalidRecordError: it is not one.
    """
    try:
        return _members.decode(value)
    except msgspec.ValidationError as error:
        raise InvalidRecordError(DeadLetterReason.INVALID_ENVELOPE, f"The value is not a JSON object: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRecordError(DeadLetterReason.NOT_JSON, f"The value is not JSON: {error}.") from error
    except RecursionError as error:
        raise InvalidRecordError(DeadLetterReason.NOT_JSON, "The value is nested too deeply.") from error


def check_version(members: dict[str, msgspec.Raw], advice: str, newest: int = SCHEMA_VERSION) -> None:
    """Raises InvalidRecordError: the record is of a newer major version. ``advice`` says what to upgrade."""
    raw = bytes(members.get("schema_version", b"1"))
    if raw.isdigit() and (len(raw) > 9 or int(raw) > newest):
        message = (
            f"The record has schema_version {raw[:20].decode()}; this release reads up to {newest}. "
            f"{advice}, then publish this one again."
        )
        raise InvalidRecordError(DeadLetterReason.UNSUPPORTED_VERSION, message)


def format_time(time: datetime) -> str:
    """ISO 8601 in UTC with milliseconds: ``2026-03-02T15:04:00.512Z``."""
    in_utc = time if time.tzinfo is UTC else time.astimezone(UTC)
    # msgspec writes the seconds in a tenth of the time that isoformat takes.
    return f"{str(_records.encode(in_utc)[1:20], 'ascii')}.{in_utc.microsecond // 1000:03}Z"


def to_json(record: OwnRecord) -> bytes:
    """One of our own records as JSON on one line."""
    try:
        return _records.encode(members_of(record) if has_unknown_members(record) else record)
    except OverflowError:  # an id of the OMS beyond 64 bits
        return json.dumps(members_of(record), default=_plain, ensure_ascii=False, separators=(",", ":")).encode()


def _plain(value: object) -> Any:
    """The number as the standard library writes it."""
    return payload_of(bytes(value)) if isinstance(value, msgspec.Raw) else msgspec.to_builtins(value)


_records = msgspec.json.Encoder()


def to_header(name: str, record: OwnRecord) -> tuple[str, bytes]:
    """A record's metadata as a Kafka header."""
    return name, to_json(record)


def from_header(headers: Headers, name: str, model: type[RecordT]) -> RecordT:
    """Read a record's metadata from its header.

    Raises:
        InvalidRecordError: there is no such header, or it does not match the model.
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
    members = split_members(value)
    newest = getattr(model, "newest_version", SCHEMA_VERSION)
    check_version(members, "Upgrade the roles that read a record before the roles that write it", newest)
    try:
        value.decode()  # msgspec does not decode what it skips
        record: RecordT = _decoder(model).decode(value)
        return with_unknown_members(record, members)
    except msgspec.ValidationError as error:
        missing = [
            field.encode_name for field in msgspec.structs.fields(model) if field.required and field.encode_name not in members
        ]
        sentence = "; ".join(f"{name}: Field required" for name in missing[:5]) + "." if missing else explained(error)
        raise InvalidRecordError(DeadLetterReason.INVALID_RECORD, sentence) from error
    except (
        msgspec.DecodeError,
        RecursionError,
        ValueError,
        OverflowError,
    ) as error:  # not UTF-8, or a number of thousands of digits
        raise InvalidRecordError(DeadLetterReason.INVALID_RECORD, f"The value cannot be read: {type(error).__name__}.") from error


def decode_lines(lines: Sequence[bytes], model: type[RecordT]) -> list[RecordT]:
    """Read records, one per line, at thousands a second. Unknown members are skipped.

    Raises:
        InvalidRecordError: one of them is invalid, see :func:`from_json`.
    """
    decode = _decoder(model).decode
    try:
        for line in lines:
            line.decode()  # msgspec does not decode what it skips
        if max(map(len, lines), default=0) <= MAX_METADATA_BYTES:
            return [decode(line) for line in lines]
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError):
        pass
    return [from_json(line, model) for line in lines]  # its error says what is wrong


@functools.cache
def _decoder(model: type[RecordT]) -> msgspec.json.Decoder[RecordT]:
    # While msgspec (0.22) creates the first decoder of a class, other threads see it half-built, and the process crashes. Several
    # threads read tables and topics as soon as a role starts. Records share classes, so one lock covers all of them.
    with _making_decoder:
        return msgspec.json.Decoder(model)
