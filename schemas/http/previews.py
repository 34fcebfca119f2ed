"""Requests and answers of previews: what an endpoint with these events and filters would have received."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from schemas.event_type_versions import PINS_DESCRIPTION, check_versions
from schemas.event_types import EventName, types_in
from schemas.filter_texts import check_filters, filters_schema
from schemas.http.answers import Time
from schemas.http.endpoints import check_events

MAX_DAYS: Final = 7


class PreviewInput(BaseModel):
    """The member ``preview`` of a request body: events and filters as for an endpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, json_schema_extra={"required": ["events"]})

    events: tuple[EventName, ...] = Field(default=(), description="The event types that it would subscribe to; at least one.")
    filters: tuple[str, ...] = Field(
        default=(),
        description="Expressions (CEL) over event and data; all must be true. An object of paths with their values is accepted too.",
        json_schema_extra=filters_schema,
    )
    event_type_versions: dict[str, int] = Field(
        default_factory=dict,
        description=PINS_DESCRIPTION,
        json_schema_extra={"anyOf": [{"type": "object", "additionalProperties": {"type": "integer"}}, {"type": "null"}]},
    )
    days: int = Field(
        default=MAX_DAYS, description="How many days to look back.", json_schema_extra={"minimum": 1, "maximum": MAX_DAYS}
    )

    @field_validator("events", mode="before")
    @classmethod
    def _check_events(cls, value: object, info: ValidationInfo) -> tuple[str, ...]:
        return check_events(value, types_in(info))

    _check_filters = field_validator("filters", mode="before")(check_filters)

    @field_validator("event_type_versions", mode="before")
    @classmethod
    def _check_event_type_versions(cls, value: object, info: ValidationInfo) -> dict[str, int]:
        return check_versions(value, types_in(info))

    @field_validator("days", mode="before")
    @classmethod
    def _check_days(cls, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_DAYS:
            return value
        raise ValueError(f"days must be a whole number from 1 to {MAX_DAYS}.")


class PreviewBody(BaseModel):
    """The body of a preview."""

    preview: PreviewInput


class PreviewedEvent(BaseModel):
    """An event of the selected types."""

    model_config = ConfigDict(frozen=True)

    id: str
    event_name: str
    received_at: Time
    order_number: str | None


class PreviewFailure(BaseModel):
    """A filter that was neither true nor false on ``count`` events. They would not have been received."""

    model_config = ConfigDict(frozen=True)

    expression: str
    reason: str
    event_id: str = Field(description="The newest of them.")
    count: int


class PreviewAnswer(BaseModel):
    """The events that would have been received from ``since`` to ``until``."""

    model_config = ConfigDict(frozen=True)

    sentence: str = Field(description="The result in words.")
    matched: int = Field(description="Events that would have been received.")
    events: int = Field(description="All events of that time, of every type.")
    examined: int = Field(description="The events of the selected types, each matched against the filters.")
    unread: int = Field(description="How many of them could not be matched: larger than 256 KiB, erased, or too old.")
    since: Time
    until: Time
    is_complete: bool = Field(
        description="False if the limit of time or of events was reached: then since is later than requested."
    )
    would: list[PreviewedEvent] = Field(description="The newest ten that would have been received.")
    would_not: list[PreviewedEvent] = Field(description="The newest ten of the selected types that would not.")
    failures: list[PreviewFailure] = Field(description="Filters that failed, at most ten.")
