"""Attempts in ``webhooks.attempts``: one HTTP exchange each, or one decision not to make it. They hold no request body.

The value of a record is one or more attempts, one JSON object a line.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.delivery import MAX_ATTEMPT, Trigger
from schemas.event import SCHEMA_VERSION, EventMeta, Int64, Many, SchemaVersion

Milliseconds = Annotated[float, Field(allow_inf_nan=False)]


class AttemptState(enum.StrEnum):
    """Acknowledged or not: all that a receiver's answer can mean."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Outcome(enum.StrEnum):
    """What followed from an attempt."""

    DELIVERED = "delivered"
    REPEATED = "repeated"
    """It failed and will be repeated at ``next_attempt_at``."""
    EXHAUSTED = "exhausted"
    """It failed and was the last one."""
    DISCARDED = "discarded"
    """It was due and not made: the endpoint was deleted or no longer subscribed, or somebody dropped what was held for it."""
    EXPIRED = "expired"
    """It was held for an endpoint that was paused or disabled for longer than ``hold_days``."""


class Attempt(BaseModel):
    """One attempt. Times are UTC; durations are milliseconds; ``error`` is a sentence for people, ``failure`` a word.

    ``response_body`` is text as it came, or base64 of bytes that are not UTF-8 (``response_body_encoding``), 16 KiB at most.
    ``request_headers`` holds no credentials.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: SchemaVersion = SCHEMA_VERSION
    event: EventMeta
    endpoint_id: Int64
    target_url: str
    attempt: int = Field(ge=1, le=MAX_ATTEMPT)
    trigger: Trigger
    state: AttemptState
    outcome: Outcome
    created_at: AwareDatetime
    duration_ms: Milliseconds
    first_byte_ms: Milliseconds | None = None
    http_status_code: int | None = Field(default=None, ge=100, le=999)
    failure: str | None = None
    error: str | None = None
    next_attempt_at: AwareDatetime | None = None
    request_headers: dict[str, str]
    response_headers: Many[tuple[str, str]] = ()
    response_body: str = ""
    response_body_encoding: Literal["text", "base64"] = "text"
    response_truncated: bool = False
