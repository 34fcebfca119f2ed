"""Past events, on both engines: in order, page after page, each once even if it was dispatched twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pipeline.store.clickhouse_cluster import storage_table
from pipeline.store.reports.notification_history import NotificationHistory, PastNotification, ReplayPosition, ReplayRequest
from pipeline.store.rows import RowPosition, Table, event_row
from tests.contract.store_case import Store
from tests.contract.store_records import START, body, dispatch, meta

DAY = timedelta(days=1)
WANTED = ReplayRequest(since=START - DAY, until=START + DAY, endpoint_ids=(7,))


@pytest.fixture
async def filled(store: Store) -> Store:
    """Provide events 1 to 6: 2 was dispatched again at the end, 4 matched no endpoint, 5 is a test, 6 an operational event."""
    changes: dict[int, dict[str, Any]] = {
        4: {"endpoint_ids": ()},
        5: {"source_topic": "test"},
        6: {"event": meta(6, event_name="endpoint.disabled")},
    }
    rows = [
        event_row(RowPosition(0, number), dispatch(number, **changes.get(number, {})), body(number)) for number in range(1, 7)
    ]
    again = dispatch(2, endpoint_ids=(7, 9), received_at=START + timedelta(seconds=100))
    await store.writer.append(Table.EVENTS, 0, [*rows, event_row(RowPosition(0, 7), again, body(2))])
    return store


async def pages(store: Store, wanted: ReplayRequest, limit: int) -> list[PastNotification]:
    replays, found, after = NotificationHistory(store.connections), [], None
    while page := await replays.page(wanted, after, limit):
        found += page
        after = ReplayPosition.of(page[-1])
    return found


@pytest.mark.parametrize("limit", [1, 2, 10])
async def test_each_event_is_returned_once_in_the_order_received(filled: Store, limit: int) -> None:
    found = await pages(filled, WANTED, limit)

    assert [(one.event.id, one.endpoint_id) for one in found] == [("evt_1", 7), ("evt_2", 7), ("evt_3", 7)]
    assert await NotificationHistory(filled.connections).count(WANTED) == (3, 3)
    second = found[1]
    received_at = START + timedelta(seconds=2, milliseconds=50)
    assert second.event == meta(2, received_at=received_at)
    assert ReplayPosition.of(second) == ReplayPosition(round(received_at.timestamp() * 1000), "evt_2")
    assert second.body == body(2)


async def test_an_endpoint_gets_its_matches_or_everything(filled: Store) -> None:
    both = replace(WANTED, endpoint_ids=(8, 9))
    matched = [(one.event.id, one.endpoint_id) for one in await pages(filled, both, 2)]
    assert matched == [("evt_1", 8), ("evt_2", 8), ("evt_2", 9), ("evt_3", 8)]
    assert await NotificationHistory(filled.connections).count(both) == (3, 4)

    everything = replace(both, matched_only=False)
    all_of_them = [(one.event.id, one.endpoint_id) for one in await pages(filled, everything, 2)]
    assert all_of_them == [(f"evt_{number}", endpoint) for number in (1, 2, 3, 4) for endpoint in (8, 9)]
    assert await NotificationHistory(filled.connections).count(everything) == (4, 8)


async def test_by_time_type_and_order(filled: Store) -> None:
    second, third = (START + timedelta(seconds=number, milliseconds=50) for number in (2, 3))
    between = replace(WANTED, since=second, until=third)
    assert [one.event.id for one in await pages(filled, between, 5)] == ["evt_2"], "until is excluded"
    one_order = replace(WANTED, order_numbers=("R000000003", "R000000004"))
    assert [one.event.id for one in await pages(filled, one_order, 5)] == ["evt_3"]
    assert await pages(filled, replace(WANTED, event_names=("order_cancelled",)), 5) == []
    assert await NotificationHistory(filled.connections).count(replace(WANTED, endpoint_ids=(77,))) == (0, 0)


async def test_all_types_include_every_past_type(filled: Store) -> None:
    removed = dispatch(8, event=meta(8, event_name="refund_issued"))
    await filled.writer.append(Table.EVENTS, 0, [event_row(RowPosition(0, 8), removed, body(8))])
    assert [one.event.id for one in await pages(filled, WANTED, 5)] == ["evt_1", "evt_2", "evt_3", "evt_8"]
    assert await NotificationHistory(filled.connections).count(WANTED) == (4, 4)


async def test_an_erased_event_has_no_body(filled: Store) -> None:
    events = storage_table("events", filled.settings.clickhouse_cluster)
    await filled.command(f"ALTER TABLE {events} UPDATE request_body = '' WHERE event_id = 'evt_1' SETTINGS mutations_sync = 2")
    assert [one.body is None for one in await pages(filled, WANTED, 5)] == [True, False, False]
