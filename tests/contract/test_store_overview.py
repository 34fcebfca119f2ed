"""The figures of the dashboard, on both engines."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from msgspec.structs import replace

from pipeline.store.reports.endpoint_days import EndpointDay, first_hour
from pipeline.store.reports.pipeline_overview import MINUTES
from pipeline.store.reports.recent import Reports
from pipeline.store.rows import RowPosition, attempt_row, event_row
from pipeline.store.writer import Table
from schemas.attempt import AttemptState, Outcome
from schemas.delivery import Trigger
from tests.contract.store_case import Store
from tests.contract.store_records import START, attempt, body, dispatch

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
FAILED: dict[str, Any] = {
    "state": AttemptState.FAILED,
    "outcome": Outcome.RETRIED,
    "http_status_code": 503,
    "error": "The endpoint returned 503.",
}
DISCARDED: dict[str, Any] = {"state": AttemptState.FAILED, "outcome": Outcome.DISCARDED, "http_status_code": None}


async def write(store: Store, rows: list[Any]) -> None:
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, offset), row) for offset, row in enumerate(rows)])


async def test_the_last_day_of_every_endpoint(store: Store) -> None:
    now = START + HOUR / 2
    first = first_hour(now)
    await write(
        store,
        [
            attempt(0, created_at=first - SECOND),  # too old
            attempt(1, created_at=first),
            attempt(2, created_at=now - 2 * SECOND),
            attempt(3, created_at=now - SECOND, **FAILED),
            attempt(4, created_at=now - SECOND / 2, trigger=Trigger.TEST, **FAILED),
            attempt(5, created_at=now - SECOND / 2, **DISCARDED),
            attempt(6, created_at=now - HOUR, endpoint_id=8),
            attempt(7, created_at=first - SECOND, endpoint_id=9),
        ],
    )

    days = await Reports(store.connections).endpoint_days(now)

    assert set(days) == {7, 8}
    seven, eight = days[7], days[8]
    assert (seven.hours[0], seven.hours[-1]) == ((1, 0), (1, 2)), "discarded deliveries are not attempts"
    assert seven.success_rate == 2 / 4
    assert seven.last_failure is not None
    assert (seven.last_failure.created_at, seven.last_failure.http_status_code) == (now - SECOND, 503)
    assert (eight.succeeded, eight.failed, eight.success_rate, eight.last_failure) == (1, 0, 1.0, None)


def test_a_day_without_attempts_has_no_rate() -> None:
    assert EndpointDay().success_rate is None


async def test_the_last_hour_of_the_pipeline(store: Store) -> None:
    await store.writer.append(Table.EVENTS, 0, [event_row(RowPosition(0, 0), dispatch(1), body(1))])
    await store.writer.append(Table.EVENTS, 0, [event_row(RowPosition(0, 1), replace(dispatch(2), source_topic="test"), body(2))])
    now = START + 30 * SECOND
    await write(
        store,
        [
            attempt(0, created_at=now - 2 * HOUR, **FAILED),  # too old for the hour; it waits
            attempt(1, created_at=now - 10 * MINUTE, duration_ms=10.0),
            attempt(2, created_at=now - 10 * MINUTE, duration_ms=20.0, **FAILED),
            attempt(2, created_at=now - 9 * MINUTE, duration_ms=30.0, attempt=2),
            attempt(3, created_at=now - 5 * MINUTE, **DISCARDED),
            attempt(4, created_at=now - 5 * MINUTE, trigger=Trigger.TEST, **FAILED),
            attempt(5, created_at=now - 5 * MINUTE, **FAILED),
        ],
    )

    found = await Reports(store.connections).overview(now)

    assert len(found.minutes) == MINUTES
    assert found.minutes[-1].begins_at == now.replace(second=0, microsecond=0)
    assert (found.events, found.succeeded, found.failed) == (1, 2, 2)
    assert found.success_rate == 0.5
    assert found.answer_ms is not None
    assert found.answer_ms[0] >= 10.0
    assert found.waiting == 2
    assert found.oldest_waiting is not None
    assert found.oldest_waiting.event_id == "evt_0"


async def test_an_overdue_delivery_is_still_found(store: Store) -> None:
    now = START + 30 * SECOND
    await write(store, [attempt(0, created_at=now - 30 * HOUR, **FAILED)])
    assert (await Reports(store.connections).overview(now)).waiting == 0
    found = await Reports(store.connections, longest_delay=24 * HOUR).overview(now)
    assert found.waiting == 1


async def test_a_quiet_hour(store: Store) -> None:
    found = await Reports(store.connections).overview(START)
    assert (found.events, found.success_rate, found.delivery_ms, found.answer_ms) == (0, None, None, None)
    assert (found.waiting, found.oldest_waiting) == (0, None)
