"""The form of an endpoint: what it shows at first, and what was sent. The rules for the fields are those of the API."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from multidict import MultiDictProxy

from pipeline.web.errors import InvalidError
from pipeline.web.wrapped_input import validated
from schemas.endpoint import EndpointRecord
from schemas.event import EventType
from schemas.http_api import EndpointInput

_NO_EVENTS: Final = "Choose one event type at least."
_NOT_JSON: Final = 'filters must be JSON, such as {"channel": ["spree"]}.'


FIELDS: Final = (
    *("target_url", "events", "description", "max_per_second", "filters", "token", "remove_token", "active", "version"),
)
"""What a form of an endpoint sends."""


@dataclass(frozen=True, slots=True)
class EndpointForm:
    """What stands in the fields, as text, and what is wrong with it: sentences by field."""

    target_url: str = ""
    events: Sequence[str] = ()
    description: str = ""
    max_per_second: str = ""
    filters: str = ""
    version: str = ""
    is_active: bool = True
    has_token: bool = False
    errors: Mapping[str, Sequence[str]] = field(default_factory=dict)


def shown(record: EndpointRecord) -> EndpointForm:
    """The form of an endpoint that there is."""
    return EndpointForm(
        target_url=record.target_url,
        events=record.events,
        description=record.description,
        max_per_second="" if record.max_per_second is None else str(record.max_per_second),
        filters=json.dumps(record.filters, ensure_ascii=False, indent=2) if record.filters else "",
        version=str(record.version),
        has_token=record.sealed_token is not None,
    )


def sent(form: MultiDictProxy[str], errors: Mapping[str, Sequence[str]], *, has_token: bool = False) -> EndpointForm:
    """The form as it was sent, to be mended. The token is not given back: nobody shall read it off a screen."""
    return EndpointForm(
        target_url=form.get("target_url", ""),
        events=form.getall("events", []),
        description=form.get("description", ""),
        max_per_second=form.get("max_per_second", ""),
        filters=form.get("filters", ""),
        version=form.get("version", ""),
        is_active="active" in form,
        has_token=has_token,
        errors=errors,
    )


def given(form: MultiDictProxy[str], *, is_new: bool) -> EndpointInput:
    """The fields that were given. Empty optional fields mean none; an empty token leaves the one that there is.

    Raises:
        InvalidError: a field has a wrong value.
    """
    values: dict[str, Any] = {
        "target_url": form.get("target_url", "").strip(),
        "events": form.getall("events", []),
        "description": form.get("description", "").replace("\r\n", "\n").strip(),
        "max_per_second": _whole_number(form.get("max_per_second", "").strip()),
    }
    if is_new:
        values["active"] = "active" in form
    if "remove_token" in form:
        values["token"] = None
    elif token := form.get("token", ""):
        values["token"] = token
    errors: dict[str, list[str]] = {}
    try:
        values["filters"] = json.loads(form.get("filters", "").strip() or "{}")
    except (ValueError, RecursionError):
        errors["filters"] = [_NOT_JSON]
    if not values["events"]:
        errors["events"] = [_NO_EVENTS]
    try:
        read = validated(values, EndpointInput)
    except InvalidError as error:
        raise InvalidError({**error.errors, **errors}) from None
    if errors:
        raise InvalidError(errors)
    return read


def hears_everything(events: Sequence[str]) -> bool:
    """Whether these are all event types that there are."""
    return set(events) >= set(EventType)


def _whole_number(text: str) -> int | str | None:
    """The number; a text that is none stays as it is, to be refused by the field's own rule."""
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
