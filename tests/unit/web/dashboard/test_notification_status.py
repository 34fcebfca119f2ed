"""The current status of a notification."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest

from pipeline.web.dashboard.notification_status import notification_status, ordinal
from schemas.http.attempts import AttemptAnswer
from schemas.http.endpoints import EndpointAnswer
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.service import NOW

LATER = NOW + timedelta(minutes=4)
EARLIER = NOW - timedelta(minutes=25)


def attempt(number: int = 1, outcome: str = "repeated", **changes: Any) -> AttemptAnswer:
    values = {
        "id": number,
        "attempt": number,
        "outcome": outcome,
        "created_at": NOW + timedelta(seconds=number),
        "next_attempt_at": None,
    }
    if outcome == "delivered":
        values["state"] = "succeeded"
    return AttemptAnswer(**asdict(attempt_row(**(values | changes))))


def endpoint(**changes: Any) -> EndpointAnswer:
    values: dict[str, Any] = dict.fromkeys(EndpointAnswer.model_fields)
    values |= {"events": (), "filters": {}, "header_names": [], "unsent_headers": [], "state": "active", "circuit": "closed"}
    return EndpointAnswer.model_construct(**(values | changes))


@pytest.mark.parametrize(
    ("attempts", "at", "sentence"),
    [
        ([attempt(1, "delivered")], endpoint(), "good: Delivered on the first attempt."),
        ([attempt(1, next_attempt_at=EARLIER), attempt(2, "delivered")], endpoint(), "good: Delivered on the second attempt."),
        ([attempt(1, "exhausted"), attempt(1, "delivered", trigger="resend")], None, "good: Delivered by a resend."),
        ([attempt(1, "delivered"), attempt(1, "exhausted", trigger="resend")], None, "good: Delivered on the first attempt."),
        ([attempt(1, "delivered", trigger="test")], endpoint(), "good: Delivered by this test."),
        ([attempt(1, "exhausted", trigger="test")], endpoint(), "bad: Test not acknowledged"),
        ([attempt(next_attempt_at=LATER)], endpoint(), "warning: Will retry Not delivered yet."),
        ([attempt(next_attempt_at=LATER)], endpoint(circuit="open"), "warning: Will retry Not delivered yet."),
        ([attempt(next_attempt_at=EARLIER)], endpoint(circuit="open"), "bad: On hold The endpoint is down"),
        ([attempt(next_attempt_at=EARLIER)], endpoint(), "bad: Overdue: the retry was due No later attempt has been recorded."),
        ([attempt(next_attempt_at=NOW - timedelta(seconds=30))], endpoint(), "warning: Retrying now"),
        ([attempt(next_attempt_at=EARLIER)], endpoint(state="paused"), "warning: On hold The endpoint is paused"),
        ([attempt(next_attempt_at=LATER)], endpoint(state="disabled"), "bad: On hold The endpoint is disabled"),
        ([attempt(next_attempt_at=LATER)], endpoint(problem="No key opens it."), "bad: On hold No key opens it."),
        ([attempt(next_attempt_at=LATER)], None, "bad: Not delivered The endpoint was deleted"),
        ([attempt(1), attempt(2, "exhausted")], endpoint(), "bad: Gave up after 2 attempts."),
        ([attempt(1, "discarded")], endpoint(), "bad: Not sent It was dropped, or is no longer wanted."),
        ([attempt(1, "expired")], endpoint(), "bad: Not sent It waited too long and"),
        (
            [attempt(1, "exhausted"), attempt(2, next_attempt_at=LATER, trigger="resend"), attempt(3, "discarded")],
            endpoint(),
            "warning: Will retry",
        ),
        (
            [attempt(1, next_attempt_at=EARLIER), attempt(2, next_attempt_at=LATER, trigger="resend")],
            endpoint(),
            "warning: Will retry",
        ),
    ],
)
def test_status(attempts: list[AttemptAnswer], at: EndpointAnswer | None, sentence: str) -> None:
    found = notification_status(attempts, at, NOW)
    assert f"{found.kind}: {found.title} {found.how}".startswith(sentence)


def test_ordinals() -> None:
    assert [ordinal(one) for one in (1, 6, 11, 12, 21, 102, 113, 0)] == [
        "first",
        "sixth",
        "11th",
        "12th",
        "21st",
        "102nd",
        "113th",
        "0th",
    ]
