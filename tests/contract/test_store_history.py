"""The events that a filter preview reads, on both engines: page after page, without those that are too large."""

from __future__ import annotations

from datetime import timedelta

from pipeline.store.reports.history import MAX_BODY, EventHistory, PastEvent
from pipeline.store.rows import RowPosition, Table, event_row
from tests.contract.store_case import Store
from tests.contract.store_records import START, body, dispatch, event_rows

SINCE, UNTIL = START, START + timedelta(hours=1)
NAMES = ["order_completed"]


async def test_events_come_newest_first_in_pages(store: Store) -> None:
    events = [
        *event_rows(range(1, 8)),
        event_row(RowPosition(0, 20), dispatch(7), body(7)),  # dispatched twice
        event_row(RowPosition(0, 21), dispatch(8), b'"' + b"x" * MAX_BODY + b'"'),
        event_row(RowPosition(0, 22), dispatch(9, source_topic="test"), body(9)),
        event_row(RowPosition(0, 23), dispatch(10, received_at=UNTIL), body(10)),
    ]
    await store.writer.append(Table.EVENTS, 0, events)
    history = EventHistory(store.connections)

    found: list[PastEvent] = []
    while page := await history.page(SINCE, UNTIL, NAMES, found[-1] if found else None, 3):
        found += page
        assert len(found) < 20

    assert [one.id for one in found if one.id != "evt_7"] == ["evt_8", *(f"evt_{number}" for number in range(6, 0, -1))]
    assert {(one.id, one.body) for one in found if one.id in {"evt_6", "evt_8"}} == {("evt_6", body(6)), ("evt_8", None)}
    assert await history.count(SINCE, UNTIL) == 8
    assert await history.page(SINCE, UNTIL, ["order_cancelled"], None, 3) == []
    assert await history.count(found[2].received_at, UNTIL) == 2  # evt_7 is there twice
