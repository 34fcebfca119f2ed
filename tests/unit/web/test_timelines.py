"""Events and attempts as a timeline: what each endpoint got, and where the rest is now, in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from pipeline.store.reports.timeline import EventRow, TimelineRecords
from pipeline.store.search.attempt_rows import AttemptRow
from pipeline.web.dashboard.text_filters import ago, clock
from pipeline.web.timeline_sentences import Sentence, headline, note, sentence
from pipeline.web.timelines import DeliveryStatus, EndpointState, Timeline, build_timeline
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.service import NOW

DELIVERED: dict[str, Any] = {"state": "succeeded", "outcome": "delivered", "http_status_code": 204, "error": None}
EXHAUSTED: dict[str, Any] = {"outcome": "exhausted", "error": "No."}
RETRIED: dict[str, Any] = {"outcome": "repeated", "error": "No.", "next_attempt_at": NOW + timedelta(minutes=4)}
LATE: dict[str, Any] = RETRIED | {"next_attempt_at": NOW - timedelta(minutes=24)}
DISCARDED: dict[str, Any] = {"outcome": "discarded", "error": "The endpoint was paused."}
ERP = EndpointState(7, "ERP", "https://erp.example.com/hooks")


def event(number: int = 1, *endpoints: int, minutes: float = 10) -> EventRow:
    """An event received a few minutes ago."""
    at = NOW - timedelta(minutes=minutes) + timedelta(seconds=number)
    return EventRow(f"evt_{number}", "order_completed", at, at, "R1", ("H1",), "S1", endpoints)


def attempts(*changes: dict[str, Any], event_id: str = "evt_1") -> tuple[AttemptRow, ...]:
    """The attempts of one delivery, newest first."""
    return tuple(
        attempt_row(**({"id": 100 - at, "event_id": event_id, "endpoint_id": 7} | one)) for at, one in enumerate(changes)
    )


def plain(given: Sentence) -> str:
    """A sentence with its times in UTC."""
    return "".join(
        one if isinstance(one, str) else ago(one.time, NOW) if one.is_relative else clock(one.time, NOW) for one in given
    )


def timeline(*rows: dict[str, Any], endpoint: EndpointState | None = ERP, minutes: float = 10) -> Timeline:
    """A timeline of one event at one endpoint."""
    record = TimelineRecords((event(1, 7, minutes=minutes),), attempts(*rows), is_complete=True)
    return build_timeline(record, {7: endpoint} if endpoint else {}, NOW)


PAUSED = replace(ERP, state="paused", held_count=12)
DISABLED = replace(ERP, state="disabled", disabled_at=NOW - timedelta(hours=2))
UNVERIFIED = replace(ERP, state="unverified", held_count=3)
SLOW = replace(ERP, max_per_second=5)
DOWN = replace(ERP, is_down=True, failing_since=NOW - timedelta(hours=2, minutes=6))


@pytest.mark.parametrize(
    ("made", "endpoint", "status", "text"),
    [
        ((DELIVERED, RETRIED), ERP, DeliveryStatus.DELIVERED, "returned 204"),
        # A delivered notification stays delivered, whatever happened later to a resend or to the endpoint.
        ((EXHAUSTED | {"trigger": "resend"}, DELIVERED), None, DeliveryStatus.DELIVERED, "returned 204"),
        ((RETRIED,), ERP, DeliveryStatus.WILL_RETRY, "returned 503; next retry in 4 min"),
        # What is due now, not what was scheduled then.
        ((LATE,), DOWN, DeliveryStatus.ON_HOLD, "returned 503; due since 14:40"),
        ((LATE,), ERP, DeliveryStatus.LATE, "returned 503; it was due 24 min ago"),
        ((LATE,), PAUSED, DeliveryStatus.PAUSED, "returned 503; due since 14:40"),
        ((LATE,), DISABLED, DeliveryStatus.DISABLED, "returned 503; due since 14:40"),
        ((LATE,), UNVERIFIED, DeliveryStatus.UNVERIFIED, "returned 503; due since 14:40"),
        ((), UNVERIFIED, DeliveryStatus.UNVERIFIED, "not sent yet"),
        ((LATE,), None, DeliveryStatus.DELETED, "returned 503"),
        ((LATE,), replace(ERP, problem="No key."), DeliveryStatus.UNUSABLE, "returned 503; due since 14:40"),
        ((), PAUSED, DeliveryStatus.PAUSED, "not sent yet"),
        ((), DOWN, DeliveryStatus.ON_HOLD, "not sent yet"),
        ((), ERP, DeliveryStatus.LATE, "no attempt recorded; it arrived 9 min ago"),
        ((EXHAUSTED, RETRIED), PAUSED, DeliveryStatus.GAVE_UP, "returned 503"),
        ((DISCARDED, RETRIED), ERP, DeliveryStatus.DROPPED, "The endpoint was paused"),
        # A resend failed for good while the event's own retries continue.
        ((EXHAUSTED | {"trigger": "resend"}, RETRIED), ERP, DeliveryStatus.WILL_RETRY, "returned 503; next retry in 4 min"),
        ((RETRIED | {"trigger": "resend"}, EXHAUSTED), ERP, DeliveryStatus.WILL_RETRY, "returned 503; next retry in 4 min"),
        ((EXHAUSTED | {"trigger": "resend"}, EXHAUSTED, RETRIED), ERP, DeliveryStatus.GAVE_UP, "returned 503"),
        (
            (RETRIED | {"http_status_code": None, "failure": "timeout"},),
            ERP,
            DeliveryStatus.WILL_RETRY,
            "timed out; next retry in 4 min",
        ),
    ],
)
def test_notification_status(
    made: tuple[dict[str, Any], ...], endpoint: EndpointState | None, status: DeliveryStatus, text: str
) -> None:
    [part] = timeline(*made, endpoint=endpoint).endpoints
    [delivery] = part.deliveries
    assert (delivery.status, plain(note(delivery)), len(delivery.attempts)) == (status, text, len(made))
    assert part.status is status, "every status has a rank"
    assert (delivery.last is None) == (not made)


def test_a_new_event_is_on_its_way() -> None:
    built = timeline(minutes=0.5)
    assert built.endpoints[0].status is DeliveryStatus.ON_ITS_WAY
    assert (built.missing, plain(headline(built))) == ((), "1 notification is on its way.")
    assert plain(sentence(built.endpoints[0])) == "1 of 1 is on its way."


@pytest.mark.parametrize(
    ("made", "endpoint", "text"),
    [
        ((RETRIED,), DOWN, "1 of 3 not delivered because the endpoint has been returning 503 since 12:58; next retry in 4 min."),
        (
            (LATE,),
            DOWN,
            "1 of 3 not delivered because the endpoint has been returning 503 since 12:58; on hold: endpoint is down.",
        ),
        ((LATE,), ERP, "1 of 3 not delivered because the endpoint returned 503 at 15:05; it was due 24 min ago."),
        (
            (LATE,),
            SLOW,
            "1 of 3 not delivered because the endpoint returned 503 at 15:05; it was due 24 min ago; possibly delayed "
            "by the endpoint's limit of 5 requests per second.",
        ),
        ((EXHAUSTED,), SLOW, "1 of 3 not delivered because the endpoint returned 503 at 15:05; no retries left."),
        (
            (LATE,),
            PAUSED,
            "1 of 3 not delivered because the endpoint is paused (12 held in total); held until the endpoint is resumed.",
        ),
        (
            (LATE,),
            DISABLED,
            "1 of 3 not delivered because the endpoint has been disabled since 13:04; held until the endpoint is resumed.",
        ),
        (
            (LATE,),
            UNVERIFIED,
            "1 of 3 not delivered because the endpoint is not verified (3 held in total); held until the endpoint is verified.",
        ),
        ((LATE,), None, "1 of 3 not delivered because the endpoint was deleted."),
        ((DISCARDED,), ERP, "1 of 3 not delivered because it was dropped or no longer wanted."),
        (({"outcome": "expired"},), ERP, "1 of 3 not delivered because it waited too long."),
        ((EXHAUSTED,), None, "1 of 3 not delivered because the endpoint returned 503 at 15:05; no retries left."),
        ((DISCARDED | {"target_url": ""},), None, "1 of 3 not delivered because the endpoint was deleted."),
        # Somebody dropped it, and the endpoint was deleted later.
        ((DISCARDED,), None, "1 of 3 not delivered because it was dropped or no longer wanted."),
        ((DISCARDED,), PAUSED, "1 of 3 not delivered because it was dropped or no longer wanted."),
        (
            (RETRIED | {"http_status_code": None, "failure": "connection_refused"},),
            DOWN,
            "1 of 3 not delivered because the endpoint has been refusing connections since 12:58; next retry in 4 min.",
        ),
        ((DELIVERED,), ERP, "All 3 delivered, the last at 15:04."),
    ],
)
def test_the_sentence_about_an_endpoint(made: tuple[dict[str, Any], ...], endpoint: EndpointState | None, text: str) -> None:
    others = [attempts(DELIVERED | {"created_at": NOW}, event_id=f"evt_{one}") for one in (2, 3)]
    made = tuple({"created_at": NOW} | one if one.get("state") else one for one in made)
    record = TimelineRecords(
        tuple(event(one, 7) for one in (1, 2, 3)), (*attempts(*made), *others[0], *others[1]), is_complete=True
    )
    [part] = build_timeline(record, {7: endpoint} if endpoint else {}, NOW).endpoints
    assert plain(sentence(part)) == text


@pytest.mark.parametrize("endpoint", [PAUSED, DISABLED, UNVERIFIED, replace(ERP, problem="No key.")])
def test_an_exhausted_notification_is_not_held_for_an_endpoint_stopped_later(endpoint: EndpointState) -> None:
    [part] = timeline(EXHAUSTED, endpoint=endpoint).endpoints
    assert plain(sentence(part)) == "1 of 1 not delivered because the endpoint returned 503 at 15:05; no retries left."
    assert (part.waiting, part.resendable) == ((), 0), "a resend would be refused"


@pytest.mark.parametrize(
    ("made", "also"), [(DISCARDED, "1 not sent"), ({"outcome": "expired", "error": "No."}, "1 waited too long")]
)
def test_a_dropped_notification_is_not_given_as_the_reason_for_the_others(made: dict[str, Any], also: str) -> None:
    rows = (*attempts(made | {"created_at": NOW}), *attempts(RETRIED, event_id="evt_2"))
    record = TimelineRecords((event(1, 7), event(2, 7)), rows, is_complete=True)
    [part] = build_timeline(record, {7: ERP}, NOW).endpoints
    expected = f"2 of 2 not delivered because the endpoint returned 503 at 15:05; 1 will be retried, next in 4 min; {also}."
    assert plain(sentence(part)) == expected


def test_an_unsent_notification_for_an_endpoint_that_is_down_has_a_reason() -> None:
    record = TimelineRecords((event(1, 7),), (), is_complete=True)
    [part] = build_timeline(record, {7: DOWN}, NOW + timedelta(minutes=30)).endpoints
    assert (
        plain(sentence(part))
        == "1 of 1 not delivered because the endpoint has been failing since 12:58; on hold: endpoint is down."
    )


def test_a_failure_before_the_last_recovery_is_not_the_current_one() -> None:
    yesterday = EXHAUSTED | {"http_status_code": 404, "created_at": NOW - timedelta(days=1)}
    [part] = timeline(yesterday, endpoint=DOWN).endpoints
    assert plain(sentence(part)) == "1 of 1 not delivered because the endpoint returned 404 at 1 Mar, 15:04; no retries left."
    first = EXHAUSTED | {"created_at": NOW - timedelta(hours=2, minutes=6, seconds=30)}
    [part] = timeline(first, endpoint=DOWN).endpoints
    assert (
        plain(sentence(part)) == "1 of 1 not delivered because the endpoint has been returning 503 since 12:58; no retries left."
    )


def test_a_notification_that_waits_for_its_turn_is_not_overdue() -> None:
    keyed = [
        replace(event(one, 7, minutes=30), event_key=f"oms.orders/0/{key}") for one, key in ((1, "R1"), (2, "R1"), (3, "H1"))
    ]
    record = TimelineRecords(tuple(keyed), attempts(RETRIED), is_complete=True)
    for endpoint, status in ((replace(ERP, is_ordered=True), DeliveryStatus.BEHIND), (ERP, DeliveryStatus.LATE)):
        [part] = build_timeline(record, {7: endpoint}, NOW).endpoints
        assert [one.status for one in part.deliveries] == [DeliveryStatus.WILL_RETRY, status, DeliveryStatus.LATE]
    waiting = TimelineRecords(tuple(keyed[:2]), attempts(RETRIED), is_complete=True)
    [part] = build_timeline(waiting, {7: replace(ERP, is_ordered=True)}, NOW).endpoints
    assert plain(sentence(part)) == (
        "2 of 2 not delivered because the endpoint returned 503 at 15:05; 1 will be retried, next in 4 min; "
        "1 waiting for an earlier event."
    )
    assert (plain(note(part.deliveries[1])), part.status, part.resendable) == ("not sent yet", DeliveryStatus.WILL_RETRY, 1)
    # Once the earlier one has ended, nothing holds it back.
    ended = TimelineRecords(tuple(keyed[:2]), attempts(EXHAUSTED), is_complete=True)
    [part] = build_timeline(ended, {7: replace(ERP, is_ordered=True)}, NOW).endpoints
    assert part.deliveries[1].status is DeliveryStatus.LATE


def test_several_reasons_are_counted() -> None:
    record = TimelineRecords(
        tuple(event(one, 7) for one in (1, 2, 3)),
        (*attempts(EXHAUSTED), *attempts(RETRIED, event_id="evt_2"), *attempts(RETRIED, event_id="evt_3")),
        is_complete=True,
    )
    [part] = build_timeline(record, {7: DOWN}, NOW).endpoints
    assert plain(sentence(part)) == (
        "3 of 3 not delivered because the endpoint has been returning 503 since 12:58; 2 will be retried, next in 4 min; 1 gave up."
    )
    assert (part.status, part.resendable) == (DeliveryStatus.GAVE_UP, 3)


def test_notifications_held_for_a_paused_endpoint_are_not_resent() -> None:
    assert timeline(LATE, endpoint=PAUSED).resendable == 0
    assert timeline(LATE, endpoint=DOWN).resendable == 1
    assert timeline(endpoint=DOWN).resendable == 0, "there is no attempt to resend"


def test_endpoints_that_miss_events_come_first_and_events_keep_their_order() -> None:
    record = TimelineRecords(
        (event(3), event(1, 7, 8)),
        (
            attempt_row(
                id=3, event_id="evt_2", endpoint_id=9, event_created_at=NOW - timedelta(minutes=9), order_number="R2", **DELIVERED
            ),
            attempt_row(id=2, event_id="evt_1", endpoint_id=9, trigger="resend", **DELIVERED),
            attempt_row(id=1, event_id="evt_1", endpoint_id=7, **EXHAUSTED),
        ),
        is_complete=False,
    )
    names = {7: ERP, 8: EndpointState(8, "BI", ""), 9: EndpointState(9, "Archive", "")}
    built = build_timeline(record, names, NOW)

    assert [one.endpoint.name for one in built.endpoints] == ["BI", "ERP", "Archive"]
    assert [one.event.event_id for one in built.endpoints[2].deliveries] == ["evt_1", "evt_2"]
    assert [one.event_id for one in built.events] == ["evt_1", "evt_3", "evt_2"]
    assert [one.event_id for one in built.unmatched] == ["evt_3"]
    assert (built.order_numbers, built.subscription_ids, built.is_complete) == (("R1", "R2", "R758805215"), ("S1",), False)
    assert built.skus == ("SKU-1", "SKU-2")


def test_endpoints_that_can_be_resent_to_come_before_blocked_ones() -> None:
    rows = tuple(attempt_row(id=one, event_id="evt_1", endpoint_id=one, **LATE) for one in (7, 6, 5, 4))
    states = {4: "paused", 5: "disabled", 7: "active"}
    known = {one: EndpointState(one, f"Endpoint {one}", "", state) for one, state in states.items()}
    built = build_timeline(TimelineRecords((event(1, 4, 5, 6, 7),), rows, is_complete=True), known, NOW)
    assert [one.endpoint.id for one in built.endpoints] == [7, 5, 4, 6]


def _timeline_missing(*missing: int, names: tuple[str, ...] = ("ERP", "BI", "CRM", "WMS", "Mailer")) -> Timeline:
    """Some endpoints with two notifications each; ``missing`` of each were given up."""
    ids = range(1, len(missing) + 1)
    rows = [
        replace(
            attempt_row(**(EXHAUSTED if number <= lost else DELIVERED)), event_id=f"evt_{number}", endpoint_id=one, created_at=NOW
        )
        for one, lost in zip(ids, missing, strict=True)
        for number in (1, 2)
    ]
    record = TimelineRecords((event(1, *ids), event(2, *ids)), tuple(rows), is_complete=True)
    return build_timeline(record, {one: EndpointState(one, names[one - 1], "") for one in ids}, NOW)


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ((0,), "Everything was delivered: 2 notifications to ERP."),
        ((0, 0), "Everything was delivered: 4 notifications to 2 endpoints."),
        ((1, 0), "ERP did not get 1 of 2 notifications."),
        ((2, 1), "BI did not get 1 of 2 notifications. ERP got none of its 2 notifications."),
        ((1, 1, 1, 0), "3 of 4 endpoints did not get everything: BI, CRM and ERP."),
        ((1, 1, 1, 1, 1), "5 of 5 endpoints did not get everything: BI, CRM, ERP and 2 more."),
    ],
)
def test_the_headline(missing: tuple[int, ...], text: str) -> None:
    assert plain(headline(_timeline_missing(*missing))) == text


def test_the_headline_about_some_of_the_events() -> None:
    built = replace(timeline(DELIVERED), is_complete=False)
    assert plain(headline(built)) == "Everything shown here was delivered: 1 notification to ERP."


def test_the_headline_names_the_endpoints_or_says_that_nobody_subscribed() -> None:
    nobody = build_timeline(TimelineRecords((event(1), event(2)), (), is_complete=True), {}, NOW)
    assert plain(headline(nobody)) == "2 events arrived, but no endpoint was subscribed to any of them."
    assert plain(headline(timeline(EXHAUSTED))) == "ERP did not get its notification."
    both = tuple(attempt_row(**EXHAUSTED | {"id": one, "event_id": "evt_1", "endpoint_id": one}) for one in (1, 2))
    known = {one: EndpointState(one, name, "") for one, name in ((1, "ERP"), (2, "BI"))}
    built = build_timeline(TimelineRecords((event(1, 1, 2),), both, is_complete=True), known, NOW)
    assert plain(headline(built)) == "BI and ERP did not get their notifications."
    assert plain(headline(timeline(DELIVERED))) == "Everything was delivered: 1 notification to ERP."


def test_a_timeline_without_events_is_empty() -> None:
    built = build_timeline(TimelineRecords((), (), is_complete=True), {}, NOW)
    assert (built.events, built.endpoints, built.order_numbers, built.resendable) == ((), (), (), 0)


def test_a_deleted_endpoint_is_named_by_its_url() -> None:
    [part] = timeline(LATE, endpoint=None).endpoints
    assert (part.endpoint.name, part.endpoint.state) == ("127.0.0.1/hooks", "deleted")
    [part] = timeline(DISCARDED | {"target_url": ""}, RETRIED, endpoint=None).endpoints
    assert part.endpoint.name == "127.0.0.1/hooks", "a delivery discarded after the deletion has no URL"
    [part] = timeline(endpoint=None).endpoints
    assert part.endpoint.name == "Endpoint 7"
