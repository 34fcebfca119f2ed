"""What the producers' forms share: the event that was found in one, and how its members are read. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from schemas.codec import InvalidRecordError
from schemas.delivery import DeadLetterReason

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
STRING: Final = msgspec.json.Decoder(str)
_EVENT_ID: Final = re.compile(r"[A-Za-z0-9_:=+/-]{1,128}")
ENVELOPE: Final = frozenset({"event_name", "data"})
REFERENCES: Final = {"subscriptionid": "subscription_id", "ordernumber": "order_number"}


@dataclass(slots=True)
class FoundEvent:
    """The parts of an event that a form contains; missing parts are None."""

    form: str
    event_id: str | None
    name: str | None
    time: str | None
    data: bytes
    references: dict[str, str] = field(default_factory=dict)


def members_in(content: bytes) -> dict[str, msgspec.Raw] | None:
    """The members of a JSON object, as raw bytes; None for anything else."""
    try:
        return _MEMBERS.decode(content) if content.lstrip()[:1] == b"{" else None
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def is_envelope(content: bytes) -> bool:
    """Whether it looks like our envelope."""
    return (members := members_in(content)) is not None and members.keys() >= ENVELOPE


def text_of(raw: msgspec.Raw | None) -> str | None:
    """A member as text: a string, or a number as it is written."""
    if raw is None or (content := bytes(raw).strip()) == b"null":
        return None
    try:
        return STRING.decode(content) if content[:1] == b'"' else content.decode()
    except (msgspec.DecodeError, ValueError):
        return None


def valid_id(event_id: str, source: str = "") -> str:
    """The id unchanged if receivers can use it; otherwise a digest of it and its source."""
    if _EVENT_ID.fullmatch(event_id) or not event_id:
        return event_id
    return "sha256:" + hashlib.sha256(f"{source}\n{event_id}".encode()).hexdigest()


def form_error(message: str, path: str = "", reason: DeadLetterReason = DeadLetterReason.INVALID_ENVELOPE) -> InvalidRecordError:
    """The error of an incomplete record with a known form. ``path``: the member of our envelope that is missing or wrong."""
    return InvalidRecordError(reason, message, [(path, message.rstrip("."))] if path else ())
