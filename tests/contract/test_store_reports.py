"""Reports on both engines: unchanged bodies, an endpoint's last hours, dead letters."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pipeline.store.reports.notification_history import NotificationHistory
from pipeline.store.reports.recent import IntervalCounts, Reports
from pipeline.store.rows import MAX_PARTITIONS, RowPosition, attempt_id, attempt_row, audit_row, dead_letter_row, event_row
from pipeline.store.writer import Table
from schemas.api_key import Access
from schemas.attempt import AttemptState, Outcome
from schemas.audit import AuditAction, AuditEntry
from schemas.delivery import DeadLetter, DeadLetterReason, Trigger
from tests.contract.store_case import Store
from tests.contract.store_records import START, attempt, body, dispatch

HOUR = timedelta(hours=1)


async def test_a_body_is_returned_byte_for_byte(store: Store) -> None:
    sent = body(1, "Gr\u00fc\u00dfe \u2713 '\\\"\t")
    await store.writer.append(Table.EVENTS, 0, [event_row(RowPosition(0, 0), dispatch(1), sent)])
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, at), attempt(at)) for at in (1, 2)])
    found = await NotificationHistory(store.connections).of_attempts([attempt_id(0, 1), attempt_id(0, 2)])

    assert [one.body for one in found.values() if one is not None] == [sent, None]


async def test_the_last_hours_of_an_endpoint(store: Store) -> None:
    failed: dict[str, Any] = {"state": AttemptState.FAILED, "outcome": Outcome.RETRIED, "http_status_code": 503, "error": "no"}
    discarded: dict[str, Any] = {
        "state": AttemptState.FAILED,
        "outcome": Outcome.DISCARDED,
        "http_status_code": None,
        "duration_ms": 0.0,
    }
    rows = [
        attempt(0, created_at=START - 25 * HOUR),  # too old
        attempt(1, created_at=START - 24 * HOUR, duration_ms=10.0),
        attempt(2, created_at=START - 2 * HOUR, duration_ms=20.0, **failed),
        attempt(3, created_at=START - HOUR, duration_ms=30.0, **failed),
        attempt(4, created_at=START - HOUR + timedelta(minutes=1), **discarded),
        attempt(5, created_at=START - timedelta(milliseconds=1), duration_ms=40.0),
        attempt(6, created_at=START - timedelta(minutes=2), trigger=Trigger.TEST, **failed),
        attempt(7, created_at=START - timedelta(minutes=2), endpoint_id=8, **failed),
        attempt(8, created_at=START),  # too new
    ]
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, offset), row) for offset, row in enumerate(rows)])

    stats = await Reports(store.connections).endpoint_stats(7, START, buckets=24, width=HOUR)

    assert len(stats.buckets) == 24
    assert stats.buckets[0] == IntervalCounts(START - 24 * HOUR, 1, 0)
    assert [(one.succeeded, one.failed) for one in stats.buckets[1:]] == [(0, 0)] * 21 + [(0, 1), (1, 1)]
    assert stats.discarded == 1
    assert stats.duration_ms is not None
    half, most, nearly_all = stats.duration_ms
    assert (half, 20 < most <= nearly_all <= 40) == (25.0, True)
    assert stats.last_failure is not None
    assert (stats.last_failure.attempt_id, stats.last_failure.http_status_code) == (attempt_id(0, 3), 503)
    assert (stats.last_failure.created_at, stats.last_failure.error) == (START - HOUR, "no")


async def test_an_endpoint_without_attempts(store: Store) -> None:
    stats = await Reports(store.connections).endpoint_stats(7, START, buckets=24, width=HOUR)

    assert (stats.duration_ms, stats.last_failure, stats.discarded) == (None, None, 0)
    assert sum(one.succeeded + one.failed for one in stats.buckets) == 0


async def test_dead_letters_are_listed_and_found_with_their_bytes(store: Store) -> None:
    for offset, reason in enumerate((DeadLetterReason.NOT_JSON, DeadLetterReason.NULL_VALUE, DeadLetterReason.NOT_JSON)):
        letter = DeadLetter(
            reason=reason,
            detail=f"no {offset}",
            topic="oms.orders",
            partition=1,
            offset=offset,
            failed_at=START + timedelta(seconds=offset),
            null_value=reason is DeadLetterReason.NULL_VALUE,
        )
        row = dead_letter_row(RowPosition(2, offset), letter, b"R\xff", b"\x00\xff{", [("trace", b"\xfe")])
        await store.writer.append(Table.DEAD_LETTERS, 2, [row])
    reports = Reports(store.connections)

    page = await reports.dead_letters(1, 2)
    assert ([one.detail for one in page.items], page.total_count, page.pages) == (["no 2", "no 1"], 3, 2)
    assert [one.id for one in (await reports.dead_letters(2, 2)).items] == [2]
    assert (await reports.dead_letters(1, 9, reason="not_json")).total_count == 2
    assert (await reports.dead_letters(1, 9, reason="not_json", topic="'; --")).total_count == 0

    detail = await reports.dead_letter(2)
    assert detail is not None
    assert (detail.key, detail.value, detail.headers) == (b"R\xff", b"\x00\xff{", (("trace", b"\xfe"),))
    assert (detail.summary.size, detail.summary.topic, detail.summary.failed_at) == (3, "oms.orders", START)
    null = await reports.dead_letter(MAX_PARTITIONS + 2)
    assert null is not None
    assert (null.value, null.summary.size) == (None, 0)
    assert await reports.dead_letter(9 * MAX_PARTITIONS + 2) is None


async def test_the_audit_log_records_who_did_what(store: Store) -> None:
    entry = AuditEntry(
        at=START,
        actor="api-key:0a1b2c3d",
        role=Access.OPERATOR,
        action=AuditAction.VIEW_BODY,
        subject="attempt 5",
        detail="event evt_1",
        remote_address="192.0.2.7",
        actor_name="Ada",
    )
    await store.writer.append(Table.AUDIT_LOG, 0, [audit_row(RowPosition(0, 3), entry)])
    assert await store.rows("SELECT * FROM audit_log") == [
        (START, "api-key:0a1b2c3d", "Ada", "operator", "view_body", "attempt 5", "event evt_1", "192.0.2.7", 0, 3)
    ]
