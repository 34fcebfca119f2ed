"""Events as producers write them: our envelope, CloudEvents, Debezium's outbox event router, with or without a schema registry's frame.

Every other form is translated into our envelope: ``{"id", "event_name", "occurred_at", "references", "data"}``. A JSON payload
keeps its bytes. After that, the event is checked and read like any other.

================  ============================================  ===================================  ==========================
form              where it is recognized by                     id, name, time                       payload
================  ============================================  ===================================  ==========================
plain             ``event_name`` and ``data`` in the value      ``id, event_name, occurred_at``      ``data``
cloudevents       headers ``ce_…`` (binary), or                 ``id, type, time``                   the value (binary), ``data``
                  ``specversion`` in the value (structured)                                          or ``data_base64``
outbox            header ``id`` (Debezium's EventRouter)        headers ``id, eventType,             the value, or ``payload``
                                                                occurredAt``, or members beside
                                                                ``payload``
================  ============================================  ===================================  ==========================

Pure. Documented events in our own envelope never get here: the fast path reads them.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from schemas.cloud_events import cloud_event_in
from schemas.debezium_outbox import OUTBOX, outbox_in
from schemas.delivery import DeadLetterReason
from schemas.event_types import known_name
from schemas.foreign_formats import detect_format
from schemas.producer_event import FoundEvent, form_error, is_envelope, members_in

_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
_MAX_HEADER: Final = 4096
"""The maximum characters of an id, a name or a time that are read: a longer one is refused anyway."""

_FRAME: Final = 5
"""The bytes that a schema registry puts before JSON: a zero, and the schema's id."""
_WIDE_FRAME: Final = 9
"""The same for a registry whose ids have eight bytes (Apicurio)."""


class ProducerForm(enum.StrEnum):
    """How the records of a topic are written (setting ``producer_forms``)."""

    AUTO = "auto"
    PLAIN = "plain"
    CLOUDEVENTS = "cloudevents"
    OUTBOX = "outbox"


@dataclass(frozen=True, slots=True)
class Translated:
    """An event in our envelope, and the name of its original form."""

    value: bytes
    form: str


def translated(
    value: bytes,
    headers: Iterable[tuple[str, bytes]],
    *,
    names: Collection[str],
    written_at: datetime | None,
    form: ProducerForm = ProducerForm.AUTO,
) -> Translated | None:
    """Our envelope around an event in another form; None: it has none of these forms, or is already in our envelope.

    ``names`` are the event types. ``written_at`` is when Kafka received the record; it is the event's time if the form has none.

    Raises:
        InvalidRecordError: it has one of the forms, but is incomplete; the message says what is missing, and where to put it.
    """
    if form is ProducerForm.PLAIN:
        return None
    texts = _texts(headers)
    content = unframed(value)
    if form is not ProducerForm.OUTBOX:
        if cloud_event := cloud_event_in(content, texts):
            return _translation(cloud_event, names, written_at)
        if form is ProducerForm.CLOUDEVENTS and not is_envelope(content):
            message = "It is not a CloudEvent: it has neither the headers ce_id and ce_type nor a member specversion."
            raise form_error(f"{message} The setting producer_forms says that this topic has CloudEvents.")
    outbox = outbox_in(content, texts, is_known=form is ProducerForm.OUTBOX)
    if isinstance(outbox, bytes):
        return Translated(outbox, _wrapping(value, texts)) if outbox != value.strip() else None
    return _translation(outbox, names, written_at) if outbox is not None else None


def _wrapping(value: bytes, texts: Mapping[str, str]) -> str:
    if "id" in texts:
        return OUTBOX
    return "JSON in a schema registry's frame" if value[:1] == b"\x00" else "Kafka Connect's JSON"


def unframed(value: bytes) -> bytes:
    """The JSON after a schema registry's frame; any other value unchanged."""
    if value[:1] != b"\x00":
        return value
    for length in (_FRAME, _WIDE_FRAME):
        if value[length : length + 1] in (b"{", b'"') and len(value) > length:
            return value[length:]
    return value


def is_missing_key(key: bytes | None) -> bool:
    """Whether a record has no key: none, an empty one, or what Kafka Connect's JSON converter writes for none."""
    if not key:
        return True
    content = unframed(key)
    if content == b'""':
        return True
    if content[:1] != b"{" or (members := members_in(content)) is None or not members.keys() >= {"schema", "payload"}:
        return False
    return bytes(members["payload"]) in (b"null", b'""')


def _texts(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Headers by name, in lower case; the last one of each name. A header that is not UTF-8 is ignored."""
    texts: dict[str, str] = {}
    for name, content in headers:
        try:
            texts[name.lower()] = (content or b"").decode().strip()
        except UnicodeDecodeError:
            continue
    return texts


def _translation(found: FoundEvent, names: Collection[str], written_at: datetime | None) -> Translated:
    data = found.data.strip()
    if data[:1] == b'"':
        message = f"Read as {found.form}: its payload is a JSON string; publish the payload as a JSON object, encoded once."
        raise form_error(message, "data", DeadLetterReason.INVALID_PAYLOAD)
    if is_envelope(data):
        return Translated(data, found.form)  # our envelope inside another one: ours is complete
    try:
        _ANY.decode(data)  # it must be a single JSON value, or it could add members to the envelope
        data.decode()
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        format_name = detect_format(data)
        why = f"it looks like {format_name}" if format_name else f"{_plainly(error)}."
        message = f"Read as {found.form}: its payload is not JSON: {why}"
        raise form_error(message, "data", DeadLetterReason.NOT_JSON) from None
    envelope: dict[str, object] = {}
    if found.event_id:
        envelope["id"] = found.event_id[:_MAX_HEADER]
    if found.name:
        envelope["event_name"] = known_name(found.name, names)[:_MAX_HEADER]
    time = found.time or (written_at.isoformat() if written_at is not None else None)
    if time:
        envelope["occurred_at"] = _time(time[:_MAX_HEADER])
    if found.references:
        envelope["references"] = found.references
    return Translated(msgspec.json.encode(envelope)[:-1] + b',"data":' + data + b"}", found.form)


def _plainly(error: Exception) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _time(text: str) -> str:
    """ISO 8601, or a number: the time since 1970 in seconds, milliseconds, microseconds or nanoseconds, depending on its size."""
    if not text.isascii() or not text.isdigit() or not 9 <= len(text) <= 19:
        return text
    number = int(text)
    for digits, unit in ((11, 1), (14, 10**3), (17, 10**6), (19, 10**9)):
        if len(text) <= digits:
            seconds, rest = divmod(number, unit)
            moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 10**6 // unit)
            return moment.isoformat()
    return text
