"""Rows made of records: every usable record has a row that fits, and every other record is refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any, cast

import pytest
from msgspec.structs import replace

from consumers.recorder import Recorder
from pipeline.broker.api import Record
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.store.rows import COLUMNS, RowPosition, attempt_id
from schemas.codec import InvalidRecordError, to_header, to_json
from schemas.delivery import DEAD_LETTER_HEADER, DISPATCH_HEADER
from tests.unit.consumers.recorded import ATTEMPT, CHANGE, DEAD, DISPATCH, EVENT, LETTER, SETTINGS, FakeWriter, golden, taken


def row_of(made: Record) -> dict[str, Any] | None:
    """The row of a record, by column."""
    rows = rows_of(made)
    assert len(rows) <= 1
    return rows[0] if rows else None


def rows_of(made: Record) -> list[dict[str, Any]]:
    recorder = Recorder(SETTINGS, MemoryBroker(), writer=FakeWriter(), dead_letters=cast("DeadLetters", None))
    table, to_rows = recorder._tables[made.partition.topic]
    rows = to_rows(RowPosition(made.partition.number, made.offset), made)
    return [dict(zip(COLUMNS[table], row, strict=True)) for row in rows]


# --- rows ---


def test_an_attempt() -> None:
    row = row_of(ATTEMPT)

    assert row is not None
    assert (row["event_id"], row["attempt"], row["outcome"], row["http_status_code"]) == ("evt_1", 2, "repeated", 503)
    assert (row["response_body"], row["response_body_encoding"], row["response_truncated"]) == ("/w==", "base64", True)
    assert (row["kafka_partition"], row["kafka_offset"]) == (3, 41)


def test_attempts_of_one_record_have_different_ids() -> None:
    rows = rows_of(ATTEMPT._replace(value=b"\n".join([golden("attempt")] * 3)))

    assert [row["id"] for row in rows] == [attempt_id(3, 41, index) for index in range(3)]
    assert {(row["kafka_partition"], row["kafka_offset"]) for row in rows} == {(3, 41)}


def test_events_of_one_record_have_their_own_bodies() -> None:
    lines = [to_json(replace(DISPATCH, body_bytes=length)) for length in (2, 3)]
    rows = rows_of(EVENT._replace(value=b"{}[1]", headers=[(DISPATCH_HEADER, b"\n".join(lines))]))

    assert [row["request_body"] for row in rows] == [b"{}", b"[1]"]


def test_an_event_has_its_body_byte_for_byte() -> None:
    row = row_of(EVENT)

    assert row is not None
    assert row["request_body"] == b'{"body": 1.10}'
    assert (row["event_id"], row["endpoint_ids"], row["source_offset"]) == ("evt_1", (7,), 41)


def test_a_dead_letter_is_unchanged() -> None:
    row = row_of(DEAD)

    assert row is not None
    assert (row["reason"], row["detail"], row["topic"], row["offset"]) == ("not_json", "The value is not JSON.", "oms.orders", 41)
    assert (row["record_key"], row["record_value"]) == (None, b"\xff")
    assert row["headers"][0] == ("trace", b"\xfe")


@pytest.mark.parametrize("headers", [[], [(DEAD_LETTER_HEADER, b"{")], [(DEAD_LETTER_HEADER, b'{"schema_version":2}')]])
def test_a_foreign_record_in_the_dead_letters_is_a_dead_letter(headers: list[tuple[str, bytes]]) -> None:
    row = row_of(DEAD._replace(headers=headers, timestamp_ms=1_772_463_840_600))

    assert row is not None
    assert row["reason"] == "invalid_record"
    assert (row["topic"], row["partition"], row["offset"]) == ("t.webhooks.dead-letters", 3, 41)
    assert row["failed_at"] == 1_772_463_840_600
    assert row["record_value"] == b"\xff"


def test_a_null_value_stays_null_in_a_dead_letter() -> None:
    header = to_header(DEAD_LETTER_HEADER, replace(LETTER, null_value=True))
    row = row_of(DEAD._replace(value=b"", headers=[header]))

    assert row is not None
    assert (row["record_key"], row["record_value"]) == (None, None)


def test_a_change_of_an_endpoint_has_no_secrets() -> None:
    row = row_of(CHANGE)

    assert row is not None
    assert (row["endpoint_id"], row["version"], row["change"], row["changed_by"]) == (7, 4, "rotate_secret", "api")
    assert "gAAAAA" not in repr(row)


@pytest.mark.parametrize(
    "nothing", [taken("endpoints", b"{}", key=b"id-claim"), taken("endpoints", None, key=b"7")], ids=["id claim", "tombstone"]
)
def test_a_record_that_is_not_a_change_has_no_row(nothing: Record) -> None:
    assert row_of(nothing) is None


@pytest.mark.parametrize(
    "unusable",
    [
        ATTEMPT._replace(value=None),
        ATTEMPT._replace(value=b"{"),
        ATTEMPT._replace(value=b"{}"),
        ATTEMPT._replace(value=golden("attempt").replace(b'"schema_version":1', b'"schema_version":2')),
        EVENT._replace(headers=[]),
        CHANGE._replace(value=b"[]"),
    ],
)
def test_unusable_records_are_refused(unusable: Record) -> None:
    with pytest.raises(InvalidRecordError):
        row_of(unusable)


def test_a_foreign_dead_letter_may_have_a_timestamp_out_of_range() -> None:
    assert row_of(DEAD._replace(headers=[], timestamp_ms=1_772_463_840_600_000))


@pytest.mark.parametrize(
    "naive",
    [
        ATTEMPT._replace(value=golden("attempt").replace(b'"2026-03-02T15:04:05Z"', b'"2026-03-02T15:04:05"')),
        DEAD._replace(headers=[(DEAD_LETTER_HEADER, golden("dead_letter").replace(b"01Z", b"01"))]),
        CHANGE._replace(value=golden("endpoint").replace(b'"2026-03-02T16:04:00Z"', b'"2026-03-02T16:04:00"')),
    ],
    ids=["attempt", "dead letter", "endpoint"],
)
def test_a_time_without_a_zone_does_not_end_the_role(naive: Record) -> None:
    with contextlib.suppress(InvalidRecordError):
        assert row_of(naive)


RANGES = {"UInt8": (0, 2**8), "UInt16": (0, 2**16), "Int32": (-(2**31), 2**31), "Int64": (-(2**63), 2**63)}


def _changed(made: Record, **fields: object) -> Record:
    return made._replace(value=json.dumps(json.loads(made.value or b"") | fields).encode())


@pytest.mark.parametrize(
    "made",
    [
        _changed(ATTEMPT, attempt=300),
        _changed(ATTEMPT, attempt=-1),
        _changed(ATTEMPT, http_status_code=70_000),
        _changed(ATTEMPT, endpoint_id=2**63),
        EVENT._replace(headers=[to_header(DISPATCH_HEADER, replace(DISPATCH, source_partition=2**31))]),
        DEAD._replace(headers=[to_header(DEAD_LETTER_HEADER, replace(LETTER, partition=2**31))]),
        _changed(CHANGE, id=2**63),
    ],
    ids=[
        "attempt",
        "negative attempt",
        "status",
        "endpoint id",
        "partition of a dispatch",
        "partition of a dead letter",
        "endpoint",
    ],
)
def test_every_usable_record_fits_its_columns(made: Record) -> None:
    """Promise 5: unusable input blocks nothing."""
    try:
        row = row_of(made)
    except InvalidRecordError:
        return
    assert row is not None
    table, _ = Recorder(SETTINGS, MemoryBroker(), writer=FakeWriter(), dead_letters=cast("DeadLetters", None))._tables[
        made.partition.topic
    ]
    for name, kind in COLUMNS[table].items():
        low, end = RANGES.get(kind.removeprefix("Nullable(").removesuffix(")"), (None, None))
        if low is not None and end is not None and row[name] is not None:
            assert low <= row[name] < end, name
