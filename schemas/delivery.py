"""Records that carry a body: the value is the body, byte for byte as it is sent, and the metadata is in a header.

* ``webhooks.delay.*``, ``webhooks.held``: the header ``oms-webhooks-delivery`` contains a :class:`DeliveryRecord`, everything
  that the next attempt needs.
* ``webhooks.dispatches``: several events in one record. The value is their concatenated bodies; the header
  ``oms-webhooks-dispatch`` contains one :class:`Dispatch` per line: the length of the body, and the matched endpoints.
* ``webhooks.dead-letters``: the header ``oms-webhooks-dead-letter`` contains a :class:`DeadLetter`; key, value and other headers
  are those of the unusable record, unchanged, so that it can be repaired and published again (except for what Kafka or its client
  does not accept, see :class:`DeadLetter`).
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
"""The highest attempt number in a record; a schedule has far fewer."""


class Trigger(enum.StrEnum):
    """Why an attempt is made. The retries of a resend are resends too: they are made whether or not the endpoint subscribes.

    On the wire, a retry is ``repeat``.
    """

    EVENT = "event"
    RETRY = "repeat"
    RESEND = "resend"
    TEST = "test"


class DeliveryRecord(RewrittenRecord, frozen=True, kw_only=True, gc=False):
    """The next attempt of one event at one endpoint. ``attempt`` counts from 1.

    In a delay topic it is due when the topic's delay has passed since the record was written (the record's own timestamp). In
    ``webhooks.held`` it waits, from that time on, until its endpoint is resumed.

    ``parked``: how often it was put off without an attempt (circuit open, limit reached, …). ``traceparent`` and ``tracestate``:
    its trace (W3C), for the next attempt.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    event: EventMeta
    endpoint_id: Int64Value
    attempt: Annotated[int, Meta(ge=1, le=MAX_ATTEMPT)]
    trigger: Trigger = Trigger.RETRY
    parked: Annotated[int, Meta(ge=0)] = 0
    traceparent: str | None = None
    tracestate: str | None = None


class Dispatch(OwnRecord, frozen=True, kw_only=True, gc=False):
    """An event as the fan-out handled it: the matched endpoints, and where it came from.

    ``body_bytes`` is the length of this event's body in the record's value; None: the body is the whole value.
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
    """The reason as a word and as a sentence, and the position of the unusable record."""

    schema_version: Literal[1] = SCHEMA_VERSION
    reason: DeadLetterReason
    detail: str
    topic: str
    partition: PartitionValue
    offset: OffsetValue
    failed_at: Time
    null_value: bool = False
    """The value was null and is stored as an empty one: no client can write a record without key and value."""
    truncated: bool = False
    """The record was too large to be stored whole: its beginning is kept; detail says where the original is."""
