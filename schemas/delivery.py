"""Records that carry a body: the body is the record's value, as the bytes that are sent; what is known of it is a header.

* ``webhooks.delay.*``, ``webhooks.held``: header ``oms-webhooks-delivery`` holds a :class:`DeliveryRecord`, all that the next attempt needs.
* ``webhooks.dispatches``: several events in one record: the value is their bodies, one behind the other; header
  ``oms-webhooks-dispatch`` holds a :class:`Dispatch` each, one a line: how long its body is, which endpoints matched.
* ``webhooks.dead-letters``: header ``oms-webhooks-dead-letter`` holds a :class:`DeadLetter`; key, value and other
  headers are those of the record that could not be used, untouched, so that it can be published again after repair (what Kafka
  or its client cannot take is the exception, see :class:`DeadLetter`).
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

from msgspec import Meta

from schemas.event import SCHEMA_VERSION, EventMeta
from schemas.own_records import Int64Value, OffsetValue, OwnRecord, PartitionValue, RewrittenRecord, Time

DELIVERY_HEADER = "oms-webhooks-delivery"
DISPATCH_HEADER = "oms-webhooks-dispatch"
DEAD_LETTER_HEADER = "oms-webhooks-dead-letter"

MAX_ATTEMPT = 255
"""What a record may count attempts up to; a schedule has far fewer."""


class Trigger(enum.StrEnum):
    """Why an attempt is made. The retries of a resend are resends too: somebody asked for them, subscribed or not."""

    EVENT = "event"
    REPEAT = "repeat"
    RESEND = "resend"
    TEST = "test"


class DeliveryRecord(RewrittenRecord, frozen=True, kw_only=True, gc=False):
    """The next attempt of one event at one endpoint. ``attempt`` counts from 1.

    In a delay topic it is due when the topic's delay has passed since the record was written (the record's own timestamp). In
    ``webhooks.held`` it waits, from that time on, for its endpoint to be resumed.

    ``parked``: how often it was put off without an attempt (circuit open, at its bound, …). ``traceparent`` is the trace that it belongs
    to (W3C), for the next attempt; ``tracestate`` comes with it.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    event: EventMeta
    endpoint_id: Int64Value
    attempt: Annotated[int, Meta(ge=1, le=MAX_ATTEMPT)]
    trigger: Trigger = Trigger.REPEAT
    parked: Annotated[int, Meta(ge=0)] = 0
    traceparent: str | None = None
    tracestate: str | None = None


class Dispatch(OwnRecord, frozen=True, kw_only=True, gc=False):
    """An event as the fan-out saw it: who matched, where it came from.

    ``body_bytes`` is how much of the record's value is this event's body; none: all that is left of it.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    event: EventMeta
    endpoint_ids: tuple[Int64Value, ...]
    received_at: Time
    source_topic: str
    source_partition: PartitionValue
    source_offset: OffsetValue
    body_bytes: Annotated[int, Meta(ge=0)] | None = None


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


class DeadLetter(OwnRecord, frozen=True, kw_only=True, gc=False):
    """Why and where: the reason as a word and as a sentence, and the position of the record that could not be used."""

    schema_version: Literal[1] = SCHEMA_VERSION
    reason: DeadLetterReason
    detail: str
    topic: str
    partition: PartitionValue
    offset: OffsetValue
    failed_at: Time
    null_value: bool = False
    """The value was null and stands as an empty one: no client can write a record without key and value."""
    truncated: bool = False
    """The record was too large to be set aside whole: the beginning is kept; detail says where it is."""
