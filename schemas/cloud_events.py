"""CloudEvents, in the headers of a record (binary) or in its value (structured). Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

import msgspec

from schemas.codec import InvalidRecordError
from schemas.delivery import DeadLetterReason
from schemas.producer_event import ENVELOPE, REFERENCES, FoundEvent, form_error, members_in, text_of, valid_id

_CLOUD_EVENT: Final = "a CloudEvent"
_STRUCTURED: Final = "application/cloudevents"
_PREFIXES: Final = ("ce_", "ce-")


def cloud_event_in(content: bytes, texts: Mapping[str, str]) -> FoundEvent | None:
    """The event in a CloudEvent; None: it is not a CloudEvent. ``texts`` are the headers.

    Raises:
        InvalidRecordError: it is a CloudEvent, but incomplete, or of an unsupported kind.
    """
    members = members_in(content)
    if members is not None and members.keys() >= ENVELOPE:
        return None  # our envelope, whatever the headers say
    media_type = _media_type(texts)
    if media_type.startswith(_STRUCTURED):
        if media_type not in (_STRUCTURED, f"{_STRUCTURED}+json"):
            raise form_error(f"Its content type is {media_type[:100]}; publish one CloudEvent as JSON ({_STRUCTURED}+json).")
    elif {name[3:] for name in texts if name.startswith(_PREFIXES)} & {"specversion", "type", "id"}:
        return _binary_cloud_event(content, texts)
    if members is None:
        return None
    return _structured_cloud_event(members) if "specversion" in members or media_type.startswith(_STRUCTURED) else None


def _media_type(texts: Mapping[str, str]) -> str:
    text = texts.get("content-type") or texts.get("ce_datacontenttype") or ""
    return text.strip('"').partition(";")[0].strip().lower()


def _binary_cloud_event(content: bytes, texts: Mapping[str, str]) -> FoundEvent:
    attributes = {name[3:]: text for name, text in texts.items() if name.startswith(_PREFIXES)}
    _check_cloud_event(attributes.get("specversion"), _media_type(texts))
    return _cloud_event(attributes, content, "header ce_")


def _structured_cloud_event(members: Mapping[str, msgspec.Raw]) -> FoundEvent:
    content_type = (text_of(members.get("datacontenttype")) or "").partition(";")[0].strip().lower()
    _check_cloud_event(text_of(members.get("specversion")), content_type)
    attributes = {name.lower(): text for name, raw in members.items() if name != "data" and (text := text_of(raw)) is not None}
    if "data" in members:
        return _cloud_event(attributes, bytes(members["data"]), "")
    try:
        data = base64.b64decode(attributes.get("data_base64", ""), validate=True)
    except (binascii.Error, ValueError):
        raise form_error("Read as a CloudEvent: data_base64 is not Base64.") from None
    return _cloud_event(attributes, data, "")


def _check_cloud_event(version: str | None, content_type: str) -> None:
    if version is not None and not version.startswith(("1.", "0.3")):
        message = f"It is a CloudEvent of specversion {version[:20]!r}; publish specversion 1.0."
        raise InvalidRecordError(DeadLetterReason.UNSUPPORTED_VERSION, message)
    is_json = content_type in ("", "application/json", "text/json") or content_type.endswith("+json")
    if not is_json:
        raise form_error(
            f"Read as a CloudEvent: its data is {content_type[:100]!r}; publish JSON (datacontenttype application/json)."
        )


def _cloud_event(attributes: Mapping[str, str], data: bytes, where: str) -> FoundEvent:
    if not data.strip() or data.strip() == b"null":
        raise form_error("Read as a CloudEvent: it has no data; put the payload there.", "data", DeadLetterReason.INVALID_PAYLOAD)
    for name, what in (("id", "the event's id"), ("type", "the event type")):
        if not attributes.get(name):
            raise form_error(
                f"Read as a CloudEvent: {where}{name} is missing; put {what} there.", "id" if name == "id" else "event_name"
            )
    references = {ours: attributes[theirs] for theirs, ours in REFERENCES.items() if attributes.get(theirs)}
    event_id = valid_id(attributes["id"], attributes.get("source", ""))
    return FoundEvent(_CLOUD_EVENT, event_id, attributes["type"], attributes.get("time"), data, references)
