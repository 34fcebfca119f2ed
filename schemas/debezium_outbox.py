"""Records of Debezium's outbox event router, with the columns in headers or beside the payload. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from schemas.delivery import DeadLetterReason
from schemas.producer_event import ENVELOPE, REFERENCES, STRING, FoundEvent, form_error, members_in, text_of, valid_id

# Names in lower case, without underscores: eventType, event_type and eventtype are one.
_ID: Final = ("id", "eventid")
_NAME: Final = ("eventtype", "eventname", "type")
_TIME: Final = ("occurredat", "eventtime", "timestamp", "time", "createdat")
OUTBOX: Final = "a record of Debezium's outbox event router"
_HOW_TO_NAME: Final = (
    "transforms.outbox.table.fields.additional.placement=type:header:eventType puts the column type there, for example"
)


def outbox_in(content: bytes, texts: Mapping[str, str], *, is_known: bool) -> FoundEvent | bytes | None:
    """The event in an outbox record; bytes: our envelope inside it; None: it is not an outbox record."""
    said = {_folded(name): _header_text(text) for name, text in texts.items()}
    has_headers = bool(said.get("id")) or any(said.get(name) for name in _NAME[:2])
    inner, is_wrapped = _unwrapped(content, is_known=is_known or has_headers)
    members = members_in(inner)
    if members is not None and "payload" in members and not members.keys() & ENVELOPE:
        # Columns that are placed in the envelope are beside the payload.
        beside = {
            _folded(name): text for name, raw in members.items() if name != "payload" and (text := text_of(raw)) is not None
        }
        if is_known or has_headers or any(beside.get(name) for name in _NAME):
            said = {**beside, **{name: text for name, text in said.items() if text}}
            inner, _ = _unwrapped(bytes(members["payload"]), is_known=True)
            members, has_headers = members_in(inner), True
    if members is not None and members.keys() >= ENVELOPE:
        return inner
    is_ours = members is not None and ("event_name" in members or members.keys() >= {"occurred_at", "data"})
    if not is_known and (is_ours or not has_headers):
        # Kafka Connect's converter alone does not make it an outbox record, and adds nothing.
        return inner if is_wrapped and is_ours else None
    if members is None and not is_known and not is_wrapped and inner[:1] not in (b"{", b"", b"n"):
        return None  # not JSON: detect_format can say more
    return _outbox_found(inner, said)


def _outbox_found(data: bytes, said: Mapping[str, str]) -> FoundEvent:
    event_id, name = _first(said, _ID), _first(said, _NAME)
    if not data.strip() or data.strip() == b"null":
        message = f"Read as {OUTBOX}: it has no payload."
        raise form_error(message, "data", DeadLetterReason.INVALID_PAYLOAD)
    if not event_id:
        raise form_error(
            f"Read as {OUTBOX}: header id is missing; the router writes it, unless a later transform removes it.", "id"
        )
    if not name:
        message = f"Read as {OUTBOX}: header eventType is missing. {_HOW_TO_NAME}."
        raise form_error(message, "event_name")
    references = {ours: said[theirs] for theirs, ours in REFERENCES.items() if said.get(theirs)}
    return FoundEvent(OUTBOX, valid_id(event_id), name, _first(said, _TIME), data, references)


def _unwrapped(content: bytes, *, is_known: bool) -> tuple[bytes, bool]:
    """What Kafka Connect's converter wrapped (``{"schema", "payload"}``, a string, or bytes as Base64), and whether it did."""
    inner, is_wrapped = content.strip(), False
    members = members_in(inner)
    if members is not None and members.keys() == {"schema", "payload"} and bytes(members["schema"])[:1] in (b"{", b"n"):
        inner, is_wrapped = bytes(members["payload"]), True
    if inner[:1] == b'"' and (is_known or is_wrapped):
        try:
            text = STRING.decode(inner).strip()
        except (msgspec.DecodeError, ValueError):
            return inner, is_wrapped
        inner, is_wrapped = text.encode(), True
        if inner[:1] not in (b"{", b""):
            inner = _from_base64(inner)
    return inner, is_wrapped


def _from_base64(content: bytes) -> bytes:
    try:
        decoded = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return content
    return decoded if decoded.lstrip()[:1] == b"{" else content


def _folded(name: str) -> str:
    return name.lower().replace("_", "")


def _header_text(text: str) -> str:
    """The text of a header: the simple header converter writes it unchanged, the JSON converter quoted or with its schema."""
    content = text.encode()
    if content[:1] == b"{" and (members := members_in(content)) is not None and "payload" in members:
        content = bytes(members["payload"])
    elif content[:1] != b'"':
        return text
    return text_of(msgspec.Raw(content)) or ""


def _first(said: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((said[name] for name in names if said.get(name)), None)
