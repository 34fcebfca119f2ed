"""Several attempts, or several dispatches, in one record: what a delivery leaves behind is small, and each record costs.

A bundle is of one UTC day. It is stored as a whole or not at all, and ClickHouse can promise that only within one partition of
a table, which is made of whole days (pipeline/store/writer.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import accumulate, pairwise

from schemas.attempt import Attempt
from schemas.codec import Headers, InvalidRecordError, from_json, header_value
from schemas.delivery import DISPATCH_HEADER, DeadLetterReason, Dispatch

MAX_BUNDLE = 64
"""Entries of a bundle, at most: an attempt's id has room for so many (pipeline/store/rows.py)."""


def read_attempts(value: bytes | None) -> list[Attempt]:
    """The attempts in the value of a record of ``webhooks.attempts``: one JSON object a line.

    Raises:
        InvalidRecordError: one of them is as from_json says; they are too many, or of several days.
    """
    attempts = [from_json(line, Attempt) for line in _lines(value)]
    _check_one_day(attempt.created_at for attempt in attempts)
    return attempts


def read_dispatches(headers: Headers, value: bytes | None) -> list[tuple[Dispatch, bytes]]:
    """The dispatches in a record of ``webhooks.dispatches``, one JSON object a line of its header, each with its event's body.

    Raises:
        InvalidRecordError: as read_attempts; or the bodies' lengths do not add up to the value's.
    """
    dispatches = [from_json(line, Dispatch) for line in _lines(header_value(headers, DISPATCH_HEADER))]
    _check_one_day(dispatch.received_at for dispatch in dispatches)
    bodies = value or b""
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
    lines = value.rstrip(b"\n").split(b"\n", MAX_BUNDLE)
    if len(lines) > MAX_BUNDLE:
        raise InvalidRecordError(DeadLetterReason.INVALID_RECORD, f"The record has more than {MAX_BUNDLE} lines.")
    return lines


def _check_one_day(times: Iterable[datetime]) -> None:
    days = {time.astimezone(UTC).date() for time in times}
    if len(days) > 1:
        message = f"The record holds what happened on several days ({min(days)} to {max(days)}); write a record for each (UTC)."
        raise InvalidRecordError(DeadLetterReason.INVALID_RECORD, message)
