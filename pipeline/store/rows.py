"""Converts records to rows: the tables' columns, and a pure function per table. A row ends with its record's Kafka position."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from pipeline.core.filters.stored import texts_of
from schemas.attempt import Attempt
from schemas.audit import AuditEntry
from schemas.batch import MAX_BATCH
from schemas.delivery import DeadLetter, Dispatch
from schemas.endpoint import EndpointRecord
from schemas.event import EventMeta

MAX_PARTITIONS = 1024
"""A recorded topic has at most this many partitions (see :func:`attempt_id`)."""

Row = tuple[Any, ...]
"""Values in the order of the table's columns; the last two are ``kafka_partition`` and ``kafka_offset``.

Times are milliseconds since 1970, as in DateTime64(3): the driver takes ten times as long for a datetime.
"""


class RowPosition(NamedTuple):
    """The position of a record in its topic."""

    partition: int
    offset: int


class Table(enum.StrEnum):
    """The tables that the recorder writes."""

    ATTEMPTS = "attempts"
    EVENTS = "events"
    DEAD_LETTERS = "dead_letters"
    ENDPOINT_CHANGES = "endpoint_changes"
    AUDIT_LOG = "audit_log"


_TIME: Final = "DateTime64(3, 'UTC')"
_WORD: Final = "LowCardinality(String)"
_PAIRS: Final = "Array(Tuple(String, String))"
_REFERENCES: Final = {
    "order_number": "String",
    "shipment_numbers": "Array(String)",
    "subscription_id": "String",
    "stock_item_id": "Nullable(Int64)",
    "skus": "Array(String)",
}
_POSITION: Final = {"kafka_partition": "UInt16", "kafka_offset": "Int64"}

COLUMNS: Final[dict[Table, dict[str, str]]] = {
    Table.ATTEMPTS: {
        "id": "Int64",
        "event_id": "String",
        "event_name": _WORD,
        "event_created_at": _TIME,
        "event_received_at": _TIME,
        **_REFERENCES,
        "endpoint_id": "Int64",
        "target_url": _WORD,
        "attempt": "UInt8",
        "trigger": _WORD,
        "state": _WORD,
        "outcome": _WORD,
        "created_at": _TIME,
        "duration_ms": "Float64",
        "first_byte_ms": "Nullable(Float64)",
        "http_status_code": "Nullable(UInt16)",
        "failure": _WORD,
        "error": "String",
        "next_attempt_at": f"Nullable({_TIME})",
        "request_headers": "Map(String, String)",
        "response_headers": _PAIRS,
        "response_body": "String",
        "response_body_encoding": _WORD,
        "response_truncated": "Bool",
        **_POSITION,
    },
    Table.EVENTS: {
        "event_id": "String",
        "event_name": _WORD,
        "created_at": _TIME,
        "received_at": _TIME,
        **_REFERENCES,
        "endpoint_ids": "Array(Int64)",
        "request_body": "String",
        "source_topic": _WORD,
        "source_partition": "Int32",
        "source_offset": "Int64",
        "event_key": "String",
        **_POSITION,
    },
    Table.DEAD_LETTERS: {
        "reason": _WORD,
        "detail": "String",
        "topic": _WORD,
        "partition": "Int32",
        "offset": "Int64",
        "failed_at": _TIME,
        "record_key": "Nullable(String)",
        "record_value": "Nullable(String)",
        "headers": _PAIRS,
        **_POSITION,
    },
    Table.ENDPOINT_CHANGES: {
        "endpoint_id": "Int64",
        "version": "Int64",
        "change": _WORD,
        "changed_by": "String",
        "changed_at": _TIME,
        "target_url": "String",
        "events": "Array(String)",
        "active": "Bool",
        "description": "String",
        "filters": "String",
        **_POSITION,
    },
    Table.AUDIT_LOG: {
        "at": _TIME,
        "actor": "String",
        "actor_name": "String",
        "role": _WORD,
        "action": _WORD,
        "subject": "String",
        "detail": "String",
        "remote_address": "String",
        **_POSITION,
    },
}
"""Every column with its type, as the migrations create them (a contract test compares the two)."""

PARTITIONED_BY: Final[dict[Table, str]] = {
    Table.ATTEMPTS: "created_at",
    Table.EVENTS: "received_at",
    Table.DEAD_LETTERS: "failed_at",
}
"""The time whose week is the table's partition, and whose age decides when a row is dropped. Endpoint changes and the audit log
are few and are kept.
"""


NOT_MADE: Final = "outcome IN ('discarded', 'expired')"
"""True for attempts that were due but not made: they are not failures, and have no duration."""

UNKNOWN_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The ``event_received_at`` of an attempt whose record does not contain it."""


def attempt_id(partition: int, offset: int, index: int = 0) -> int:
    """The public id of the ``index``-th attempt in a record. It never changes, is at least 1, and fits into a JavaScript number
    up to offset 137 billion in each partition; 64 bits last a thousand times as long.

    Ids once began at 0. Some clients treat 0 as no id, and could not ask for the first attempt. The change made no id ambiguous,
    because records are written with one entry fewer than there is room for.
    """
    if not 0 <= partition < MAX_PARTITIONS:
        raise ValueError(
            f"partition {partition} has no attempt ids: the attempts topic may have at most {MAX_PARTITIONS} partitions"
        )
    if not 0 <= index < MAX_BATCH:
        raise ValueError(f"a record has at most {MAX_BATCH} attempts, and none with the index {index}")
    return (offset * MAX_PARTITIONS + partition) * MAX_BATCH + index + 1


def weeks(table: Table, rows: Sequence[Row]) -> list[int] | None:
    """The week (Monday to Sunday, UTC) of each row, which is its partition in ClickHouse; None if the table has no partitions."""
    column = PARTITIONED_BY.get(table)
    if column is None:
        return None
    index = _INDEX[table][column]
    return [(row[index] + _THURSDAY_MS) // _WEEK_MS for row in rows]


_DAY_MS: Final = 86_400_000
_WEEK_MS: Final = 7 * _DAY_MS
_THURSDAY_MS: Final = 3 * _DAY_MS
"""1970 began on a Thursday, three days after a Monday."""
_INDEX: Final = {table: {name: index for index, name in enumerate(columns)} for table, columns in COLUMNS.items()}


def attempt_row(position: RowPosition, attempt: Attempt, index: int = 0) -> Row:
    """A row of ``attempts``: the ``index``-th attempt of the record at this position."""
    event = attempt.event
    return (
        attempt_id(*position, index),
        event.id,
        event.event_name,
        _time(event.created_at),
        _time(event.received_at or UNKNOWN_TIME),
        *_references(event),
        attempt.endpoint_id,
        attempt.target_url,
        attempt.attempt,
        attempt.trigger.value,
        attempt.state.value,
        attempt.outcome.value,
        _time(attempt.created_at),
        attempt.duration_ms,
        attempt.first_byte_ms,
        attempt.http_status_code,
        attempt.failure or "",
        attempt.error or "",
        _time(attempt.next_attempt_at) if attempt.next_attempt_at else None,
        attempt.request_headers,
        attempt.response_headers,
        attempt.response_body,
        attempt.response_body_encoding,
        attempt.response_truncated,
        *position,
    )


def event_row(position: RowPosition, dispatch: Dispatch, body: bytes) -> Row:
    """A row of ``events``: the body as it is sent, and the matched endpoints."""
    event = dispatch.event
    return (
        event.id,
        event.event_name,
        _time(event.created_at),
        _time(dispatch.received_at),
        *_references(event),
        dispatch.endpoint_ids,
        body,
        dispatch.source_topic,
        dispatch.source_partition,
        dispatch.source_offset,
        event.key or "",
        *position,
    )


def dead_letter_row(
    position: RowPosition,
    dead_letter: DeadLetter,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes]],
) -> Row:
    """A row of ``dead_letters``: the original key and value; a null stays a null."""
    return (
        dead_letter.reason.value,
        dead_letter.detail,
        dead_letter.topic,
        dead_letter.partition,
        dead_letter.offset,
        _time(dead_letter.failed_at),
        key,
        None if dead_letter.null_value else value,
        # A header's value may be null in Kafka, whatever the client's types say.
        tuple((name, content or b"") for name, content in headers),
        *position,
    )


def endpoint_change_row(position: RowPosition, endpoint: EndpointRecord) -> Row:
    """A row of ``endpoint_changes``: the endpoint after the change and who made it, without its secrets and token."""
    return (
        endpoint.id,
        endpoint.version,
        endpoint.change,
        endpoint.changed_by,
        _time(endpoint.updated_at),
        endpoint.target_url,
        endpoint.events,
        endpoint.active,
        endpoint.description,
        json.dumps(texts_of(endpoint), ensure_ascii=False),
        *position,
    )


def audit_row(position: RowPosition, entry: AuditEntry) -> Row:
    """A row of ``audit_log``: who did what to what."""
    return (
        _time(entry.at),
        entry.actor,
        entry.actor_name,
        entry.role.value,
        entry.action.value,
        entry.subject,
        entry.detail,
        entry.remote_address,
        *position,
    )


def _references(event: EventMeta) -> tuple[str, tuple[str, ...], str, int | None, tuple[str, ...]]:
    # The OMS chooses its ids. An id that does not fit the column must not block the rows around it.
    fits = event.stock_item_id is not None and -(2**63) <= event.stock_item_id < 2**63
    return (
        event.order_number or "",
        event.shipment_numbers,
        event.subscription_id or "",
        event.stock_item_id if fits else None,
        event.skus,
    )


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_FIRST_MS: Final = (datetime(1900, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND
_LAST_MS: Final = (datetime(2300, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND - 1


def _time(value: datetime) -> int:
    """A time within the range that DateTime64 can compare; a producer may send any year."""
    milliseconds: int = (value - _EPOCH) // _MILLISECOND
    return milliseconds if _FIRST_MS <= milliseconds <= _LAST_MS else min(max(milliseconds, _FIRST_MS), _LAST_MS)
