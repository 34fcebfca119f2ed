"""Events and attempts as a story: delivered or not, and why."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pipeline.store.attempts import AttemptRow
from pipeline.store.story import EventRow, Record
from pipeline.web.stories import Standing, tell
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.service import NOW

DELIVERED: dict[str, Any] = {"state": "succeeded", "outcome": "delivered", "http_status_code": 204, "error": None}
EXHAUSTED: dict[str, Any] = {"outcome": "exhausted", "error": "No."}
REPEATED: dict[str, Any] = {"outcome": "repeated", "error": "No."}
DISCARDED: dict[str, Any] = {"outcome": "discarded", "error": "The endpoint was paused."}


def event(number: int = 1, *endpoints: int) -> EventRow:
    at = NOW + timedelta(minutes=number)
    return EventRow(f"evt_{number}", "order_completed", at, at, "R1", ("H1",), "S1", endpoints)


def attempts(*changes: dict[str, Any]) -> tuple[AttemptRow, ...]:
    """The attempts of one delivery, the newest first."""
    return tuple(attempt_row(**({"id": 100 - at, "event_id": "evt_1", "endpoint_id": 7} | one)) for at, one in enumerate(changes))


@pytest.mark.parametrize(
    ("made", "standing", "why"),
    [
        ((DELIVERED, REPEATED), Standing.DELIVERED, "Acknowledged with 204."),
        # What was delivered stays so, whatever a resend met later.
        ((EXHAUSTED | {"trigger": "resend"}, DELIVERED), Standing.DELIVERED, "Acknowledged with 204."),
        ((REPEATED,), Standing.REPEATING, "No. It will be repeated."),
        ((EXHAUSTED, REPEATED), Standing.GIVEN_UP, "No. It was the last attempt."),
        ((DISCARDED, REPEATED), Standing.DISCARDED, "The endpoint was paused."),
        (
            (),
            Standing.WAITING,
            "It matched, and no attempt is on record yet: it is on its way, parked while the endpoint has trouble, or held while it is paused.",
        ),
        # A resend failed for good, and the event's own repeats go on.
        ((EXHAUSTED | {"trigger": "resend"}, REPEATED), Standing.REPEATING, "No. It will be repeated."),
        ((REPEATED | {"trigger": "resend"}, EXHAUSTED), Standing.REPEATING, "No. It will be repeated."),
        ((EXHAUSTED | {"trigger": "resend"}, EXHAUSTED, REPEATED), Standing.GIVEN_UP, "No. It was the last attempt."),
    ],
)
def test_where_a_delivery_stands(made: tuple[dict[str, Any], ...], standing: Standing, why: str) -> None:
    [chapter] = tell(Record((event(1, 7),), attempts(*made), is_complete=True)).chapters
    [delivery] = chapter.deliveries
    assert (delivery.standing, delivery.why, len(delivery.attempts)) == (standing, why, len(made))
    assert (delivery.last is None) == (not made)


def test_chapters_are_in_the_order_of_time_and_say_who_matched() -> None:
    record = Record(
        (event(1, 7, 8), event(3)),
        (
            attempt_row(
                id=3, event_id="evt_2", endpoint_id=9, event_created_at=NOW + timedelta(minutes=2), order_number="R2", **DELIVERED
            ),
            attempt_row(id=2, event_id="evt_1", endpoint_id=6, trigger="resend", **DELIVERED),
            attempt_row(id=1, event_id="evt_1", endpoint_id=7, **EXHAUSTED),
        ),
        is_complete=False,
    )
    story = tell(record)

    assert [chapter.event_id for chapter in story.chapters] == ["evt_3", "evt_2", "evt_1"]
    nobody, early, first = story.chapters
    assert (nobody.deliveries, nobody.is_settled) == ((), True)
    assert (early.received_at, [one.endpoint_id for one in early.deliveries]) == (None, [9])
    assert [(one.endpoint_id, one.standing) for one in first.deliveries] == [
        (7, Standing.GIVEN_UP),
        (8, Standing.WAITING),
        (6, Standing.DELIVERED),
    ]
    assert (first.is_settled, story.is_complete) == (False, False)
    assert (story.order_numbers, story.subscription_ids) == (("R1", "R2", "R758805215"), ("S1",))
    assert story.count(Standing.DELIVERED) == 2
    assert story.count(Standing.GIVEN_UP, Standing.WAITING) == 2


def test_nothing_is_no_story() -> None:
    story = tell(Record((), (), is_complete=True))
    assert (story.chapters, story.order_numbers, story.count(*Standing)) == ((), (), 0)
