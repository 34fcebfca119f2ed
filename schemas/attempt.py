"""Attempts in ``webhooks.attempts``: each is one HTTP exchange, or one decision not to make it. They contain no request body.

The value of a record is one or more attempts, one JSON object per line.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

from msgspec import Meta

from schemas.delivery import MAX_ATTEMPT, Trigger
from schemas.event import SCHEMA_VERSION, EventMeta
from schemas.own_records import Int64Value, OwnRecord, Time


class AttemptState(enum.StrEnum):
    """Acknowledged or not. A receiver's answer says nothing else."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Outcome(enum.StrEnum):
    """The result of an attempt."""

    DELIVERED = "delivered"
    RETRIED = "repeated"
    """It failed and is retried at ``next_attempt_at``."""
    EXHAUSTED = "exhausted"
    """It failed and was the last one."""
    DISCARDED = "discarded"
    """It was due but not made: the endpoint was deleted or no longer subscribed, or its held deliveries were dropped."""
    EXPIRED = "expired"
    """It was held for longer than ``hold_days`` because the endpoint was paused or disabled."""


class Attempt(OwnRecord, frozen=True, kw_only=True, gc=False):
    """One attempt. Times are UTC; durations are milliseconds; ``error`` is a sentence for people, ``failure`` a word.

    ``response_body`` is the received text, or base64 of bytes that are not UTF-8 (``response_body_encoding``), at most 16 KiB.
    ``request_headers`` contains no credentials.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    event: EventMeta
    endpoint_id: Int64Value
    target_url: str
    attempt: Annotated[int, Meta(ge=1, le=MAX_ATTEMPT)]
    trigger: Trigger
    state: AttemptState
    outcome: Outcome
    created_at: Time
    duration_ms: float
    first_byte_ms: float | None = None
    http_status_code: Annotated[int, Meta(ge=100, le=999)] | None = None
    failure: str | None = None
    error: str | None = None
    next_attempt_at: Time | None = None
    request_headers: dict[str, str]
    response_headers: tuple[tuple[str, str], ...] = ()
    response_body: str = ""
    response_body_encoding: Literal["text", "base64"] = "text"
    response_truncated: bool = False
