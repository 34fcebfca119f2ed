"""Records to rows: ids, weeks, and rows as wide as their tables."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store.rows import (
    COLUMNS,
    MAX_PARTITIONS,
    PARTITIONED_BY,
    RowPosition,
    Table,
    attempt_id,
    attempt_row,
    audit_row,
    dead_letter_row,
    endpoint_change_row,
    event_row,
    weeks,
)
from schemas.api_key import Access
from schemas.audit import AuditAction, AuditEntry
from schemas.batch import MAX_BATCH
from schemas.delivery import DeadLetter, DeadLetterReason
from schemas.endpoint import EndpointRecord, SealedSecret
from schemas.event import EventMeta
from tests.contract.store_records import MONDAY, START, attempt, body, dispatch, meta

LETTER = DeadLetter(
    reason=DeadLetterReason.TOO_LARGE, detail="Too large.", topic="oms.orders", partition=1, offset=2, failed_at=START
)
ENDPOINT = EndpointRecord(
    id=1,
    target_url="https://shop.example",
    events=("order_completed",),
    sealed_token="sealed-token",
    secrets=(SealedSecret(sealed="sealed-secret"),),
    created_at=START,
    updated_at=START,
)
AUDIT = AuditEntry(at=START, actor="api-key:1", role=Access.ADMIN, action=AuditAction.RESEND, subject="attempt 1")
ROWS = {
    Table.ATTEMPTS: attempt_row(RowPosition(3, 9), attempt()),
    Table.EVENTS: event_row(RowPosition(3, 9), dispatch(), body(1)),
    Table.DEAD_LETTERS: dead_letter_row(RowPosition(3, 9), LETTER, None, b"\xff", [("h", b"\x00")]),
    Table.ENDPOINT_CHANGES: endpoint_change_row(RowPosition(3, 9), ENDPOINT),
    Table.AUDIT_LOG: audit_row(RowPosition(3, 9), AUDIT),
}


@pytest.mark.parametrize("table", Table)
def test_a_row_has_a_value_for_each_column_and_ends_with_its_position(table: Table) -> None:
    assert len(ROWS[table]) == len(COLUMNS[table])
    assert list(COLUMNS[table])[-2:] == ["kafka_partition", "kafka_offset"]
    assert ROWS[table][-2:] == (3, 9)


PLACES = st.tuples(st.integers(0, MAX_PARTITIONS - 1), st.integers(0, 2**37 - 1), st.integers(0, MAX_BATCH - 1))


@given(PLACES, PLACES)
def test_the_id_of_an_attempt_is_unique_and_fits_a_javascript_number(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    identifier = attempt_id(*one)
    assert (identifier == attempt_id(*other)) == (one == other)
    assert 0 <= identifier < 2**53


@pytest.mark.parametrize("partition", [-1, MAX_PARTITIONS])
def test_a_partition_number_that_fits_no_id(partition: int) -> None:
    with pytest.raises(ValueError, match="at most 1024 partitions"):
        attempt_id(partition, 0)


@pytest.mark.parametrize(
    ("moment", "monday"),
    [
        (MONDAY, date(2026, 3, 2)),
        (MONDAY - timedelta(milliseconds=1), date(2026, 2, 23)),
        (MONDAY + timedelta(days=6, hours=23), date(2026, 3, 2)),
        # 1 a.m. on Monday in Berlin is still Sunday in UTC.
        (datetime(2026, 3, 2, 0, 30, tzinfo=timezone(timedelta(hours=1))), date(2026, 2, 23)),
    ],
)
def test_the_week_of_a_row(moment: datetime, monday: date) -> None:
    row = attempt_row(RowPosition(0, 0), attempt(created_at=moment))
    number = (monday - date(1969, 12, 29)).days // 7
    assert weeks(Table.ATTEMPTS, [row]) == [number]
    assert weeks(Table.EVENTS, [event_row(RowPosition(0, 0), dispatch(received_at=moment), b"")]) == [number]


def test_a_table_without_weeks() -> None:
    assert weeks(Table.ENDPOINT_CHANGES, [ROWS[Table.ENDPOINT_CHANGES]]) is None
    assert Table.ENDPOINT_CHANGES not in PARTITIONED_BY


def test_the_secrets_of_an_endpoint_are_left_out() -> None:
    assert "sealed" not in repr(ROWS[Table.ENDPOINT_CHANGES])


@pytest.mark.parametrize(("identifier", "stored"), [(2**63 - 1, 2**63 - 1), (2**63, None), (-(2**63) - 1, None), (None, None)])
def test_a_stock_item_id_that_fits_no_column_is_left_out(identifier: int | None, stored: int | None) -> None:
    row = attempt_row(RowPosition(0, 0), attempt(event=meta(stock_item_id=identifier)))
    assert row[list(COLUMNS[Table.ATTEMPTS]).index("stock_item_id")] == stored


def test_any_year_is_clamped_to_the_range_that_can_be_compared() -> None:
    early = EventMeta(id="e", event_name="order_completed", created_at=datetime(1, 1, 1, tzinfo=UTC))
    row = event_row(RowPosition(0, 0), dispatch(event=early), b"")
    assert row[2] == datetime(1900, 1, 1, tzinfo=UTC).timestamp() * 1000


def test_a_header_without_a_value_becomes_an_empty_one() -> None:
    headers = [("h", None)]
    row = dead_letter_row(RowPosition(0, 0), LETTER, b"k", None, headers)  # type: ignore[arg-type]
    assert row[8] == (("h", b""),)
