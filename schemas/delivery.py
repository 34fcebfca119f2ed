"""Records that carry a body: the body is the record's value, as the bytes that are sent; what is known of it is a header.

* ``webhooks.delay.*``, ``webhooks.held``: header ``oms-webhooks-delivery`` holds a :class:`Delivery`, all that the next attempt needs.
* ``webhooks.dispatches``: several events in one record: the value is their bodies, one behind the other; header
  ``oms-webhooks-dispatch`` holds a :class:`Dispatch` each, one a line: how long its body is, which endpoints matched.
* ``webhooks.dead-letters``: header ``oms-webhooks-dead-letter`` holds a :class:`DeadLetter`; key, value and other
  headers are those of the record that could not be used, untouched, so that it can be published again after repair (what Kafka
  or its client cannot take is the exception, see :class:`DeadLetter`).
"""

from __future__ import annotations

import enum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.event import SCHEMA_VERSION, EventMeta, Int64, Many, Offset, PartitionNumber, SchemaVersion

DELIVERY_HEADER = "oms-webhooks-delivery"
DISPATCH_HEADER = "oms-webhooks-dispatch"
DEAD_LETTER_HEADER = "oms-webhooks-dead-letter"

MAX_ATTEMPT = 255
"""What a record may count attempts up to; a schedule has far fewer."""


class Trigger(enum.StrEnum):
    """Why an attempt is made. The repeats of a resend are resends too: somebody asked for them, subscribed or not."""

    EVENT = "event"
    REPEAT = "repeat"
    RESEND = "resend"
    TEST = "test"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: SchemaVersion = SCHEMA_VERSION


class Delivery(_Record):
    """The next attempt of one event at one endpoint. ``attempt`` counts from 1.

    In a delay topic it is due when the topic's delay has passed since the record was written (the record's own timestamp). In
    ``webhooks.held`` it waits, from that time on, for its endpoint to be resumed.
    """

    event: EventMeta
    endpoint_id: Int64
    attempt: int = Field(ge=1, le=MAX_ATTEMPT)
    trigger: Trigger = Trigger.REPEAT
    parked: int = Field(
        default=0, ge=0, description="How often it was put off without an attempt (circuit open, at its bound, …)."
    )
    traceparent: str | None = Field(default=None, description="The trace that it belongs to (W3C), for the next attempt.")
    tracestate: str | None = Field(default=None, description="What comes with the traceparent (W3C).")


class Dispatch(_Record):
    """An event as the fan-out saw it: who matched, where it came from."""

    event: EventMeta
    endpoint_ids: Many[Int64]
    received_at: AwareDatetime
    source_topic: str
    source_partition: PartitionNumber
    source_offset: Offset
    body_bytes: int | None = Field(
        default=None, ge=0, description="How much of the record's value is this event's body; none: all that is left of it."
    )


class DeadLetterReason(enum.StrEnum):
    """Why a record could not be used."""

    NULL_VALUE = "null_value"
    MISSING_KEY = "missing_key"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    UNKNOWN_EVENT = "unknown_event"
    INVALID_ENVELOPE = "invalid_envelope"
    INVALID_PAYLOAD = "invalid_payload"
    UNSUPPORTED_VERSION = "unsupported_version"
    INVALID_RECORD = "invalid_record"
    NOT_RECORDABLE = "not_recordable"
    UNEXPECTED_ERROR = "unexpected_error"


class DeadLetter(_Record):
    """Why and where: the reason as a word and as a sentence, and the position of the record that could not be used."""

    reason: DeadLetterReason
    detail: str
    topic: str
    partition: PartitionNumber
    offset: Offset
    failed_at: AwareDatetime
    null_value: bool = Field(
        default=False,
        description="The value was null and stands as an empty one: no client can write a record without key and value.",
    )
    truncated: bool = Field(
        default=False,
        description="The record was too large to be set aside whole: the beginning is kept; detail says where it is.",
    )
