"""The HTTP API's requests and answers. Times are ISO 8601 in UTC with milliseconds; durations are milliseconds.

No answer holds a token or the value of a custom header. A signing secret is shown once: when it is made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, SerializeAsAny, WithJsonSchema, field_validator

from schemas.codec import format_time
from schemas.custom_headers import MAX_HEADERS, check_headers
from schemas.endpoint import FilterValue
from schemas.event import EventType

MAX_DESCRIPTION: Final = 1000
MAX_PER_SECOND: Final = 10_000
MAX_FILTERS: Final = 50
MAX_FILTER_VALUES: Final = 100
MAX_FILTER_PATH: Final = 255
MAX_FILTER_TEXT: Final = 1000

_KNOWN_EVENTS: Final = ", ".join(EventType)

# A token travels in a header, where spaces and line breaks would end it.
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,1024}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FILTERS_FORM: Final = 'filters must be an object of paths in the payload with their values, such as {"channel": ["spree"]}'

Time = Annotated[
    datetime,
    PlainSerializer(format_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


class EndpointInput(BaseModel):
    """The member ``endpoint`` of a request body. What was not given keeps its value; see ``model_fields_set``.

    Unknown members are kept in ``model_extra``, so that the answer can say that they were ignored. Every error is a sentence.
    """

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    target_url: str = Field(default="", description="Where the webhooks go: http(s), no fragment, no user name.")
    events: tuple[EventType, ...] = Field(default=(), description="The event types that are sent; one at least.")
    token: SecretStr | None = Field(default=None, description="Sent as Authorization: Bearer …; null removes it. Never shown.")
    headers: dict[str, SecretStr | None] | None = Field(
        default=None,
        description="Headers that are sent with every request; null takes one (or all of them) away, others stay. Never shown.",
        json_schema_extra={"maxProperties": MAX_HEADERS},
    )
    filters: dict[str, tuple[FilterValue, ...]] = Field(
        default_factory=dict, description="Paths in the payload, each with the value or the values that it may have."
    )
    active: bool = Field(
        default=True, description="Paused when false. True also starts an endpoint again that was disabled because it failed."
    )
    max_per_second: int | None = Field(
        default=None, description="Most requests a second, of each process that delivers; null: no limit."
    )
    description: str = Field(default="", description="For people.", json_schema_extra={"maxLength": MAX_DESCRIPTION})

    @field_validator("target_url", mode="before")
    @classmethod
    def _check_target_url(cls, value: object) -> str:
        # The rules for the URL itself need the address guard; the API asks it.
        if isinstance(value, str) and value:
            return value
        raise ValueError("target_url must be a URL, such as https://hooks.example.com/orders.")

    @field_validator("events", mode="before")
    @classmethod
    def _check_events(cls, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or not all(isinstance(event, str) for event in value):
            raise ValueError(f"events must be a list of one or more event types: {_KNOWN_EVENTS}.")
        if unknown := [event for event in value if event not in set(EventType)]:
            names = ", ".join(repr(event[:50]) for event in unknown[:5]) + (" and more" if len(unknown) > 5 else "")
            raise ValueError(f"events has unknown event types: {names}. Known are: {_KNOWN_EVENTS}.")
        return in_order(value)

    @field_validator("token", mode="before")
    @classmethod
    def _check_token(cls, value: object) -> str | None:
        if value is None or (isinstance(value, str) and _TOKEN.fullmatch(value)):
            return value
        raise ValueError("token must be 1 to 1024 visible ASCII characters without spaces, or null to remove it.")

    @field_validator("headers", mode="before")
    @classmethod
    def _check_headers(cls, value: object) -> dict[str, str | None] | None:
        return check_headers(value)

    @field_validator("filters", mode="before")
    @classmethod
    def _check_filters(cls, value: object) -> dict[str, tuple[FilterValue, ...]]:
        if value is None:
            return {}
        if not isinstance(value, dict) or len(value) > MAX_FILTERS:
            raise ValueError(f"{_FILTERS_FORM}; at most {MAX_FILTERS} of them.")
        return {_filter_path(path): _filter_values(path, values) for path, values in value.items()}

    @field_validator("active", mode="before")
    @classmethod
    def _check_active(cls, value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise ValueError("active must be true or false.")

    @field_validator("max_per_second", mode="before")
    @classmethod
    def _check_max_per_second(cls, value: object) -> int | None:
        # True is an int in Python, and no number of requests.
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_PER_SECOND):
            return value
        raise ValueError(f"max_per_second must be a whole number from 1 to {MAX_PER_SECOND}, or null for no limit.")

    @field_validator("description", mode="before")
    @classmethod
    def _check_description(cls, value: object) -> str:
        text = "" if value is None else value
        if isinstance(text, str) and len(text) <= MAX_DESCRIPTION and not _CONTROL.search(text):
            return text
        raise ValueError(f"description must be text of at most {MAX_DESCRIPTION} characters, without control characters.")


def in_order(events: Sequence[str]) -> tuple[str, ...]:
    """Each event type once, in the order of `EventType`; what it does not know comes last."""
    known = [event.value for event in EventType]
    return tuple(sorted(dict.fromkeys(events), key=lambda event: known.index(event) if event in known else len(known)))


def _filter_path(path: str) -> str:
    if not all(path.split(".")) or len(path) > MAX_FILTER_PATH:
        rule = f"member names joined by dots, at most {MAX_FILTER_PATH} characters"
        raise ValueError(f"{_FILTERS_FORM}; {path[:50]!r} is not a path: {rule}.")
    return path


def _filter_values(path: str, value: object) -> tuple[FilterValue, ...]:
    values = value if isinstance(value, list) else [value]
    scalars = [scalar for scalar in values if scalar is None or isinstance(scalar, str | int | float)]
    if not 1 <= len(values) <= MAX_FILTER_VALUES or len(scalars) < len(values):
        form = f"a string, a number, true, false or null, or a list of 1 to {MAX_FILTER_VALUES} of them"
        raise ValueError(f"filters must give {path[:50]!r} {form}.")
    if any(isinstance(scalar, float) and not math.isfinite(scalar) for scalar in scalars):
        raise ValueError(f"filters must give {path[:50]!r} numbers that JSON can hold: not NaN, not infinity.")
    if any(isinstance(scalar, str) and len(scalar) > MAX_FILTER_TEXT for scalar in scalars):
        raise ValueError(f"filters must give {path[:50]!r} texts of at most {MAX_FILTER_TEXT} characters.")
    return tuple(scalars)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class ErrorAnswer(_Answer):
    """What every answer with a status of 400 or more holds."""

    error: str


class HeldCountConflict(ErrorAnswer):
    """409: not as many deliveries are held as was said. Nothing was dropped."""

    held_count: int = Field(description="How many there are now.")


class InvalidAnswer(ErrorAnswer):
    """422: ``errors`` holds the sentences for each field."""

    errors: Mapping[str, list[str]]


class EndpointAnswer(_Answer):
    """An endpoint. ``active`` says whether anything is sent to it, ``state`` why not: ``paused`` or ``disabled``; what is due then is held.

    ``failing_since``: since when no attempt has succeeded, if one failed since. ``circuit``: ``closed`` (good), ``open`` (deliveries
    are parked) or ``half_open`` (the next delivery is a probe), as the process that told of it last has it.
    """

    id: int
    target_url: str
    events: tuple[str, ...]
    active: bool
    description: str
    filters: dict[str, tuple[FilterValue, ...]]
    has_token: bool
    header_names: list[str] = Field(description="Headers of its own, by name; their values are never shown.")
    unsent_headers: list[str] = Field(
        description="Those of header_names that are not sent any more, as many servers take them for headers that the sender sets."
    )
    created_at: Time
    updated_at: Time
    version: int
    max_per_second: int | None
    state: str
    disabled_reason: str | None
    disabled_at: Time | None
    failing_since: Time | None
    circuit: str
    problem: str | None = Field(
        description="Why nothing can be sent to it, and what to do: its secrets cannot be opened. Its deliveries wait."
    )
    held_count: int = Field(default=0, description="Deliveries that wait until it is resumed: they use up no attempt.")
    held_since: Time | None = Field(default=None, description="Since when the oldest of them has been waiting.")


class EndpointWritten(EndpointAnswer):
    """The answer to a change. ``ignored_fields`` are the members of ``endpoint`` that mean nothing here."""

    ignored_fields: list[str]


class EndpointCreated(EndpointWritten):
    """The answer to a create, and to a new secret: the only ones that show the signing ``secret``."""

    secret: str


class AttemptAnswer(_Answer):
    """One attempt, as lists show it: without headers and bodies."""

    id: int
    event_id: str
    event_name: str
    event_created_at: Time
    endpoint_id: int
    target_url: str
    state: str
    outcome: str
    attempt: int
    trigger: str
    http_status_code: int | None
    failure: str | None
    error: str | None
    duration_ms: float
    first_byte_ms: float | None
    created_at: Time
    next_attempt_at: Time | None
    order_number: str | None
    shipment_numbers: list[str]
    subscription_id: str | None
    stock_item_id: int | None
    skus: list[str]


class AttemptDetailAnswer(AttemptAnswer):
    """One attempt with everything: what was sent, what was answered, and the event's other attempts at the same endpoint.

    ``request_body`` is null while the event is not in ClickHouse. It is text: an event is JSON, so it is UTF-8. ``response_body``
    is base64 of bytes that are not (``response_body_encoding``). Headers hold no credentials. ``siblings``: newest first.
    """

    request_body: str | None
    request_headers: dict[str, str]
    response_body: str
    response_body_encoding: str
    response_truncated: bool
    response_headers: list[tuple[str, str]]
    siblings: list[AttemptAnswer]
    bodies_hidden: bool = Field(default=False, description="Both bodies are left out: the key's role may not see them.")


class EndpointWithAttempts(EndpointAnswer):
    """An endpoint with its last attempts, newest first (``include_attempts=true``)."""

    attempts: list[AttemptAnswer]


_PAIR: Final = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}


class SqlInput(BaseModel):
    """A statement for the embedded ClickHouse."""

    statement: str = Field(min_length=1, description="One SELECT, such as SELECT count() FROM attempt_history.")


class SqlAnswer(_Answer):
    """What a SELECT returned: columns with name and type, rows as lists."""

    columns: list[Annotated[tuple[str, str], WithJsonSchema(_PAIR)]]
    rows: list[tuple[Any, ...]]
    seconds: float


class ListAnswer(_Answer):
    """A page of a list."""

    count: int = Field(description="How many are on this page.")
    total_count: int
    current_page: int
    pages: int
    per_page: int
    ignored_filters: list[str] = Field(description="What was left out of the query, and why.")


class EndpointListAnswer(ListAnswer):
    """A page of endpoints."""

    endpoints: list[SerializeAsAny[EndpointAnswer]]


class AttemptListAnswer(ListAnswer):
    """A page of attempts. ``total_count`` is a lower bound when it is not exact (see docs/search.md)."""

    attempts: list[AttemptAnswer]
    total_count_is_exact: bool
    next_cursor: str | None = Field(description="What the next page is asked for with (after=…); null at the end.")


class EndpointCount(_Answer):
    """How many attempts went to an endpoint."""

    endpoint_id: int
    count: int


class FacetsAnswer(_Answer):
    """How many attempts a search finds, in all, by state, by event type, and by endpoint; the most first."""

    total_count: int
    states: dict[str, int]
    events: dict[str, int]
    endpoints: list[EndpointCount]
    ignored_filters: list[str]


class HistogramBar(_Answer):
    """A stretch of time: when it begins, how many attempts were made in it, and how many of them failed."""

    begins_at: Time
    attempts: int
    failures: int


class HistogramAnswer(_Answer):
    """When the attempts were made that a search finds: bars of the same width, the oldest first, empty ones included."""

    interval_seconds: int
    bars: list[HistogramBar]
    ignored_filters: list[str]
