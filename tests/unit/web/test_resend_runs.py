"""/api/webhook/resends: each failed notification of a search is resent once; audited, cancellable, and safe across crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.core.search import Combinator, Condition, Predicate
from pipeline.store.errors import StoreUnavailableError
from pipeline.store.reports.recent import RunRow
from pipeline.store.search.bodies import LARGE_BODY
from pipeline.web.audit import Actor
from pipeline.web.resend_runs import RunInProcess, new_run_id
from schemas.api_key import Access
from schemas.audit import AuditAction, AuditEntry, ResendProgress, RunState
from schemas.codec import from_header, from_json, to_json
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord, Trigger
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.endpoint_requests import NOT_FOUND, PATH, request, wrapped
from tests.unit.web.service import NOW, Service

RESENDS = "/api/webhook/resends"
FILTER = "?q[endpoint_id_eq]=1"


@pytest.fixture
async def failing(service: Service) -> Service:
    """Three events failed at endpoint 1, the first twice; the third was delivered later. A fourth went to a deleted endpoint."""
    await service.create()
    rows = [(1, "evt_1", 1), (2, "evt_1", 1), (3, "evt_2", 1), (4, "evt_3", 1), (6, "evt_4", 9)]
    service.attempts.rows = (
        *(attempt_row(id=number, event_id=event, endpoint_id=endpoint) for number, event, endpoint in rows),
        attempt_row(id=5, event_id="evt_3", endpoint_id=1, state="succeeded", outcome="delivered"),
    )
    service.attempts.sent = {f"evt_{number}": f'{{"n":{number}}}'.encode() for number in range(1, 5)}
    return service


async def ended_run(service: Service, run: str) -> dict[str, Any]:
    """Return the run when it has ended."""
    await until_idle(service)
    found = (await request(service, "GET", f"{RESENDS}/{run}"))[1]
    assert isinstance(found, dict)
    return found


async def until_idle(service: Service) -> None:
    """Wait until no run is in progress."""
    task = service.runs._task
    assert task is not None
    await asyncio.wait([task])


def resent(service: Service) -> list[tuple[str, int, Trigger]]:
    deliveries = [from_header(one.headers, DELIVERY_HEADER, DeliveryRecord) for one in service.kafka.to("webhooks.delay.0s")]
    return [(one.event.id, one.endpoint_id, one.trigger) for one in deliveries]


async def test_each_failed_notification_is_resent_once(failing: Service) -> None:
    status, looked = await request(failing, "GET", f"{RESENDS}/preview{FILTER}")
    assert (status, looked) == (
        200,
        {
            "notifications": 4,
            "attempts": 5,
            "is_complete": True,
            "endpoints": [{"endpoint_id": 1, "count": 3}, {"endpoint_id": 9, "count": 1}],
            "ignored_filters": [],
        },
    )
    status, begun = await request(failing, "POST", f"{RESENDS}{FILTER}")
    assert (status, begun["state"], begun["total"]) == (202, "running", 4)

    shown = await ended_run(failing, begun["id"])
    assert {name: shown[name] for name in ("state", "total", "resent", "delivered", "skipped", "last_attempt_id", "problem")} == {
        "state": "done",
        "total": 4,
        "resent": 2,
        "delivered": 1,
        "skipped": 1,
        "last_attempt_id": 6,
        "problem": "",
    }
    assert resent(failing) == [("evt_1", 1, Trigger.RESEND), ("evt_2", 1, Trigger.RESEND)]
    assert [one.value for one in failing.kafka.to("webhooks.delay.0s")] == [b'{"n":1}', b'{"n":2}']


async def test_a_run_is_audited_before_during_and_after(failing: Service) -> None:
    run = (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"]
    await ended_run(failing, run)

    entries = [(entry.action, entry.subject) for entry in failing.kafka.audits]
    of_run = (AuditAction.RESEND_RUN, f"resend run {run}")
    assert entries == [of_run, (AuditAction.RESEND, "attempt 2"), (AuditAction.RESEND, "attempt 3"), of_run, of_run]
    assert failing.kafka.audits[1].detail == f"event evt_1, endpoint 1, run {run}"
    progress = [
        from_json(entry.detail.encode(), ResendProgress)
        for entry in failing.kafka.audits
        if entry.action is AuditAction.RESEND_RUN
    ]
    assert [(one.state, one.resent) for one in progress] == [(RunState.RUNNING, 0), (RunState.RUNNING, 2), (RunState.DONE, 2)]
    [shown] = (await request(failing, "GET", RESENDS))[1]["runs"]
    assert (shown["id"], shown["state"], shown["started_by"]) == (run, "done", failing.kafka.audits[0].actor)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("", "Add a filter"),
        ("?q[endpoint_id_eq]=1&q[ordr_number_eq]=R1", "ordr_number_eq: attempts have no attribute ordr_number"),
        ("?q[endpoint_id_eq]=", "q[endpoint_id_eq] has no value. Give it a value, or leave it out"),
        ("?q[endpoint_id_eq]=+&q[order_number_eq]=R1", "q[endpoint_id_eq] has no value"),
        ("?q[endpoint_id_eq]&q[order_number_eq]=R1", "q[endpoint_id_eq] has no value"),
    ],
)
async def test_an_empty_or_invalid_filter_resends_nothing(failing: Service, query: str, sentence: str) -> None:
    for method, path in (("POST", f"{RESENDS}{query}"), ("GET", f"{RESENDS}/preview{query}{'&' if query else '?'}strict=1")):
        status, body = await request(failing, method, path)

        assert (status, body["errors"]["q"][0][: len(sentence)]) == (422, sentence)
    assert (failing.kafka.audits, failing.attempts.queries) == ([], [])


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("q[ordr_number_eq]=R1", "ordr_number_eq: attempts have no attribute ordr_number"),
        ("endpoint_id_eq=1", "endpoint_id_eq: unknown parameter; filters look like q[order_number_eq]=R1"),
    ],
)
async def test_a_preview_whose_only_filter_is_misspelt_names_it(failing: Service, query: str, sentence: str) -> None:
    status, body = await request(failing, "GET", f"{RESENDS}/preview?{query}")
    assert (status, body["errors"]["q"]) == (
        422,
        [sentence, "Add a filter, such as an endpoint, a time range or an order number."],
    )


async def test_a_run_larger_than_the_limit_is_refused(failing: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.web.resend_runs.MAX_RESENT", 2)
    assert (await request(failing, "GET", f"{RESENDS}/preview{FILTER}"))[1]["is_complete"] is False
    status, body = await request(failing, "POST", f"{RESENDS}{FILTER}")
    assert (status, body["errors"]["q"]) == (
        422,
        ["More than 2 notifications failed. Narrow the filters, for example by time."],
    )


async def test_only_one_run_at_a_time_and_anybody_may_cancel_it(failing: Service) -> None:
    failing.runs.pause_seconds = 3600.0
    run = (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"]
    status, body = await request(failing, "POST", f"{RESENDS}{FILTER}")
    assert (status, run in body["error"]) == (409, True)

    status, body = await request(failing, "POST", f"{RESENDS}/{run}/cancel")
    assert (status, body["state"]) == (202, "cancelling")
    entry = failing.kafka.audits[-1]
    assert (entry.action, entry.subject) == (AuditAction.RESEND_RUN, f"resend run {run}")


async def test_no_run_starts_while_another_process_has_one_in_progress(failing: Service) -> None:
    failing.kafka.write_elsewhere(run_entry("00000000000000aa"))
    failing.now[0] = NOW + timedelta(seconds=59)
    status, body = await request(failing, "POST", f"{RESENDS}{FILTER}")
    assert (status, body["error"]) == (
        409,
        "Another run is in progress: a key in the settings (0a1b2c3d) started it at 2026-03-02 15:04 UTC (id 00000000000000aa), and it has "
        "processed 4 of 9 notifications. Two runs at once could send the same notifications twice. Nothing was sent. Wait until that run "
        "ends, or cancel it.",
    )
    assert resent(failing) == []


@pytest.mark.parametrize(("id_of_other", "state", "sent"), [("0" * 16, "stopped", 0), ("f" * 16, "done", 2)])
async def test_only_one_of_two_simultaneous_runs_sends(failing: Service, id_of_other: str, state: str, sent: int) -> None:
    """The other process recorded its start in the same millisecond, after this one had checked."""
    listening(failing, AuditAction.RESEND_RUN, lambda: failing.kafka.write_elsewhere(run_entry(id_of_other)))
    shown = await ended_run(failing, (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"])
    assert (shown["state"], shown["resent"], len(resent(failing))) == (state, sent, sent)
    assert (id_of_other in shown["problem"]) == (state == "stopped")


async def test_a_run_waits_until_it_is_recorded(failing: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = failing.runs.on_record
    answers = 3

    async def late(run_id: str | None = None) -> Sequence[RunRow]:
        nonlocal answers
        answers -= 1
        return () if answers >= 0 else await looked(run_id)

    monkeypatch.setattr(failing.runs, "on_record", late)
    listening(failing, AuditAction.RESEND_RUN, lambda: failing.kafka.write_elsewhere(run_entry("0" * 16)))
    shown = await ended_run(failing, (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"])
    assert (shown["state"], resent(failing)) == ("stopped", [])


async def test_the_second_of_two_runs_sees_the_first_while_the_recorder_lags(failing: Service) -> None:
    """The latest records are 90 s old, and the first run continues in its process."""
    first, second = "0" * 16, "f" * 16
    failing.kafka.write_elsewhere(run_entry(first))
    failing.kafka.write_elsewhere(replace(run_entry(second), at=NOW + timedelta(seconds=1)))
    failing.now[0] = NOW + timedelta(seconds=90)
    earlier = await failing.runs.earlier_than(second)
    assert (earlier and earlier.id, await failing.runs.earlier_than(first)) == (first, None)

    status, shown = await request(failing, "POST", f"{RESENDS}/{first}/cancel")
    assert (status, shown["state"], shown["problem"]) == (202, "cancelling", "")
    entry = failing.kafka.audits[-1]
    assert (entry.subject, from_json(entry.detail.encode(), ResendProgress).state) == (f"resend run {first}", RunState.CANCELLING)
    shown = (await request(failing, "GET", f"{RESENDS}/{first}"))[1]
    assert (shown["state"], shown["heard_at"]) == ("stopped", "2026-03-02T15:04:00.512Z"), "a cancellation is not a sign of life"


async def test_a_run_that_died_long_ago_does_not_stop_a_later_one(failing: Service) -> None:
    failing.kafka.write_elsewhere(run_entry("0" * 16))
    failing.kafka.write_elsewhere(replace(run_entry("f" * 16), at=NOW + timedelta(seconds=61)))
    failing.now[0] = NOW + timedelta(seconds=62)
    assert await failing.runs.earlier_than("f" * 16) is None


async def test_a_run_that_is_never_recorded_sends_nothing(failing: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(run_id: str | None = None) -> Sequence[RunRow]:
        failing.now[0] += timedelta(seconds=10)
        return ()

    monkeypatch.setattr(failing.runs, "on_record", nothing)
    failing.runs.give_up_seconds = 0.2
    shown = await ended_run(failing, (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"])
    assert (shown["state"], resent(failing)) == ("stopped", [])
    assert shown["problem"].startswith("The recorder is more than 0.00333333 minutes behind or has stopped, so")
    times = [entry.at for entry in failing.kafka.audits]
    assert len(times) > 2, "meanwhile, it is not considered dead"
    assert max(later - earlier for earlier, later in pairwise(times)) < timedelta(seconds=60)


async def test_a_run_that_waits_to_be_recorded_can_be_cancelled(failing: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(run_id: str | None = None) -> Sequence[RunRow]:
        return ()

    monkeypatch.setattr(failing.runs, "on_record", nothing)
    run = (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"]
    assert (await request(failing, "POST", f"{RESENDS}/{run}/cancel"))[0] == 202
    assert (await ended_run(failing, run))["state"] == "cancelled"
    assert resent(failing) == []


@pytest.mark.parametrize(("seconds", "state", "records"), [(14, "done", 3), (16, "done", 4), (61, "failed", 2)])
async def test_a_slow_run_sends_heartbeats_and_a_silent_one_ends(
    failing: Service, seconds: float, state: str, records: int
) -> None:
    """After a minute of silence, another process considers the run dead and may have started another one."""

    def pass_time() -> None:
        failing.now[0] += timedelta(seconds=seconds)

    listening(failing, AuditAction.RESEND, pass_time)
    shown = await ended_run(failing, (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"])
    assert (shown["state"], "may have started another run" in shown["problem"]) == (state, state == "failed")
    assert sum(entry.action is AuditAction.RESEND_RUN for entry in failing.kafka.audits) == records


async def test_a_cancelled_run_stops_before_its_next_batch(failing: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.web.resend_runs._BATCH", 1)

    def cancel(entry: AuditEntry) -> AuditEntry:
        detail = replace(from_json(entry.detail.encode(), ResendProgress), state=RunState.CANCELLING)
        return replace(entry, detail=to_json(detail).decode())

    # Another process has recorded the request to stop, and this one learns of it only from the audit log.
    listening(failing, AuditAction.RESEND, lambda: failing.kafka.write_elsewhere(cancel(failing.kafka.audits[0])))
    run = (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"]
    shown = await ended_run(failing, run)

    assert (shown["state"], shown["resent"], len(resent(failing))) == ("cancelled", 1, 1)
    status, body = await request(failing, "POST", f"{RESENDS}/{run}/cancel")
    assert (status, body["error"]) == (409, "This run has ended: cancelled.")


def listening(service: Service, action: AuditAction, then: Callable[[], None]) -> None:
    """Call ``do`` when the first audit record of an action is written."""
    todo = [then]

    def heard(entry: AuditEntry) -> None:
        if entry.action is action and todo:
            todo.pop()()

    service.kafka.on_audit = heard


async def test_a_stopped_process_records_its_progress(failing: Service) -> None:
    failing.runs.pause_seconds = 3600.0
    run = (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"]
    work = failing.runs._known.get(run)
    assert work is not None
    while not work.snapshot.progress.resent:  # noqa: ASYNC110 - there is no other signal
        await asyncio.sleep(0)
    await failing.runs.stop()

    progress = from_json(failing.kafka.audits[-1].detail.encode(), ResendProgress)
    assert (progress.state, progress.resent, progress.last_attempt_id) == (RunState.STOPPED, 1, 2)
    assert (await request(failing, "GET", f"{RESENDS}/{run}"))[1]["state"] == "stopped"


def run_entry(run: str, state: RunState = RunState.RUNNING) -> AuditEntry:
    """A run as another process has recorded it."""
    progress = ResendProgress(state=state, total=9, resent=4, last_attempt_id=77)
    return AuditEntry(
        at=NOW,
        actor="api-key:0a1b2c3d",
        role=Access.OPERATOR,
        action=AuditAction.RESEND_RUN,
        subject=f"resend run {run}",
        detail=to_json(progress).decode(),
    )


async def test_a_run_whose_process_died_is_shown_as_stopped(failing: Service) -> None:
    failing.kafka.write_elsewhere(run_entry("00000000000000aa"))
    path = f"{RESENDS}/00000000000000aa"
    failing.now[0] = NOW + timedelta(seconds=59)
    assert (await request(failing, "GET", path))[1]["state"] == "running"
    assert (await request(failing, "POST", f"{path}/cancel"))[0] == 202

    failing.now[0] = NOW + timedelta(seconds=200)
    shown = (await request(failing, "GET", path))[1]
    assert (shown["state"], shown["resent"], shown["last_attempt_id"]) == ("stopped", 4, 77)
    assert shown["problem"].startswith("The run has not reported its progress")
    # Another run can send the rest, and nothing else.
    run = (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"]
    assert (await ended_run(failing, run))["state"] == "done"


@pytest.mark.parametrize("failure", ["kafka", "clickhouse", "something else"])
async def test_a_run_that_fails_says_why(failing: Service, monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    monkeypatch.setattr("pipeline.web.resend_runs._BATCH", 1)

    def fail() -> None:
        failing.kafka.is_down = failure == "kafka"
        failing.attempts.error = {"clickhouse": StoreUnavailableError("gone"), "something else": RuntimeError("x")}.get(failure)

    listening(failing, AuditAction.RESEND, fail)
    run = (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"]
    work = failing.runs._known.get(run)
    assert work is not None
    await until_idle(failing)

    sentence = {"kafka": "Kafka did not confirm", "clickhouse": "Attempts cannot be searched right now"}
    assert work.snapshot.progress.state is RunState.FAILED
    assert work.snapshot.progress.problem.startswith(sentence.get(failure, "Something went wrong on our side"))


async def test_notifications_for_paused_endpoints_are_skipped(failing: Service) -> None:
    await request(failing, "PATCH", f"{PATH}/1", **wrapped(active=False))
    shown = await ended_run(failing, (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"])
    assert (shown["resent"], shown["skipped"], resent(failing)) == (0, 3, [])


async def test_an_unknown_run_is_not_found(failing: Service) -> None:
    for path in ("/00000000000000ff", "/nonsense", "/00000000000000ff/cancel", "/../x/cancel"):
        method = "POST" if path.endswith("cancel") else "GET"
        assert (await request(failing, method, RESENDS + path))[0] == 404
    assert (await request(failing, "GET", f"{RESENDS}/12")) == (404, NOT_FOUND)


async def test_filters_and_their_combinator_are_applied(failing: Service) -> None:
    await request(failing, "GET", f"{RESENDS}/preview?q[m]=or&q[endpoint_id_eq]=1&q[request_body_cont]=ada")
    [query] = failing.attempts.queries
    assert (query.combinator, query.conditions[0]) == (
        Combinator.OR,
        Condition("endpoint_id", Predicate.EQ, (1,)),
    )
    assert [entry.action for entry in failing.kafka.audits] == [AuditAction.SEARCH_BODIES]


async def test_only_a_limited_number_of_runs_is_kept(failing: Service) -> None:
    runs = failing.runs
    runs.give_up_seconds = 0.0
    work = [RunInProcess(runs, Actor("api-key:1", Access.OPERATOR, ""), ()) for _ in range(30)]
    for one in work:
        runs.begin(one)
        await until_idle(failing)
    assert list(runs._known) == [one.snapshot.id for one in work[10:]]


async def test_a_run_just_started_by_another_process_is_waited_for(failing: Service) -> None:
    run = new_run_id(NOW)
    asyncio.get_running_loop().call_later(0.05, failing.kafka.write_elsewhere, run_entry(run))
    status, shown = await request(failing, "GET", f"{RESENDS}/{run}")
    assert (status, shown["id"]) == (200, run)
    status, answer = await request(failing, "GET", f"{RESENDS}/{new_run_id(NOW)}")
    assert (status, "look again before you start another one" in answer["error"]) == (404, True)


@pytest.mark.parametrize(("seconds", "looks"), [(0, 10), (-59, 10), (59, 10), (-61, 1), (61, 1), (-(10**9), 1), (10**9, 1)])
async def test_only_a_run_that_may_be_recent_is_waited_for(
    failing: Service, monkeypatch: pytest.MonkeyPatch, seconds: int, looks: int
) -> None:
    run, looked, asked = new_run_id(NOW.replace(microsecond=0) + timedelta(seconds=seconds)), failing.runs.on_record, 0

    async def count(run_id: str | None = None) -> Sequence[RunRow]:
        nonlocal asked
        asked += 1
        return await looked(run_id)

    failing.now[0] = NOW.replace(microsecond=0)
    failing.runs.look_seconds = 0.0
    monkeypatch.setattr(failing.runs, "on_record", count)
    assert ((await request(failing, "GET", f"{RESENDS}/{run}"))[0], asked) == (404, looks)


async def test_a_large_body_is_read_alone(failing: Service) -> None:
    """Fifty large bodies at once would not fit into memory."""
    failing.attempts.sent["evt_1"] = b"1" * (LARGE_BODY + 1)
    run = (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"]
    assert (await ended_run(failing, run))["resent"] == 2
    assert failing.attempts.bodies_read == [[2, 3, 4, 6], [2]]
    assert [one.value for one in failing.kafka.to("webhooks.delay.0s")] == [failing.attempts.sent["evt_1"], b'{"n":2}']


async def test_bodies_of_expired_attempts_are_requested_once(failing: Service) -> None:
    failing.attempts.expired = {2, 3}
    run = (await request(failing, "POST", f"{RESENDS}{FILTER}"))[1]["id"]
    shown = await ended_run(failing, run)
    assert (shown["resent"], shown["delivered"], shown["skipped"]) == (0, 1, 3)
    assert failing.attempts.bodies_read == [[2, 3, 4, 6]]
