"""Replays of past events in requests and answers of the HTTP API."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
)

from schemas.event_types import EventName, types_in
from schemas.http.answers import Answer
from schemas.http.erasures import MAX_ORDER_NUMBER
from schemas.http.strict_input import StrictInput

MAX_REPLAY_ENDPOINTS: Final = 20
MAX_REPLAY_EVENTS: Final = 20
MAX_REPLAY_ORDERS: Final = 100
_RUN: Final = re.compile(r"[0-9a-f]{8,32}")
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_YEAR: Final = 1971
_LAST_YEAR: Final = 2200


class ReplayInput(StrictInput):
    """The member ``replay`` of a request body: which past events are sent again, and to which endpoints."""

    model_config = ConfigDict(json_schema_extra={"required": ["endpoint_ids", "since", "until"]})

    endpoint_ids: tuple[StrictInt, ...] = Field(
        default=(),
        description="The endpoints that get them.",
        json_schema_extra={"minItems": 1, "maxItems": MAX_REPLAY_ENDPOINTS},
    )
    since: AwareDatetime = Field(default=_NEVER, description="Events that were received at this time or later ...")
    until: AwareDatetime = Field(default=_NEVER, description="... and before this time.")
    event_names: tuple[EventName, ...] = Field(
        default=(), description="Of these types. If omitted: of all, also of types that were removed."
    )
    order_numbers: tuple[str, ...] = Field(
        default=(),
        description="Of these orders. If omitted: of all.",
        json_schema_extra={"minItems": 1, "maxItems": MAX_REPLAY_ORDERS},
    )
    matched_only: StrictBool = Field(
        default=True,
        description="True: an endpoint gets the events that it matched at the time. False: all of these events.",
    )

    @field_validator("endpoint_ids")
    @classmethod
    def _check_endpoints(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        distinct = tuple(dict.fromkeys(value))
        if not 1 <= len(distinct) <= MAX_REPLAY_ENDPOINTS or not all(0 < one < 2**63 for one in distinct):
            raise ValueError(f"endpoint_ids must be 1 to {MAX_REPLAY_ENDPOINTS} ids of endpoints.")
        return distinct

    @field_validator("event_names")
    @classmethod
    def _check_event_names(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        types = types_in(info)
        if all(name in types.by_name for name in value):
            return value
        raise ValueError(f"event_names must be of {', '.join(types.names)}.")

    @field_validator("event_names", "order_numbers", mode="before")
    @classmethod
    def _check_not_empty(cls, value: object) -> object:
        if value == []:
            raise ValueError("An empty list would mean all; omit it for all, or name some.")
        return value

    @field_validator("order_numbers")
    @classmethod
    def _check_orders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        orders = tuple(one.strip() for one in value)
        if len(orders) > MAX_REPLAY_ORDERS or not all(1 <= len(one) <= MAX_ORDER_NUMBER and one.isprintable() for one in orders):
            raise ValueError(
                f"order_numbers must be 1 to {MAX_REPLAY_ORDERS} order numbers, each of 1 to {MAX_ORDER_NUMBER} characters."
            )
        return orders

    @field_validator("since", "until", mode="before")
    @classmethod
    def _check_time(cls, value: object) -> datetime:
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None or not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            raise ValueError(
                f"It must be a time with its zone, such as 2026-03-02T15:04:00Z, in the years {_FIRST_YEAR} to {_LAST_YEAR}."
            )
        return moment

    @field_validator("until")
    @classmethod
    def _check_range(cls, value: datetime, info: ValidationInfo) -> datetime:
        since = info.data.get("since")
        if since is None or since < value:
            return value
        raise ValueError("until must be later than since: between them there is nothing to replay.")


class ReplayStep(ReplayInput):
    """A step of a replay: the next events after ``after``, in the order in which they were received."""

    model_config = ConfigDict(json_schema_extra={"required": ["endpoint_ids", "since", "until", "run"]})

    run: str = Field(
        default="",
        description="Identifies the replay in the audit; the same in all its steps.",
        json_schema_extra={"pattern": "^[0-9a-f]{8,32}$"},
    )
    after: str | None = Field(default=None, description="The value of next of the previous step; null: from the beginning.")
    limit: StrictInt = Field(
        default=20,
        description="Maximum events of this step.",
        json_schema_extra={"minimum": 1, "maximum": MAX_REPLAY_EVENTS},
    )
    skip: StrictBool = Field(default=False, description="Send nothing, only return where the step ends.")

    @field_validator("run")
    @classmethod
    def _check_run(cls, value: str) -> str:
        if _RUN.fullmatch(value):
            return value
        raise ValueError("run must be 8 to 32 digits of a hexadecimal number.")

    @field_validator("limit")
    @classmethod
    def _check_limit(cls, value: int) -> int:
        if 1 <= value <= MAX_REPLAY_EVENTS:
            return value
        raise ValueError(f"limit must be a whole number from 1 to {MAX_REPLAY_EVENTS}.")


class ReplayPreviewBody(BaseModel):
    """The body of a preview."""

    replay: ReplayInput


class ReplayBody(BaseModel):
    """The body of a step."""

    replay: ReplayStep


class ReplayPreview(Answer):
    """The size of a replay."""

    events: int
    notifications: int


class ReplayAnswer(Answer):
    """The events that a step has sent; Kafka has them. ``next`` is null at the end. ``skipped`` events have no body any more."""

    events: int
    sent: int
    skipped: int
    next: str | None
