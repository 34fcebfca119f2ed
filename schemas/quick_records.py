"""The quick way to read records with many entries: msgspec, for the recorder, which reads thousands of them a second.

What it makes has the members that the recorder needs, with the values that the models in attempt and delivery give them. Whatever it does
not take is left to those models, which know what else is accepted, and what to say about the rest. Two differences, both of what we never
write: digits of a second beyond the sixth are rounded here and cut off there; and whole numbers of thousands of digits, in members that
nobody looks at, are taken here and refused there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from schemas.attempt import AttemptState, Outcome
from schemas.delivery import MAX_ATTEMPT, Trigger

_Time = Annotated[datetime, Meta(tz=True)]
_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]

LineT = TypeVar("LineT", bound=Struct)


class EventLine(Struct, gc=False, frozen=True):
    """As EventMeta."""

    id: str
    event_name: str
    created_at: _Time
    order_number: str | None = None
    shipment_numbers: tuple[str, ...] = ()
    subscription_id: str | None = None
    stock_item_id: int | None = None
    skus: tuple[str, ...] = ()
    received_at: _Time | None = None


class AttemptLine(Struct, gc=False, frozen=True):
    """As Attempt."""

    event: EventLine
    endpoint_id: _Int64
    target_url: str
    attempt: Annotated[int, Meta(ge=1, le=MAX_ATTEMPT)]
    trigger: Trigger
    state: AttemptState
    outcome: Outcome
    created_at: _Time
    duration_ms: float
    request_headers: dict[str, str]
    schema_version: Literal[1] = 1
    first_byte_ms: float | None = None
    http_status_code: Annotated[int, Meta(ge=100, le=999)] | None = None
    failure: str | None = None
    error: str | None = None
    next_attempt_at: _Time | None = None
    response_headers: tuple[tuple[str, str], ...] = ()
    response_body: str = ""
    response_body_encoding: Literal["text", "base64"] = "text"
    response_truncated: bool = False


class DispatchLine(Struct, gc=False, frozen=True):
    """As Dispatch."""

    event: EventLine
    endpoint_ids: tuple[_Int64, ...]
    received_at: _Time
    source_topic: str
    source_partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    source_offset: _Offset
    schema_version: Literal[1] = 1
    body_bytes: Annotated[int, Meta(ge=0)] | None = None


_attempts: Final = msgspec.json.Decoder(AttemptLine)
_dispatches: Final = msgspec.json.Decoder(DispatchLine)

_NESTED: Final = 200
"""Levels that pydantic's parser follows; what has no more brackets cannot be nested deeper."""
_MOST_BYTES: Final = 1024 * 1024
"""Of a record that is read in this way: none of its lines is one that from_json finds too large."""


def attempts_quickly(value: bytes) -> list[AttemptLine] | None:
    """The attempts of a record, one a line; None: ask the models."""
    return _read(_attempts, value)


def dispatches_quickly(header: bytes) -> list[DispatchLine] | None:
    """The dispatches in the header of a record, one a line; None: ask the models."""
    return _read(_dispatches, header)


def _read(decoder: msgspec.json.Decoder[LineT], value: bytes) -> list[LineT] | None:
    if len(value) > _MOST_BYTES:
        return None
    try:
        value.decode()  # what msgspec skips it does not decode
        lines = value.rstrip(b"\n").split(b"\n")
        if any(line.count(b"{") + line.count(b"[") > _NESTED for line in lines):
            return None
        return [decoder.decode(line) for line in lines]
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError):
        return None  # the models say what is wrong, if it is
