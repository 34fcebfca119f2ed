"""The reads of resends, exports and timelines, on both engines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.core.search import AttemptQuery, parse_query
from pipeline.store.reports.notification_history import FailedNotification, NotificationHistory, PastNotification
from pipeline.store.reports.recent import ReplayRow, Reports
from pipeline.store.reports.timeline import TimelineSubject
from pipeline.store.rows import Row, RowPosition, attempt_id, attempt_row, audit_row, event_row
from pipeline.store.search.bodies import LARGE_BODY, Bodies
from pipeline.store.search.queries import AttemptRow
from pipeline.store.writer import Table
from schemas.api_key import Access
from schemas.attempt import Attempt, AttemptState, Outcome
from schemas.audit import AuditAction, AuditEntry, ResendProgress, RunState
from schemas.codec import from_json, to_json
from schemas.delivery import Trigger
from schemas.event import EventMeta
from tests.contract.store_case import Store
from tests.contract.store_records import START, attempt, body, dispatch, meta

FAILED: dict[str, Any] = {"state": AttemptState.FAILED, "outcome": Outcome.RETRIED, "http_status_code": 503, "error": "no"}


def query(**filters: str) -> AttemptQuery:
    return parse_query([(f"q[{name}]", value) for name, value in filters.items()])


async def store_attempts(store: Store, *attempts: Attempt) -> None:
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, at), one) for at, one in enumerate(attempts)])


async def store_events(store: Store, rows: list[Row]) -> None:
    await store.writer.append(Table.EVENTS, 0, rows)


def request_body(found: Mapping[int, Bodies | None], row: AttemptRow) -> str | None:
    bodies = found[row.id]
    assert bodies is not None
    return bodies.request_body


def sent_bodies(found: Mapping[int, PastNotification | None]) -> dict[int, bytes | None]:
    return {one: notification.body for one, notification in found.items() if notification is not None}


async def test_several_failures_of_an_event_at_an_endpoint_are_one_notification(store: Store) -> None:
    await store_attempts(
        store,
        attempt(1, **FAILED),
        attempt(2, event=meta(1), attempt=2, **FAILED),
        attempt(3, event=meta(1), endpoint_id=8, **FAILED),
        attempt(4, event=meta(2), **FAILED),
        attempt(5, event=meta(3)),
        attempt(6, event=meta(4), **FAILED),
    )
    found = await NotificationHistory(store.connections).failed(
        query(created_at_lt=(START + timedelta(seconds=6)).isoformat()), 10
    )

    assert found.notifications == (
        FailedNotification("evt_1", 7, attempt_id(0, 1), START + timedelta(seconds=2, milliseconds=123)),
        FailedNotification("evt_1", 8, attempt_id(0, 2), START + timedelta(seconds=3, milliseconds=123)),
        FailedNotification("evt_2", 7, attempt_id(0, 3), START + timedelta(seconds=4, milliseconds=123)),
    )
    assert (found.attempts, found.is_all, found.by_endpoint) == (4, True, {7: 2, 8: 1})
    cut = await NotificationHistory(store.connections).failed(query(endpoint_id_eq="7"), 2)
    assert (len(cut.notifications), cut.is_all) == (2, False)
    either = parse_query([("q[m]", "or"), ("q[endpoint_id_eq]", "8"), ("q[event_id_eq]", "evt_3")])
    assert [one.event_id for one in (await NotificationHistory(store.connections).failed(either, 10)).notifications] == ["evt_1"]
    assert (await NotificationHistory(store.connections).failed(query(created_at_gt="2030-01-01"), 10)).notifications == ()


async def test_notifications_dropped_in_the_end_are_counted(store: Store) -> None:
    dropped = FAILED | {"outcome": Outcome.DISCARDED}
    await store_attempts(
        store,
        attempt(1, **FAILED),
        attempt(2, event=meta(1), attempt=2, **dropped),
        attempt(3, **FAILED | {"outcome": Outcome.EXPIRED}),
        attempt(4, **dropped),
        attempt(5, event=meta(4), trigger=Trigger.RESEND, **FAILED),  # attempted later
    )
    found = await NotificationHistory(store.connections).failed(parse_query([]), 10)
    assert (len(found.notifications), found.not_made) == (3, 2)


async def test_acknowledged_notifications_and_tests_are_left_out(store: Store) -> None:
    await store_attempts(
        store,
        attempt(1, **FAILED),
        attempt(2, event=meta(1), attempt=2),  # delivered later
        attempt(3, event=meta(1), endpoint_id=8, **FAILED),  # not delivered to another endpoint
        attempt(4, event=meta(2)),
        attempt(5, event=meta(2), trigger=Trigger.RESEND, **FAILED),  # delivered earlier
        attempt(6, event=meta(3), trigger=Trigger.TEST, **FAILED),
    )
    found = await NotificationHistory(store.connections).failed(parse_query([]), 10)
    assert [(one.event_id, one.endpoint_id) for one in found.notifications] == [("evt_1", 8)]
    assert (found.attempts, found.is_all) == (1, True)


async def test_nothing_is_stored(store: Store) -> None:
    assert (await NotificationHistory(store.connections).failed(query(), 10)).is_all
    assert await NotificationHistory(store.connections).of_attempts([]) == {}
    assert await store.search.bodies_of([]) == {}
    record = await store.search.record_of(TimelineSubject.ORDER, "R1")
    assert (record.events, record.attempts, record.is_complete) == ((), (), True)


async def test_what_a_resend_needs(store: Store) -> None:
    received = START + timedelta(seconds=1, milliseconds=50)
    known = meta(1, received_at=received)
    await store_events(store, [event_row(RowPosition(0, n), dispatch(n), body(n, "Grüße")) for n in (1, 2, 3)])
    await store_attempts(
        store,
        attempt(1, event=known, **FAILED),
        attempt(2, **FAILED),  # its record has no time of receipt
        attempt(3, **FAILED),
        attempt(5, event=meta(3), endpoint_id=8, **FAILED),
        attempt(6, event=meta(9), **FAILED),
    )
    found = await NotificationHistory(store.connections).failed(query(), 10)
    delivered_meanwhile = attempt(4, event=meta(3), trigger=Trigger.RESEND)
    await store.writer.append(Table.ATTEMPTS, 1, [attempt_row(RowPosition(1, 0), delivered_meanwhile)])
    notifications, ids = NotificationHistory(store.connections), [one.attempt_id for one in found.notifications]
    again = await notifications.of_attempts(ids, [one.failed_at for one in found.notifications])
    assert await notifications.of_attempts(ids) == again

    by_event = {(one.event.id, one.endpoint_id): one for one in again.values() if one is not None}
    assert [(key, one.is_delivered) for key, one in sorted(by_event.items())] == [
        (("evt_1", 7), False),
        (("evt_2", 7), False),
        (("evt_3", 7), True),
        (("evt_3", 8), False),
        (("evt_9", 7), False),
    ]
    assert (by_event["evt_1", 7].body, by_event["evt_1", 7].event.received_at) == (body(1, "Grüße"), received)
    assert (by_event["evt_2", 7].body, by_event["evt_2", 7].event.received_at) == (body(2, "Grüße"), None)
    assert by_event["evt_9", 7].body is None
    assert await notifications.of_attempts([12345], [START]) == {}


async def test_bodies_of_a_page(store: Store) -> None:
    await store_events(store, [event_row(RowPosition(0, 1), dispatch(1), body(1, "Grüße"))])
    await store_attempts(store, attempt(1), attempt(2, response_body="/+8=", response_body_encoding="base64"))
    page = await store.search.attempts(query())
    found = await store.search.bodies_of(page.items)

    second, first = page.items
    assert found == {
        first.id: Bodies(body(1, "Grüße").decode(), "Grüße ✓", "text"),
        second.id: Bodies(None, "/+8=", "base64"),
    }


async def test_large_bodies_are_left_out_if_many_are_read(store: Store) -> None:
    """The first is found by its time, the second only by its id; the third is small."""
    large, received = body(1, "x" * LARGE_BODY), START + timedelta(seconds=1, milliseconds=50)
    bodies = {1: large, 2: large, 3: body(3)}
    await store_events(store, [event_row(RowPosition(0, number), dispatch(number), one) for number, one in bodies.items()])
    await store_attempts(
        store, attempt(1, event=meta(1, received_at=received), **FAILED), attempt(2, **FAILED), attempt(3, **FAILED)
    )
    third, second, first = rows = (await store.search.attempts(query())).items

    assert await store.search.request_bodies(rows) == {"evt_3": body(3).decode()}
    found = await store.search.bodies_of([*rows, dataclasses.replace(third, id=1)], LARGE_BODY)
    assert {one: bodies is None for one, bodies in found.items()} == {first.id: True, second.id: True, third.id: False}
    assert request_body(await store.search.bodies_of([first]), first) == large.decode()
    notifications, ids = NotificationHistory(store.connections), [one.id for one in rows]
    again = await notifications.of_attempts([*ids, 1], most_bytes=LARGE_BODY)
    assert {one: found is None for one, found in again.items()} == {first.id: True, second.id: True, third.id: False}
    assert sent_bodies(await notifications.of_attempts([second.id])) == {second.id: large}


async def test_two_events_with_one_id_keep_their_bodies(store: Store) -> None:
    """Ids are not deduplicated: a producer may publish a corrected body with the same id."""
    times = [START + timedelta(seconds=number, milliseconds=50) for number in (1, 2)]
    events = [
        event_row(RowPosition(0, n), dispatch(1, received_at=time), body(1, text))
        for n, (time, text) in enumerate(zip(times, ("first", "second"), strict=True))
    ]
    await store_events(store, events)
    failed = [attempt(n, event=meta(1, received_at=time), endpoint_id=6 + n, **FAILED) for n, time in enumerate(times, 1)]
    await store_attempts(store, *failed)
    second, first = (await store.search.attempts(query())).items
    found = await store.search.bodies_of([second, first])
    assert [request_body(found, one) for one in (first, second)] == [body(1, "first").decode(), body(1, "second").decode()]
    again = await NotificationHistory(store.connections).of_attempts([first.id, second.id])
    assert sent_bodies(again) == {first.id: body(1, "first"), second.id: body(1, "second")}


def of_order(number: int, **changes: Any) -> EventMeta:
    return meta(number, **({"order_number": "R1", "shipment_numbers": ("H1",), "subscription_id": "S1"} | changes))


@pytest.mark.parametrize("number", ["R\u202e1", "\x00", "a\tb\n", "\x1b[31m", "'\\", " "])
async def test_timeline_of_a_number_with_any_characters(store: Store, number: str) -> None:
    event = of_order(1, order_number=number, shipment_numbers=(number,), subscription_id=number)
    await store_events(store, [event_row(RowPosition(0, 1), dispatch(1, event=event), body(1))])
    await store_attempts(store, attempt(1, event=event))
    for subject in (TimelineSubject.ORDER, TimelineSubject.SHIPMENT, TimelineSubject.SUBSCRIPTION):
        record = await store.search.record_of(subject, number)
        assert ([one.event_id for one in record.events], [one.event_id for one in record.attempts]) == (["evt_1"], ["evt_1"])


async def test_timelines_of_an_order_a_shipment_and_a_subscription(store: Store) -> None:
    mine, other = of_order(1), of_order(2, order_number="R2", shipment_numbers=("H2", "H1"), subscription_id=None)
    rows = [
        event_row(RowPosition(0, 1), dispatch(1, event=mine), body(1)),
        event_row(RowPosition(0, 2), dispatch(2, event=mine), body(1)),  # a fan-out crashed, and it was dispatched again
        event_row(RowPosition(0, 3), dispatch(3, event=other, endpoint_ids=()), body(2)),
        event_row(RowPosition(0, 4), dispatch(4, event=of_order(4), source_topic="test"), body(4)),
    ]
    await store_events(store, rows)
    await store_attempts(
        store,
        attempt(1, event=mine, **FAILED),
        attempt(2, event=mine, attempt=2),
        attempt(3, event=of_order(5)),  # its event is not recorded yet
        attempt(4, event=of_order(4), trigger=Trigger.TEST),
        attempt(5),
    )
    order = await store.search.record_of(TimelineSubject.ORDER, "R1")
    assert [(one.event_id, one.endpoint_ids) for one in order.events] == [("evt_1", (7, 8))]
    assert [one.event_id for one in order.attempts] == ["evt_5", "evt_1", "evt_1"]
    listed = await store.search.attempts(parse_query([("q[order_number_eq]", "R1")]))
    assert list(order.attempts) == [one for one in listed.items if one.trigger != "test"], "in all columns"
    assert order.is_complete
    shipment = await store.search.record_of(TimelineSubject.SHIPMENT, "H1")
    assert [(one.event_id, one.endpoint_ids) for one in shipment.events] == [("evt_2", ()), ("evt_1", (7, 8))]
    subscription = await store.search.record_of(TimelineSubject.SUBSCRIPTION, "S1")
    assert [one.event_id for one in subscription.events] == ["evt_1"]
    assert subscription.events[0].order_number == "R1"
    item = await store.search.record_of(TimelineSubject.STOCK_ITEM, "1")
    assert [(one.event_id, one.stock_item_id, one.skus) for one in item.events] == [("evt_1", 1, ("SKU-1", "MUG"))]
    assert [one.event_id for one in item.attempts] == ["evt_1", "evt_1"]
    injected = await store.search.record_of(TimelineSubject.ORDER, "R1' OR 1 --")
    assert (injected.events, injected.attempts) == ((), ())


async def test_which_of_several_numbers_have_timelines(store: Store) -> None:
    await store_events(
        store,
        [
            event_row(RowPosition(0, 1), dispatch(1, event=of_order(1), endpoint_ids=()), body(1)),
            event_row(RowPosition(0, 2), dispatch(2, event=of_order(2, order_number="R2"), source_topic="test"), body(2)),
        ],
    )
    await store_attempts(store, attempt(1, event=of_order(1)), attempt(2, event=of_order(2), trigger=Trigger.TEST))
    [row] = await store.rows("SELECT id FROM attempts WHERE event_id = 'evt_2'")
    on_record = {
        ("order_number", "R1"),
        ("shipment_number", "H1"),
        ("subscription_id", "S1"),
        ("event_id", "evt_1"),
        ("sku", "SKU-1"),
        ("stock_item_id", "1"),
        ("id", str(row[0])),
    }
    # R2 belongs to a test.
    nothing = {("order_number", "R2"), ("order_number", "R1' OR 1 --"), ("sku", "SKU-2"), ("sku", "SKU"), ("stock_item_id", "2")}
    assert await store.search.recorded_values(on_record | nothing) == on_record
    assert await store.search.recorded_values([]) == frozenset()


async def test_a_timeline_is_bounded(store: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr("pipeline.store.reports.timeline.MAX_EVENTS", 2)
    monkeypatch.setattr("pipeline.store.reports.timeline.MAX_ATTEMPTS", 2)
    events = [event_row(RowPosition(0, n), dispatch(n, event=of_order(n)), body(n)) for n in range(1, 5)]
    await store_events(store, events)
    await store_attempts(store, *(attempt(n, event=of_order(n)) for n in range(1, 5)))
    found = await store.search.record_of(TimelineSubject.ORDER, "R1")
    assert [one.event_id for one in found.events] == ["evt_4", "evt_3"]
    assert [one.event_id for one in found.attempts] == ["evt_4", "evt_3"]
    assert not found.is_complete


async def test_an_event_with_incomplete_attempts_is_left_out(store: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr("pipeline.store.reports.timeline.MAX_ATTEMPTS", 2)
    events = [event_row(RowPosition(0, n), dispatch(n, event=of_order(n)), body(n)) for n in range(1, 4)]
    await store_events(store, events)
    await store_attempts(store, *(attempt(n, event=of_order(n)) for n in range(1, 4)))
    found = await store.search.record_of(TimelineSubject.ORDER, "R1")
    # The first one was delivered, and the second may have been sent to others earlier.
    assert [one.event_id for one in found.events] == [one.event_id for one in found.attempts] == ["evt_3"]
    assert not found.is_complete
    monkeypatch.setattr("pipeline.store.reports.timeline.MAX_ATTEMPTS", 3)
    found = await store.search.record_of(TimelineSubject.ORDER, "R1")
    assert (len(found.events), len(found.attempts), found.is_complete) == (3, 3, True)


async def test_the_newest_events_of_a_stock_item_are_found_window_by_window(store: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        "pipeline.store.reports.timeline.width_of_rows", lambda whole, rows: 6_000
    )  # a minute, 16 minutes, 256 minutes
    times = {n: START + timedelta(hours=n) for n in range(1, 9)}
    rows = [
        event_row(RowPosition(0, n), dispatch(n, event=meta(n, stock_item_id=1 + n % 2), received_at=at), body(n))
        for n, at in times.items()
    ]
    await store_events(store, rows)
    made = [attempt(n, event=meta(n, stock_item_id=1 + n % 2), created_at=at) for n, at in times.items()]
    await store_attempts(store, *made)
    every = await store.search.record_of(TimelineSubject.STOCK_ITEM, "1")
    assert (
        [one.event_id for one in every.events] == [one.event_id for one in every.attempts] == ["evt_8", "evt_6", "evt_4", "evt_2"]
    )
    assert every.is_complete
    monkeypatch.setattr("pipeline.store.reports.timeline.MAX_STOCK_EVENTS", 2)
    newest = await store.search.record_of(TimelineSubject.STOCK_ITEM, "1")
    assert [one.event_id for one in newest.events] == [one.event_id for one in newest.attempts] == ["evt_8", "evt_6"]
    assert not newest.is_complete
    assert (await store.search.record_of(TimelineSubject.STOCK_ITEM, "3")).events == ()


async def test_a_stock_item_whose_events_have_no_attempts_has_a_timeline(store: Store) -> None:
    await store_events(store, [event_row(RowPosition(0, 1), dispatch(1, event=of_order(1), endpoint_ids=()), body(1))])
    assert [one.event_id for one in (await store.search.record_of(TimelineSubject.STOCK_ITEM, "1")).events] == ["evt_1"]


async def test_runs_as_recorded_in_the_audit(store: Store) -> None:
    def told(at: int, run: str, state: RunState, resent: int, who: str = "api-key:1") -> AuditEntry:
        return AuditEntry(
            at=START + timedelta(seconds=at),
            actor=who,
            role=Access.OPERATOR,
            action=AuditAction.RESEND_RUN,
            subject=f"resend run {run}",
            detail=to_json(ResendProgress(state=state, total=9, resent=resent)).decode(),
        )

    entries = [
        told(0, "a", RunState.RUNNING, 0),
        told(1, "a", RunState.RUNNING, 4),
        told(1, "b", RunState.RUNNING, 0, "api-key:2"),
        # In the same millisecond, but stored before an earlier entry.
        told(2, "a", RunState.DONE, 9),
        told(2, "a", RunState.RUNNING, 9),
        told(3, "b", RunState.CANCELLING, 2, "api-key:3"),
        told(4, "b", RunState.RUNNING, 3, "api-key:2"),
        told(5, "c", RunState.RUNNING, 1, "api-key:2"),
        told(9, "c", RunState.CANCELLING, 1, "api-key:3"),  # which does not show progress
        replace(told(0, "x", RunState.DONE, 1), action=AuditAction.RESEND),
    ]
    await store.writer.append(Table.AUDIT_LOG, 0, [audit_row(RowPosition(0, at), one) for at, one in enumerate(entries)])
    reports = Reports(store.connections)
    cancelled, newest, oldest = await reports.resend_runs()

    assert (newest.id, newest.actor, newest.is_cancelled) == ("b", "api-key:2", True)
    assert from_json(newest.detail.encode(), ResendProgress).resent == 3
    assert (cancelled.id, cancelled.is_cancelled, cancelled.heard_at) == ("c", True, START + timedelta(seconds=5))
    assert (oldest.id, oldest.started_at, oldest.heard_at) == ("a", START, START + timedelta(seconds=2))
    assert from_json(oldest.detail.encode(), ResendProgress).state is RunState.DONE
    assert await reports.resend_runs("a") == (oldest,)
    assert await reports.resend_runs("nobody's") == ()


async def test_replays_are_listed_from_their_steps_in_the_audit_log(store: Store) -> None:
    def step(at: int, run: str, detail: str, who: str = "api-key:1", action: AuditAction = AuditAction.REPLAY) -> AuditEntry:
        moment = START + timedelta(seconds=at)
        return AuditEntry(at=moment, actor=who, role=Access.ADMIN, action=action, subject=f"replay {run}", detail=detail)

    entries = [
        step(0, "a", "1,000 events to endpoint 1, from the beginning"),
        step(1, "b", "20 events to endpoints 1, 2, from the beginning", "api-key:2"),
        step(2, "a", "1 event to endpoint 1, after 7.evt_9", "api-key:3"),  # resumed by somebody else
        step(3, "c", "20 events", action=AuditAction.RESEND),
    ]
    await store.writer.append(Table.AUDIT_LOG, 0, [audit_row(RowPosition(0, at), one) for at, one in enumerate(entries)])

    newest, oldest = await Reports(store.connections).replays()

    assert newest == ReplayRow("b", "api-key:2", entries[1].at, entries[1].at, 20, entries[1].detail)
    assert oldest == ReplayRow("a", "api-key:1", START, entries[2].at, 1001, entries[2].detail)
    assert await Reports(store.connections).replays(1) == (newest,)
