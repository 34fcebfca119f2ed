"""Pages use everyday words. Technical terms appear only under "Technical details"."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from pipeline.store.reports.timeline import EventRow, TimelineRecords
from schemas.health import HealthFact, HealthRecord
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import NOW, Service
from tests.unit.web.test_republishing import letter
from tests.unit.web.test_resend_runs import run_entry

MACHINE = re.compile(
    r"\b(repeated|repeats?|exhausted|discarded|circuit|parked|half.open|Kafka has|fan-out|partition|offset|q\[)\b", re.IGNORECASE
)


async def test_pages_for_staff_use_everyday_words(service: Service, admin: Visitor) -> None:
    await service.create(description="ERP")
    facts: dict[str, Any] = {"endpoint_id": 1, "endpoint_version": 1, "at": NOW}
    service.learn(
        HealthRecord(fact=HealthFact.CIRCUIT, circuit="open", until=NOW + timedelta(minutes=1), **facts),
        HealthRecord(fact=HealthFact.FAILING, since=NOW - timedelta(hours=2), **facts),
    )
    event = EventRow("evt_1", "order_completed", NOW, NOW, "R1", ("H1",), None, (1,))
    made = [
        attempt_row(id=number, endpoint_id=1, event_id="evt_1", outcome=outcome)
        for number, outcome in enumerate(("repeated", "exhausted", "discarded", "expired"), start=11)
    ]
    service.attempts.rows = tuple(made)
    service.reports.letters = [letter(1)]
    service.kafka.write_elsewhere(run_entry("00000000000000aa"))
    for path in (
        "/webhooks",
        "/webhooks/attempts",
        "/webhooks/dead-letters",
        "/webhooks/dead-letters/1",
        "/webhooks/resends",
        "/webhooks/resends/00000000000000aa",
        "/webhooks/resends/new?q[endpoint_id_eq]=1",
    ):
        assert technical_terms((await admin.go(path)).html) == [], path
    for one in made:
        service.attempts.record = TimelineRecords((event,), (one,), is_complete=True)
        assert technical_terms((await admin.go("/webhooks/orders/R1")).html) == [], one.outcome


def technical_terms(html: str) -> list[str]:
    """The technical terms in the text of a page, outside of technical details and of text from others."""
    main = html.partition("<main")[2].partition("</main>")[0]
    folded = re.sub(r"<details[^>]*><summary>Technical details</summary>.*?</details>", "", main, flags=re.DOTALL)
    text = re.sub(r"<(pre|option)[^>]*>.*?</\1>|<[^>]*>", " ", folded, flags=re.DOTALL)
    return MACHINE.findall(text)
