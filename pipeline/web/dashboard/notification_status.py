"""The current status of a notification, derived from its attempts and the state of its endpoint. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from pipeline.core.circuit import CircuitState
from pipeline.web.timelines import GRACE, deciding_attempt
from schemas.http.attempts import AttemptAnswer
from schemas.http.endpoints import EndpointAnswer

_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True, slots=True)
class NotificationStatus:
    """A title, such as "Delivered", a time ``at``, and the rest of the sentence in ``how``."""

    kind: Literal["good", "warning", "bad"]
    title: str
    at: datetime | None = None
    how: str = ""
    acknowledged: AttemptAnswer | None = None
    """The attempt that was acknowledged first."""


def notification_status(attempts: Sequence[AttemptAnswer], endpoint: EndpointAnswer | None, now: datetime) -> NotificationStatus:
    """The status of a notification with these attempts, oldest first. ``endpoint`` is None if it was deleted."""
    acknowledged = next((one for one in attempts if one.state == "succeeded"), None)
    if acknowledged is not None:
        return NotificationStatus("good", "Delivered", acknowledged.created_at, _by(acknowledged, len(attempts)), acknowledged)
    last = deciding_attempt(attempts[::-1])
    match last.outcome:
        case "repeated":
            return _waiting(last, endpoint, now)
        case "discarded":
            return NotificationStatus("bad", "Not sent", last.created_at, "It was dropped, or is no longer wanted.")
        case "expired":
            return NotificationStatus("bad", "Not sent", last.created_at, "It waited too long and expired.")
    if last.trigger == "test":
        return NotificationStatus("bad", "Test not acknowledged", last.created_at)
    count = len(attempts)
    return NotificationStatus("bad", "Gave up", last.created_at, f"after {count} {'attempt' if count == 1 else 'attempts'}.")


def ordinal(number: int) -> str:
    """An ordinal number: ``second``, ``12th``."""
    if 1 <= number <= len(_ORDINALS):
        return _ORDINALS[number - 1]
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if 10 < number % 100 < 14 else ends.get(number % 10, 'th')}"


def _by(attempt: AttemptAnswer, count: int) -> str:
    if attempt.trigger == "test":
        return "by this test."
    if attempt.trigger == "resend":
        return "by a resend." if attempt.attempt == 1 else f"on the {ordinal(attempt.attempt)} attempt of a resend."
    return "on the first attempt." if count == 1 else f"on the {ordinal(attempt.attempt)} attempt."


def _waiting(last: AttemptAnswer, endpoint: EndpointAnswer | None, now: datetime) -> NotificationStatus:
    if endpoint is None:
        return NotificationStatus(
            "bad", "Not delivered", how="The endpoint was deleted. The notification will not be sent again."
        )
    if endpoint.problem is not None:
        return NotificationStatus("bad", "On hold", how=endpoint.problem)
    if endpoint.state != "active":
        kind: Literal["warning", "bad"] = "warning" if endpoint.state == "paused" else "bad"
        end = "verified" if endpoint.state == "unverified" else "resumed"
        return NotificationStatus(
            kind, "On hold", how=f"The endpoint is {endpoint.state}. The retry will be sent when it is {end}."
        )
    return _waiting_for_active(last.next_attempt_at, endpoint, now)


def _waiting_for_active(due: datetime | None, endpoint: EndpointAnswer, now: datetime) -> NotificationStatus:
    if due is not None and due > now:
        return NotificationStatus("warning", "Will retry", due, "Not delivered yet.")
    if endpoint.circuit != CircuitState.CLOSED:
        return NotificationStatus("bad", "On hold", how="The endpoint is down. The retry will be sent when it responds again.")
    if due is None or now - due <= GRACE:
        return NotificationStatus("warning", "Retrying now", how="Not delivered yet. The result will appear here in a moment.")
    return NotificationStatus("bad", "Overdue: the retry was due", due, "No later attempt has been recorded.")
