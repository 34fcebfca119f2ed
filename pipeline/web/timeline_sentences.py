"""The timeline in sentences: what an endpoint did not get, why, and what comes next. Pure.

A sentence is a sequence of texts and times. Times are separate because each reader sees them in their own time zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pipeline.core.counted import counted
from pipeline.core.exchange import Failure
from pipeline.store.search.attempt_rows import AttemptRow
from pipeline.web.timelines import DeliveryStatus, EndpointDelivery, EndpointState, EndpointTimeline, Timeline


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in a sentence. ``is_relative``: shown relative to now (``in 4 min``), not as a time of day (``12:58``)."""

    time: datetime
    is_relative: bool = False


Sentence = Sequence[str | Moment]

_SAME_FAILURE: Final = timedelta(minutes=1)
"""An endpoint counts as failing when its first failed attempt has ended. This is the most that an attempt takes."""
_NAMED: Final = 3
"""The most endpoints that the headline names."""
_FAILURES: Final[dict[str, tuple[str, str]]] = {
    Failure.TIMEOUT: ("has been timing out", "timed out"),
    Failure.CONNECT_TIMEOUT: (
        "has been unreachable (connections time out)",
        "could not be reached (the connection timed out)",
    ),
    Failure.CONNECTION_REFUSED: ("has been refusing connections", "refused the connection"),
    Failure.CONNECTION_RESET: ("has been dropping connections", "dropped the connection"),
    Failure.DNS: (
        "has been unreachable (its host name does not resolve)",
        "could not be reached (its host name did not resolve)",
    ),
    Failure.TLS: ("has been failing with TLS errors", "failed with a TLS error"),
    Failure.TRUNCATED: ("has been sending incomplete responses", "sent an incomplete response"),
    Failure.INVALID_RESPONSE: ("has been sending invalid HTTP responses", "sent an invalid HTTP response"),
    Failure.BLOCKED_ADDRESS: (
        "has had an address that webhooks may not be sent to",
        "had an address that webhooks may not be sent to",
    ),
    Failure.INVALID_TARGET: ("has had an invalid URL or header", "had an invalid URL or header"),
}
_NOT_MADE: Final = ("discarded", "expired")
"""Outcomes of attempts that were due and not made."""
_UNREACHABLE: Final = ("has been unreachable", "could not be reached")


def headline(timeline: Timeline) -> Sentence:
    """The most important sentence: whether every endpoint got everything."""
    missing, count = timeline.missing, sum(len(one.deliveries) for one in timeline.endpoints)
    if not count:
        which = "it" if len(timeline.events) == 1 else "any of them"
        return (f"{counted(len(timeline.events), 'event')} arrived, but no endpoint was subscribed to {which}.",)
    if not missing:
        return (_all_is_well(timeline, count),)
    if len(missing) == 2 and all(len(one.deliveries) == 1 for one in missing):
        return (f"{_listed([one.endpoint.name for one in missing], '')} did not get their notifications.",)
    if len(missing) <= 2:
        return (" ".join(filter(None, map(_not_got, missing))),)
    names = [one.endpoint.name for one in missing[:_NAMED]]
    rest = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return (f"{len(missing)} of {len(timeline.endpoints)} endpoints did not get everything: {_listed(names, rest)}.",)


def sentence(part: EndpointTimeline) -> Sentence:
    """What an endpoint did not get, why, and what comes next. It is shown below the endpoint's name."""
    total, missing = len(part.deliveries), part.missing
    waiting = sum(one.status is DeliveryStatus.ON_ITS_WAY for one in part.deliveries)
    if not missing:
        if waiting:
            return (f"{waiting} of {total} {'is' if waiting == 1 else 'are'} on {'its' if waiting == 1 else 'their'} way.",)
        last = max(one.last.created_at for one in part.deliveries if one.last is not None)
        return ("Delivered at " if total == 1 else f"All {total:,} delivered, the last at ", Moment(last), ".")
    pieces: list[str | Moment] = [f"{len(missing):,} of {total:,} not delivered"]
    if reason := _reason(part, missing):
        pieces += [" because ", *reason]
    if coming := _coming(missing):
        pieces += ["; ", *coming]
    if part.endpoint.max_per_second is not None and any(one.status is DeliveryStatus.LATE for one in missing):
        pieces.append(
            f"; possibly delayed by the endpoint's limit of {counted(part.endpoint.max_per_second, 'request')} per second"
        )
    if waiting:
        pieces.append(f"; {waiting:,} more on {'its' if waiting == 1 else 'their'} way")
    return (*pieces, ".")


def note(delivery: EndpointDelivery) -> Sentence:
    """A note on one event at an endpoint, next to its status."""
    last, due_at = delivery.last, delivery.due_at
    match delivery.status:
        case DeliveryStatus.DELIVERED:
            return (f"returned {last.http_status_code}" if last and last.http_status_code else "acknowledged",)
        case DeliveryStatus.ON_ITS_WAY:
            return ("nothing has been recorded yet",)
    if last is None and due_at is not None and delivery.status is DeliveryStatus.LATE:
        # It may have been sent, and only its record may be late.
        return ("no attempt recorded; it arrived ", Moment(due_at, is_relative=True))
    pieces: list[str | Moment] = [_short_reason(last)] if last else ["not sent yet"]
    if due_at is not None and delivery.status is DeliveryStatus.WILL_RETRY:
        pieces += ["; next retry ", Moment(due_at, is_relative=True)]
    elif due_at is not None and delivery.status is DeliveryStatus.LATE:
        pieces += ["; it was due ", Moment(due_at, is_relative=True)]
    elif due_at is not None and last is not None:
        pieces += ["; due since ", Moment(due_at)]
    return pieces


def _not_got(part: EndpointTimeline) -> str:
    name, missing, total = part.endpoint.name, len(part.missing), len(part.deliveries)
    if total == 1:
        return f"{name} did not get its notification."
    if missing == total:
        return f"{name} got none of its {total:,} notifications."
    return f"{name} did not get {missing:,} of {total:,} notifications."


def _all_is_well(timeline: Timeline, count: int) -> str:
    waiting = sum(one.status is DeliveryStatus.ON_ITS_WAY for part in timeline.endpoints for one in part.deliveries)
    if waiting:
        rest = f"; {count - waiting:,} delivered." if count > waiting else "."
        return f"{counted(waiting, 'notification is', 'notifications are')} on {'its' if waiting == 1 else 'their'} way{rest}"
    receivers = timeline.endpoints[0].endpoint.name if len(timeline.endpoints) == 1 else f"{len(timeline.endpoints):,} endpoints"
    everything = "Everything" if timeline.is_complete else "Everything shown here"
    return f"{everything} was delivered: {counted(count, 'notification')} to {receivers}."


def _listed(names: Sequence[str], rest: str) -> str:
    if rest or len(names) == 1:
        return ", ".join(names) + rest
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _reason(part: EndpointTimeline, missing: Sequence[EndpointDelivery]) -> Sentence:
    """Why it was not delivered: the endpoint gets nothing at the moment, or the last attempt failed."""
    # What gave up before the endpoint was paused or deleted is not missing because of that.
    is_by_deletion = part.endpoint.state == "deleted" and any(map(_is_missing_by_deletion, missing))
    if (part.waiting or is_by_deletion) and (kept_back := _kept_back(part.endpoint)):
        return kept_back
    failed = [one.last for one in missing if one.last is not None]
    # What was dropped says nothing about the rest: why that was not delivered matters more.
    if failed := [one for one in failed if one.outcome not in _NOT_MADE] or failed:
        return _failure(max(failed, key=lambda one: (one.created_at, one.id)), part.endpoint.failing_since)
    is_down = part.endpoint.failing_since is not None and any(one.status is DeliveryStatus.ON_HOLD for one in missing)
    return (
        ("the endpoint has been failing since ", Moment(part.endpoint.failing_since))
        if is_down and part.endpoint.failing_since
        else ()
    )


def _is_missing_by_deletion(delivery: EndpointDelivery) -> bool:
    """Whether it was not sent because its endpoint was deleted: without an endpoint, the URL of an attempt that is not made is unknown."""
    is_dropped = delivery.status is DeliveryStatus.DROPPED and delivery.last is not None and not delivery.last.target_url
    return delivery.status is DeliveryStatus.DELETED or is_dropped


def _kept_back(endpoint: EndpointState) -> Sentence:
    if endpoint.problem is not None and endpoint.state == "active":
        return ("the endpoint's secrets cannot be decrypted, so nothing can be sent to it",)
    held = f" ({endpoint.held_count:,} held in total)" if endpoint.held_count else ""
    since: Sentence = (" since ", Moment(endpoint.disabled_at)) if endpoint.disabled_at else ()
    reasons: dict[str, Sentence] = {
        "deleted": ("the endpoint was deleted",),
        "paused": (f"the endpoint is paused{held}",),
        "disabled": ("the endpoint has been disabled" if since else "the endpoint is disabled", *since),
        "unverified": (f"the endpoint is not verified{held}",),
    }
    return reasons.get(endpoint.state, ())


def _failure(last: AttemptRow, failing_since: datetime | None) -> Sentence:
    if last.outcome == "expired":
        return ("it waited too long",)
    if last.outcome == "discarded":
        return ("it was dropped or no longer wanted",)
    # An attempt that failed before the endpoint last recovered does not say how it fails now.
    if failing_since is not None and failing_since - last.created_at <= _SAME_FAILURE:
        return (f"the endpoint {_words(last)[0]} since ", Moment(failing_since))
    return (f"the endpoint {_words(last)[1]} at ", Moment(last.created_at))


def _words(attempt: AttemptRow) -> tuple[str, str]:
    """What the endpoint did, in two tenses: since a time, and at a time."""
    if attempt.http_status_code is not None:
        return f"has been returning {attempt.http_status_code}", f"returned {attempt.http_status_code}"
    return _FAILURES.get(attempt.failure or "", _UNREACHABLE)


def _short_reason(attempt: AttemptRow) -> str:
    if attempt.outcome in _NOT_MADE:
        return (attempt.error or "not sent").rstrip(".")
    return _words(attempt)[1]


def _coming(missing: Sequence[EndpointDelivery]) -> Sentence:
    """What comes next, by status. If there are several statuses, each has its number of notifications."""
    by_status: dict[DeliveryStatus, list[EndpointDelivery]] = {}
    for one in missing:
        by_status.setdefault(one.status, []).append(one)
    pieces: list[str | Moment] = []
    for status in sorted(by_status, key=list(DeliveryStatus).index):
        if phrase := _coming_of(status, by_status[status], is_alone=len(by_status) == 1):
            pieces += ["; " if pieces else "", *phrase]
    return [one for one in pieces if one != ""]


def _coming_of(status: DeliveryStatus, found: Sequence[EndpointDelivery], *, is_alone: bool) -> Sentence:
    number = "" if is_alone else f"{len(found):,} "
    due_at = min((one.due_at for one in found if one.due_at is not None), default=None)
    if due_at is not None and status in (DeliveryStatus.WILL_RETRY, DeliveryStatus.LATE):
        is_late = status is DeliveryStatus.LATE
        text = (
            ("it was due " if is_late else "next retry ")
            if is_alone
            else "overdue, due "
            if is_late
            else "will be retried, next "
        )
        return (f"{number}{text}", Moment(due_at, is_relative=True))
    text = _COMING.get(status, "") if is_alone else _COMING_OF_SOME.get(status, "")
    return (f"{number}{text}",) if text else ()


_COMING: Final = {
    DeliveryStatus.BEHIND: "waiting for an earlier event",
    DeliveryStatus.ON_HOLD: "on hold: endpoint is down",
    DeliveryStatus.PAUSED: "held until the endpoint is resumed",
    DeliveryStatus.DISABLED: "held until the endpoint is resumed",
    DeliveryStatus.UNVERIFIED: "held until the endpoint is verified",
    DeliveryStatus.GAVE_UP: "no retries left",
}
_COMING_OF_SOME: Final = _COMING | {
    DeliveryStatus.GAVE_UP: "gave up",
    DeliveryStatus.DROPPED: "not sent",
    DeliveryStatus.EXPIRED: "waited too long",
}
