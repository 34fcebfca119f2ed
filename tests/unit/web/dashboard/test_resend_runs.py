"""The pages of resend runs: preview, confirmation, progress and cancelling."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qsl, urlencode

import pytest

from pipeline.store.errors import StoreUnavailableError
from schemas.api_key import Access
from schemas.audit import AuditAction, AuditEntry, RunState
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import NOW, Service
from tests.unit.web.test_resend_runs import run_entry, until_idle

RESENDS = "/webhooks/resends"
FILTER = "q%5Bendpoint_id_eq%5D=1"


@pytest.fixture
async def failing(service: Service) -> Service:
    await service.create()
    service.attempts.rows = tuple(attempt_row(id=one, event_id=f"evt_{one}", endpoint_id=1) for one in (1, 2))
    service.attempts.sent = {"evt_1": b"{}", "evt_2": b"{}"}
    return service


async def test_a_run_from_the_preview_to_the_end(failing: Service, admin: Visitor) -> None:
    seen = await admin.go(f"{RESENDS}/new?q[endpoint_id_eq]=1")
    for part in ("Resend 2 notifications?", "2 failed attempts", "1 · 127.0.0.1/hooks", "It takes 1 s"):
        assert part in seen.text, part
    seen = await admin.send(f"{RESENDS}?{FILTER}")
    run = seen.path.rpartition("/")[2]
    assert (seen.status, len(run)) == (200, 16)

    await until_idle(failing)
    seen = await admin.go(f"{RESENDS}/{run}")
    for part in ("done", "Resent 2 of 2", "attempt 2"):
        assert part in seen.text, part
    assert "Cancel run" not in seen.text
    assert len(failing.kafka.to("webhooks.delay.0s")) == 2
    assert f'href="{RESENDS}/{run}"' in (await admin.go(RESENDS)).html


async def test_dropped_notifications_are_named(failing: Service, admin: Visitor) -> None:
    failing.attempts.rows += (attempt_row(id=13, event_id="evt_3", endpoint_id=1, outcome="discarded"),)
    seen = await admin.go(f"{RESENDS}/new?q[endpoint_id_eq]=1")
    assert "1 of them was not sent: someone dropped it, or it waited too long." in seen.text


async def test_relative_times_stay_fixed_from_the_preview_to_the_run(failing: Service, admin: Visitor) -> None:
    query = {"q[created_at_gteq]": "yesterday", "q[created_at_lteq]": "yesterday", "q[request_body_cont]": "today"}
    seen = await admin.go(f"{RESENDS}/new?{urlencode(query)}")
    [form] = [form for form in seen.forms if form.action.startswith(f"{RESENDS}?")]
    sent = dict(parse_qsl(form.action.partition("?")[2]))
    assert sent == query | {"q[created_at_gteq]": "2026-03-01", "q[created_at_lteq]": "2026-03-01"}
    assert urlencode({"q[created_at_gteq]": "yesterday"}) in seen.html, "the back link leads to the same search"
    failing.now[0] += timedelta(hours=9)
    assert (await admin.send(form.action)).path.startswith(f"{RESENDS}/")
    shown, started = failing.attempts.queries
    assert started.conditions == shown.conditions
    await until_idle(failing)


async def test_skipped_notifications_are_not_counted(failing: Service, admin: Visitor) -> None:
    paused = await failing.create("http://127.0.0.1/paused", active=False)
    failing.attempts.rows += tuple(attempt_row(id=10 + one, event_id="evt_1", endpoint_id=one) for one in (paused, 99))
    seen = await admin.go(f"{RESENDS}/new?q[event_name_eq]=order_completed")
    assert "not sent: someone" not in seen.text
    for part in ("Resend 2 notifications?", "127.0.0.1/paused (paused: skipped) 1", "99 (deleted: skipped) 1"):
        assert part in seen.text, part
    failing.attempts.rows = failing.attempts.rows[2:]
    seen = await admin.go(f"{RESENDS}/new?q[event_name_eq]=order_completed")
    assert "Nothing to resend 2 failed attempts" in seen.text
    assert [form.action for form in seen.forms if form.action.startswith(f"{RESENDS}?")] == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "Add a filter"),
        ("q[endpoint_id_eq]=1&q[colour_eq]=red", "A filter is not valid"),
    ],
)
async def test_reasons_against_a_run_are_shown(failing: Service, admin: Visitor, query: str, words: str) -> None:
    seen = await admin.go(f"{RESENDS}/new?{query}")
    assert (words in seen.text, '<button class="button primary">' in seen.html) == (True, False)
    form = [pair for pair in seen.form("/webhooks/logout").fields if pair[0] == "csrf"]
    seen = await admin.post(f"{RESENDS}?{query}", form)
    assert seen.path == "/webhooks/attempts"
    assert failing.kafka.to("webhooks.delay.0s") == []


async def test_a_run_larger_than_the_limit_is_not_started(
    failing: Service, admin: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.web.resend_runs.MAX_RESENT", 1)
    seen = await admin.go(f"{RESENDS}/new?q[endpoint_id_eq]=1")
    assert ("Resend 1 or more" in seen.text, "Narrow the filters" in seen.text) == (True, True)


async def test_a_run_can_be_cancelled(failing: Service, admin: Visitor) -> None:
    failing.runs.pause_seconds = 3600.0
    await admin.go(f"{RESENDS}/new?q[endpoint_id_eq]=1")
    seen = await admin.send(f"{RESENDS}?{FILTER}")
    run = seen.path.rpartition("/")[2]
    assert f'data-live="{RESENDS}/{run}/progress"' in seen.html
    work = failing.runs._known.get(run)
    assert work is not None
    assert not work.is_cancelled
    seen = await admin.send(f"{RESENDS}/{run}/cancel")
    assert (seen.status, work.is_cancelled) == (200, True)

    await admin.go(f"{RESENDS}/new?q[endpoint_id_eq]=1")
    seen = await admin.send(f"{RESENDS}?{FILTER}")
    assert (seen.path, f"(id {run}), and it has processed" in seen.text) == (RESENDS, True)


async def test_a_run_whose_process_died_is_shown_as_stopped(failing: Service, admin: Visitor) -> None:
    failing.kafka.write_elsewhere(run_entry("00000000000000aa"))
    failing.kafka.write_elsewhere(run_entry("00000000000000bb", RunState.DONE))
    failing.now[0] = NOW + timedelta(minutes=5)
    seen = await admin.go(f"{RESENDS}/00000000000000aa")
    for part in (
        "stopped",
        "The run has not reported its progress for a minute",
        "start again with the same search",
        "attempt 77",
        "Cancel run",
    ):
        assert part in seen.text, part
    token = [pair for pair in seen.form("/webhooks/logout").fields if pair[0] == "csrf"]
    seen = await admin.post(f"{RESENDS}/00000000000000bb/cancel", token)
    assert "This run has ended: done." in seen.text
    assert (await admin.go(f"{RESENDS}/00000000000000cc")).status == 404


async def test_an_empty_list_of_runs(service: Service, admin: Visitor) -> None:
    assert "No runs yet" in (await admin.go(RESENDS)).text
    assert "Nothing to resend" in (await admin.go(f"{RESENDS}/new?q[endpoint_id_eq]=1")).text
    service.attempts.error = StoreUnavailableError("gone")
    assert (await admin.go(RESENDS)).status == 503


async def test_replays_are_listed_with_their_steps(failing: Service, admin: Visitor) -> None:
    assert "Replays" not in (await admin.go(RESENDS)).text
    for detail in ("1,000 events to endpoint 1, from the beginning", "20 events to endpoint 1, after 7.evt_9"):
        failing.kafka.write_elsewhere(
            AuditEntry(
                at=NOW, actor="api-key:1", role=Access.ADMIN, action=AuditAction.REPLAY, subject="replay 0a1b", detail=detail
            )
        )

    seen = await admin.go(RESENDS)

    for part in ("Replays", "1,020", "20 events to endpoint 1, after 7.evt_9", "To stop one, end its command."):
        assert part in seen.text, part
