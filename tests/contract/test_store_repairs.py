"""Who republished a dead letter, and who resent an event: read from the audit log in the real ClickHouse."""

from __future__ import annotations

from datetime import datetime, timedelta

from pipeline.store.reports.recent import Reports
from pipeline.store.reports.repairs import LETTER, PUBLISHED, RepairedBy
from pipeline.store.rows import RowPosition, Table, audit_row, dead_letter_row
from schemas.api_key import Access
from schemas.audit import AuditAction, AuditEntry
from schemas.delivery import DeadLetter, DeadLetterReason
from tests.contract.store_case import Store
from tests.contract.store_records import START

MINUTE = timedelta(minutes=1)


def entry(at: datetime, action: AuditAction, subject: str, detail: str, name: str = "Ada") -> AuditEntry:
    return AuditEntry(
        at=at, actor="api-key:0a1b2c3d", role=Access.OPERATOR, action=action, subject=subject, detail=detail, actor_name=name
    )


async def told(store: Store, *entries: AuditEntry) -> None:
    rows = [audit_row(RowPosition(0, number), one) for number, one in enumerate(entries)]
    await store.writer.append(Table.AUDIT_LOG, 0, rows)


async def test_a_repaired_dead_letter_leaves_the_list_and_names_who_repaired_it(store: Store) -> None:
    for offset in range(3):
        letter = DeadLetter(
            reason=DeadLetterReason.NOT_JSON, detail="no", topic="oms.orders", partition=1, offset=offset, failed_at=START
        )
        await store.writer.append(Table.DEAD_LETTERS, 2, [dead_letter_row(RowPosition(2, offset), letter, b"R1", b"{", [])])
    reports = Reports(store.connections)
    first, second, third = sorted(one.id for one in (await reports.dead_letters(1, 9)).items)
    await told(
        store,
        # An intended republish is not a repair; one that Kafka has acknowledged is. The last one counts.
        entry(START, AuditAction.REPUBLISH, f"{LETTER}{second}", "to oms.orders, event evt_2, repaired: value"),
        entry(START, AuditAction.REPUBLISH, f"{LETTER}{first}", f"{PUBLISHED}to oms.orders, partition 0, offset 7, event evt_1"),
        entry(
            START + MINUTE, AuditAction.REPUBLISH, f"{LETTER}{first}", f"{PUBLISHED}to oms.orders, partition 0, offset 8", "Grace"
        ),
        entry(START, AuditAction.VIEW_DEAD_LETTER, f"{LETTER}{third}", f"{PUBLISHED}no"),
    )

    repaired = await reports.dead_letters(1, 9, repaired=True)
    assert [(one.id, one.repaired) for one in repaired.items] == [
        (first, RepairedBy(START + MINUTE, "api-key:0a1b2c3d", "Grace"))
    ]
    left = await reports.dead_letters(1, 9, repaired=False, reason="not_json")
    assert ({one.id for one in left.items}, left.total_count) == ({second, third}, 2)
    assert (await reports.dead_letters(1, 9)).total_count == 3
    one = await reports.dead_letter(first)
    assert one is not None
    assert one.summary.repaired is not None
    assert one.summary.repaired.name == "Grace"


async def test_a_dismissed_dead_letter_leaves_the_list_too(store: Store) -> None:
    for offset in range(2):
        letter = DeadLetter(
            reason=DeadLetterReason.NULL_VALUE,
            detail="no",
            topic="webhooks.delay.5s",
            partition=1,
            offset=offset,
            failed_at=START,
        )
        await store.writer.append(Table.DEAD_LETTERS, 2, [dead_letter_row(RowPosition(2, offset), letter, b"R1", b"{", [])])
    reports = Reports(store.connections)
    first, second = sorted(one.id for one in (await reports.dead_letters(1, 9)).items)
    await told(store, entry(START, AuditAction.DISMISS_DEAD_LETTER, f"{LETTER}{first}", "from webhooks.delay.5s"))

    [dismissed] = (await reports.dead_letters(1, 9, repaired=True)).items
    assert (dismissed.id, dismissed.repaired) == (first, RepairedBy(START, "api-key:0a1b2c3d", "Ada", is_dismissed=True))
    [left] = (await reports.dead_letters(1, 9, repaired=False)).items
    assert (left.id, left.repaired, await reports.count_unrepaired_dead_letters()) == (second, None, 1)


async def test_who_last_resent_an_event(store: Store) -> None:
    hostile = "evt, endpoint 8'); --"
    await told(
        store,
        entry(START, AuditAction.RESEND, "attempt 1", "event evt_1, endpoint 7"),
        entry(START + MINUTE, AuditAction.RESEND, "attempt 2", "event evt_1, endpoint 7, run 00000000000000aa", "Grace"),
        entry(START, AuditAction.RESEND, "attempt 3", f"event {hostile}, endpoint 9"),
        entry(START - MINUTE, AuditAction.RESEND, "attempt 4", "event evt_2, endpoint 7"),
        entry(START, AuditAction.TEST, "endpoint 7", "event evt_3, endpoint 7"),
    )
    reports = Reports(store.connections)
    found = await reports.resends(["evt_1", "evt_2", "evt_3", hostile], START)
    assert {place: done.name for place, done in found.items()} == {("evt_1", 7): "Grace", (hostile, 9): "Ada"}
    assert await reports.resends([], START) == {}
