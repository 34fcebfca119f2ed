"""Several attempts, or several dispatches, in one record: they are small, and each record has a cost.

A batch belongs to one UTC day. It is stored as a whole or not at all, and ClickHouse can guarantee that only within one partition
of a table, which consists of whole days (pipeline/store/writer.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Final

from schemas.attempt import Attempt
from schemas.codec import Headers, InvalidRecordError, decode_lines, header_value
from schemas.delivery import DISPATCH_HEADER, DeadLetterReason, Dispatch

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)

MAX_BATCH = 64
"""The maximum entries of a batch that is read: releases whose ids began at 0 wrote this many."""
MAX_BATCHED = MAX_BATCH - 1
"""The maximum entries of a batch that is written: attempt ids begin at 1, and have no room for more (pipeline/store/rows.py)."""


def read_attempts(value: bytes | None) -> list[Attempt]:
    """The attempts in the value of a record of ``webhooks.attempts``: one JSON object per line.

    Raises:
        InvalidRecordError: one of them is invalid (see from_json); there are too many, or they are of several days.
    """
    attempts = decode_lines(_lines(value), Attempt)
    _check_one_day([attempt.created_at for attempt in attempts])
    return attempts


def read_dispatches(headers: Headers, value: bytes | None) -> list[tuple[Dispatch, bytes]]:
    """The dispatches in a record of ``webhooks.dispatches``, one JSON object per line of its header, each with its event's body.

    Raises:
        InvalidRecordError: as read_attempts; or the bodies' lengths do not add up to the value's.
    """
    # A header's value may be null in Kafka, whatever the client's types say.
    dispatches = decode_lines(_lines(header_value(headers, DISPATCH_HEADER)), Dispatch)
    return _with_bodies(dispatches, value or b"")


def _with_bodies(dispatches: list[Dispatch], bodies: bytes) -> list[tuple[Dispatch, bytes]]:
    _check_one_day([dispatch.received_at for dispatch in dispatches])
    if len(dispatches) == 1 and dispatches[0].body_bytes is None:
        return [(dispatches[0], bodies)]
    ends = list(accumulate((dispatch.body_bytes or 0 for dispatch in dispatches), initial=0))
    if ends[-1] != len(bodies):
        message = f"The bodies of {len(dispatches)} dispatches should have {ends[-1]:,} bytes; the value has {len(bodies):,}."
        raise InvalidRecordError(DeadLetterReason.INVALID_RECORD, message)
    return [(dispatch, bodies[start:end]) for dispatch, (start, end) in zip(dispatches, pairwise(ends), strict=True)]


def _lines(value: bytes | None) -> list[bytes]:
    if value is None:
        raise InvalidRecordError(DeadLetterReason.NULL_VALUE, "The record has no value.")
    lines = value.rstrip(b"\n").split(b"\n", MAX_BATCH)
    if len(lines) > MAX_BATCH:
        raise InvalidRecordError(DeadLetterReason.INVALID_RECORD, f"The record has more than {MAX_BATCH} lines.")
    return lines


def _check_one_day(times: Sequence[datetime]) -> None:
    # By subtraction: times at the ends of a datetime's range have no equivalent in UTC.
    if len({(time - _EPOCH) // _DAY for time in times}) > 1:
        first, last = min(times), max(times)
        message = f"The record has entries of several days ({first} to {last}); write one record for each day (UTC)."
        raise InvalidRecordError(DeadLetterReason.INVALID_RECORD, message)
