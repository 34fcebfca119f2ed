"""The commands that call the HTTP API, against the real application."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from consumers.cli.api_client import ApiCallError, ApiClient
from consumers.cli.confirmation import NoAnswerError
from consumers.cli.roles import role_banner
from pipeline.core.search import leaves
from pipeline.endpoints.vault import Vault
from pipeline.store.reports.recent import DeadLetterDetail, DeadLetterSummary
from schemas.audit import AuditAction
from schemas.event_types import BUILT_IN
from tests.unit.consumers.commands import Command
from tests.unit.delivery.delivery_case import answer
from tests.unit.sample_events import held_fact
from tests.unit.schemas.versioned_types import VERSIONED
from tests.unit.web.api.test_resend import BODY, detail
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.service import NOW, Service


async def test_a_test_event_reports_its_outcome(service: Service, run: Command) -> None:
    await service.create()
    good = await run("endpoints", "test", "1", "--event", "shipment_shipped")
    assert (good.exit_code, "acknowledged" in good.stdout, "200 in 250 ms" in good.stdout) == (0, True, True)
    assert json.loads(service.sender.requests[0].body)["event_name"] == "shipment_shipped"

    service.sender.exchange = answer(503)
    bad = await run("endpoints", "test", "1")
    assert bad.exit_code == 1
    assert "not acknowledged" in bad.stdout
    assert "only 200, 201, 202 and 204 acknowledge" in " ".join(bad.stdout.split())  # a line may be broken anywhere
    as_json = await run("endpoints", "test", "1", "--json")
    assert json.loads(as_json.stdout)["outcome"] == "exhausted"


async def test_all_endpoints_are_listed(service: Service, run: Command) -> None:
    """This takes seconds: a page has 200 endpoints, and each is created by a request."""
    for number in range(205):
        await service.create(f"http://127.0.0.1/{number}/hooks")
    listed = (await run("endpoints", "list")).stdout
    assert [number for number in range(205) if f"http://127.0.0.1/{number}/hooks" not in listed] == []
    assert "205 endpoints" in listed
    as_json = json.loads((await run("endpoints", "list", "--json")).stdout)
    assert len({one["target_url"] for one in as_json["endpoints"]}) == 205


@pytest.mark.parametrize("group", ["endpoints", "keys", "dead-letters", "event-types"])
async def test_every_list_has_a_json_format(run: Command, group: str) -> None:
    listed = await run(group, "list", "--json")
    found = json.loads(listed.stdout)
    assert (listed.exit_code, isinstance(found if group == "event-types" else found[group.replace("-", "_")], list)) == (0, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("endpoints", "show", "99"),
        ("endpoints", "pause", "99"),
        ("endpoints", "disable", "99"),
        ("endpoints", "resume", "99"),
        ("endpoints", "retry-policy", "99", "patient"),
        ("endpoints", "verification", "99", "none"),
        ("endpoints", "verify", "99"),
        ("endpoints", "ordered", "99", "--on"),
        ("endpoints", "pin", "99", "--remove"),
        ("endpoints", "drop-held", "99", "--count", "1"),
        ("endpoints", "remove", "99"),
        ("endpoints", "test", "99"),
        ("endpoints", "authentication", "99", "--auth", "none"),
        ("endpoints", "rotate", "99"),
        ("endpoints", "rotate-key-pair", "99"),
        ("keys", "revoke", "00000099"),
        ("dead-letters", "show", "99"),
        ("dead-letters", "dismiss", "99"),
        ("attempts", "resend", "99"),
        ("event-types", "show", "nothing_99"),
        ("event-types", "remove", "nothing_99"),
    ],
)
async def test_a_missing_object_is_named(run: Command, arguments: tuple[str, ...]) -> None:
    group, identifier = arguments[0], arguments[2]
    what = {"keys": "API key", "event-types": "event type"}.get(group, group.removesuffix("s").replace("-", " "))
    command = f"oms-webhooks {group}" + (" list" if group != "attempts" else "")
    refused = (await run(*arguments)).exception
    assert isinstance(refused, ApiCallError)
    assert (str(refused), refused.status) == (f"There is no {what} {identifier}. To list them, run: {command}", 404)


async def test_endpoints_are_verified(service: Service, run: Command) -> None:
    service.sender.exchange = answer(404)
    added = await run("endpoints", "add", "http://127.0.0.1/hooks", "--verification", "signed_event")
    assert "It is not verified yet" in added.stdout
    refused = await run("endpoints", "verify", "1")
    assert refused.exit_code == 1
    assert "did not acknowledge webhook.verify" in " ".join(refused.stdout.split())

    service.sender.exchange = answer(200)
    assert (await run("endpoints", "verify", "1")).stdout == "Endpoint 1 is verified.\n"
    assert "signed_event: verified at" in " ".join((await run("endpoints", "show", "1")).stdout.split())
    assert (await run("endpoints", "verification", "1", "cloudevents_handshake")).exit_code == 1
    assert (await run("endpoints", "verification", "1", "none")).stdout == "Endpoint 1 does not need verification.\n"
    advice = "Run this first: oms-webhooks endpoints verification 1 signed_event (or cloudevents_handshake)"
    assert str((await run("endpoints", "verify", "1")).exception).endswith(f"Verification is off for this endpoint. {advice}")


async def test_removing_an_endpoint_prints_its_url_and_discarded_deliveries(service: Service, run: Command) -> None:
    await service.create(active=False)
    second = await service.create("http://127.0.0.1/other")
    service.learn(held_fact(1, 3))
    removed = await run("endpoints", "remove", "1", "--yes")
    lost = "Held deliveries that are discarded: 3."
    assert removed.stdout == f"Endpoint 1, http://127.0.0.1/hooks, is deleted. {lost}\n"
    assert (await run("endpoints", "remove", str(second), "--yes")).stdout.endswith("is deleted.\n")


async def test_removing_an_endpoint_is_confirmed(service: Service, run: Command) -> None:
    await service.create(active=False)
    service.learn(held_fact(1, 3))
    declined = await run("endpoints", "remove", "1", stdin="n\n")
    question = "Delete endpoint 1, http://127.0.0.1/hooks? Held deliveries that are discarded: 3. [y/N]: "
    assert (declined.exit_code, declined.stdout) == (0, f"{question}n\nNothing was deleted.\n")
    unanswered = await run("endpoints", "remove", "1", stdin="")
    assert isinstance(unanswered.exception, NoAnswerError)
    assert str(unanswered.exception).endswith("add --yes.")
    assert [one["id"] for one in json.loads((await run("endpoints", "list", "--json")).stdout)["endpoints"]] == [1]
    assert "is deleted" in (await run("endpoints", "remove", "1", stdin="y\n")).stdout


async def test_ordered_without_on_or_off_is_refused(service: Service, run: Command) -> None:
    await service.create()
    refused = await run("endpoints", "ordered", "1")
    assert (refused.exit_code, "Use --on or --off." in refused.output, len(service.kafka.changes)) == (2, True, 1)


async def test_errors_of_the_api_are_printed_concisely(service: Service, run: Command) -> None:
    """Without "Invalid resource", which is meant for programs, and without repeating names."""
    one = await run("endpoints", "add", "example.com/hooks")
    assert (one.exit_code, str(one.exception)) == (1, "target_url must start with http:// or https://.")
    several = await run("endpoints", "add", "http://127.0.0.1/x", "--event", "nonsense", "--retry-policy", "nonsense")
    first, *others = str(several.exception).splitlines()
    assert (first, [line[:20] for line in others]) == (
        "Several things are not accepted:",
        ["  events has unknown", "  retry_policy must "],
    )
    await service.create()
    pinned = await run("endpoints", "pin", "1", "order_completed=2")
    assert str(pinned.exception) == "event_type_versions pins order_completed to version 2, but it has only version 1."
    assert str((await run("attempts", "--q", "typo_eq=1")).exception) == "typo_eq: attempts have no attribute typo"
    refused = await run("keys", "list", "--api-key", "wrong")
    assert str(refused.exception) == (
        "The API key is not valid. Check it for missing characters. The key that was sent is from --api-key."
    )


async def test_a_wrong_number_of_held_deliveries_drops_nothing(service: Service, run: Command) -> None:
    await service.create(active=False)
    service.learn(held_fact(1, 3))
    refused = await run("endpoints", "drop-held", "1", "--count", "5")
    message = "3 are held for this endpoint now, not 5, so nothing was dropped. Use --count with the current number."
    assert str(refused.exception) == message


async def test_versions_are_pinned_and_unpinned(service: Service, run: Command) -> None:
    service.events.use(VERSIONED)
    added = await run("endpoints", "add", "http://127.0.0.1/hooks", "--event", "order_completed", "--pin", "order_completed=1")
    assert added.exit_code == 0
    assert "order_completed: only version 1" in " ".join((await run("endpoints", "show", "1")).stdout.split())
    assert (await run("endpoints", "pin", "1", "--remove")).stdout == "Endpoint 1 receives all versions of its event types.\n"
    pinned = await run("endpoints", "pin", "1", "order_completed=1")
    assert pinned.stdout == "Endpoint 1 receives order_completed in version 1 only.\n"
    assert [record.event_type_versions for record in service.kafka.changes] == [
        {"order_completed": 1},
        {},
        {"order_completed": 1},
    ]
    assert (await run("endpoints", "pin", "1", "order_completed=2")).exit_code == 1


async def test_a_retry_policy_is_chosen_and_described(service: Service, run: Command) -> None:
    added = await run("endpoints", "add", "http://127.0.0.1/hooks", "--retry-policy", "impatient")
    assert added.exit_code == 0

    changed = await run("endpoints", "retry-policy", "1", "5s,10m")
    assert changed.stdout == "Endpoint 1: Retries after 5 s and 10 min; gives up after 10 min 5 s.\n"
    assert [record.retry_policy for record in service.kafka.changes] == ["impatient", "5s,10m"]
    shown = " ".join((await run("endpoints", "show", "1")).stdout.split())
    assert "5s,10m: Retries after 5 s and 10 min; gives up after 10 min 5 s." in shown

    wrong = await run("endpoints", "retry-policy", "1", "2m")
    assert isinstance(wrong.exception, ApiCallError)
    assert "Choose from 5s, 1m, 10m, 1h, 6h." in str(wrong.exception)


async def test_a_rotated_secret_is_printed(service: Service, run: Command) -> None:
    await service.create()
    rotated = await run("endpoints", "rotate", "1")
    secret = service.vault.open(service.kafka.changes[-1].secrets[0].sealed)
    assert rotated.exit_code == 0
    assert secret in rotated.stdout
    assert "24 hours" in rotated.stdout


async def test_an_attempt_is_resent(service: Service, run: Command) -> None:
    await service.create()
    service.attempts.details[11] = detail()
    service.attempts.sent["evt_1"] = BODY
    resent = await run("attempts", "resend", "11")
    assert (resent.exit_code, resent.stdout) == (0, "Event evt_1 is queued for endpoint 1, http://127.0.0.1/hooks.\n")
    assert len(service.kafka.to("webhooks.delay.0s")) == 1
    unknown = await run("attempts", "resend", "12")
    assert isinstance(unknown.exception, ApiCallError)


async def test_failed_notifications_of_a_filter_are_resent(
    service: Service, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consumers.cli.search._POLL_SECONDS", 0.01)
    await service.create()
    service.attempts.rows = tuple(attempt_row(id=one, event_id=f"evt_{one}", endpoint_id=1) for one in (1, 2))
    service.attempts.sent = {"evt_1": b"{}"}
    asked = await run("attempts", "resend-failed", "--q", "endpoint_id_eq=1")
    assert "Resend 2 notifications (2 failed attempts)?" in asked.stdout
    assert service.kafka.to("webhooks.delay.0s") == []

    done = await run("attempts", "resend-failed", "--q", "endpoint_id_eq=1", "--yes")
    assert (done.exit_code, "done. 1 of 2 resent, 0 were already delivered, 1 could not be resent." in done.stdout) == (0, True)
    [started] = [line for line in done.stderr.splitlines() if "has started" in line]
    assert done.stdout.startswith(started.removesuffix(" has started. It continues in the API even if this command ends.")), (
        "its id"
    )
    service.attempts.rows = ()
    nothing = await run("attempts", "resend-failed", "--q", "endpoint_id_eq=1", "--yes")
    message = "No failed notification matches that has not been delivered since. Nothing was sent.\n"
    assert (nothing.exit_code, nothing.stdout) == (0, message)
    for query, notice in (
        ("endpoint_id_eq=99", "There is no endpoint 99. It may have been deleted."),
        (
            "event_name_eq=order_complete",
            "There is no event type 'order_complete'. To list them, run: oms-webhooks event-types list",
        ),
    ):
        assert notice in (await run("attempts", "resend-failed", "--q", query, "--yes")).stderr
    wrong = await run("attempts", "resend-failed", "--q", "colour_eq=red", "--yes")
    assert isinstance(wrong.exception, ApiCallError)
    assert len(service.kafka.to("webhooks.delay.0s")) == 1


def fail_first_looks(monkeypatch: pytest.MonkeyPatch, *statuses: int) -> list[int]:
    """Let the first requests for a run's progress fail. Returns the failures still to come."""
    left, call = list(statuses), ApiClient.call

    def fail_first(client: ApiClient, method: str, path: str, **more: Any) -> Any:
        if method == "GET" and path.startswith("resends/") and path != "resends/preview" and left:
            raise ApiCallError("Not now.", left.pop(0))
        return call(client, method, path, **more)

    monkeypatch.setattr(ApiClient, "call", fail_first)
    monkeypatch.setattr("consumers.cli.search._POLL_SECONDS", 0.01)
    return left


async def test_failed_progress_requests_do_not_fail_the_run(
    service: Service, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command used to exit with 1 while the run continued."""
    await service.create()
    service.attempts.rows = (attempt_row(id=1, event_id="evt_1", endpoint_id=1),)
    left = fail_first_looks(monkeypatch, 503, 0, 404, 502)
    done = await run("attempts", "resend-failed", "--q", "endpoint_id_eq=1", "--yes")
    assert (done.exit_code, "done." in done.stdout, left) == (0, True, []), done.output


@pytest.mark.parametrize(("status", "seconds"), [(403, 60.0), (503, 0.0)])
async def test_unavailable_progress_is_reported_with_where_to_find_it(
    service: Service, run: Command, monkeypatch: pytest.MonkeyPatch, status: int, seconds: float
) -> None:
    await service.create()
    service.attempts.rows = (attempt_row(id=1, event_id="evt_1", endpoint_id=1),)
    fail_first_looks(monkeypatch, status)
    monkeypatch.setattr("consumers.cli.search._SILENT_SECONDS", seconds)
    refused = await run("attempts", "resend-failed", "--q", "endpoint_id_eq=1", "--yes")
    message, where = str(refused.exception).splitlines()
    assert (refused.exit_code, message) == (1, "Not now.")
    assert where.startswith(
        f"The run continues unless its process has ended. To see its progress: {service.url}/webhooks/resends/"
    )


async def test_attempts_are_searched_without_a_subcommand(service: Service, run: Command) -> None:
    found = await run("attempts", "--order", "R1", "--json")
    assert (found.exit_code, json.loads(found.stdout)["total_count"]) == (0, 0)
    assert [one.values for part in service.attempts.queries[0].conditions for one in leaves(part)] == [("R1",)]


async def test_keys_are_created_listed_and_revoked(service: Service, run: Command) -> None:
    made = await run("keys", "create", "--name", "Ada [bold]", "--role", "operator")
    [record] = service.ring.valid()
    assert made.exit_code == 0
    assert f"Key {record.id} of Ada [bold], role operator" in made.stdout
    assert "omsw_" in made.stdout
    listed = await run("keys", "list")
    assert record.id in listed.stdout
    assert "omsw_" not in listed.stdout
    kept = await run("keys", "revoke", record.id, stdin="n\n")
    assert kept.stdout == f"Revoke key {record.id}, Ada [bold], role operator? [y/N]: n\nNothing was revoked.\n"
    assert isinstance((await run("keys", "revoke", record.id, stdin="")).exception, NoAnswerError)
    assert service.ring.valid() == [record]
    revoked = await run("keys", "revoke", record.id, "--yes")
    assert revoked.stdout == f"Key {record.id} is revoked.\n"
    assert service.ring.valid() == []


async def test_dead_letters_are_listed_and_shown(service: Service, run: Command) -> None:
    summary = DeadLetterSummary(5, "not_json", "No [red]JSON.", "oms.orders", 1, 2, NOW, 1)
    service.reports.letters = [DeadLetterDetail(summary, None, b"{", ())]
    listed = await run("dead-letters", "list", "--reason", "not_json")
    assert "No [red]JSON." in listed.stdout
    assert "oms.orders 1/2" in listed.stdout
    assert service.reports.asked == [("not_json", None)]
    assert "there is no page 7 (the last page is 1), 1 dead letter" in (await run("dead-letters", "list", "--page", "7")).stdout
    shown = await run("dead-letters", "show", "5")
    assert json.loads(shown.stdout)["value"] == {"content": "{", "encoding": "text"}
    assert (await run("dead-letters", "dismiss", "5")).stdout == "Dead letter 5 is dismissed.\n"
    assert service.kafka.audits[-1].action is AuditAction.DISMISS_DEAD_LETTER
    assert "dismissed" not in listed.stdout
    assert " dismissed " in (await run("dead-letters", "list")).stdout, "so that nobody repairs it again"


async def test_an_empty_result_says_what_may_be_mistyped(service: Service, run: Command) -> None:
    summary = DeadLetterSummary(5, "not_json", "No JSON.", "oms.orders", 1, 2, NOW, 1)
    service.reports.letters = [DeadLetterDetail(summary, None, b"{", ())]
    listed = await run("dead-letters", "list", "--topic", "oms.order")
    assert listed.stdout.endswith("\nno dead letters\n")
    assert listed.stderr.endswith("\nNone match these options. Without them, the list has 1 dead letter.\n")
    assert "None match" not in (await run("dead-letters", "list", "--topic", "oms.orders")).stderr

    await service.create()
    assert (await run("attempts", "--endpoint", "1")).stderr.count("\n") == 1, "only the name of the API"
    searched = await run("attempts", "--endpoint", "99")
    assert (searched.exit_code, searched.stderr.splitlines()[1:]) == (0, ["There is no endpoint 99. It may have been deleted."])


def test_the_first_key_is_shown_with_what_to_do_with_it() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(role_banner("api", "http://127.0.0.1:1", "omsw_key"))
    text = console.export_text()
    assert text.count("omsw_key") == 1
    assert "oms-webhooks keys create" in text
    assert text.startswith("api: health and metrics at http://127.0.0.1:1, dashboard at http://127.0.0.1:1/webhooks\n")


async def test_endpoints_are_encrypted_with_a_new_key(service: Service, run: Command) -> None:
    await service.create()
    assert "The only endpoint is encrypted with the only key" in (await run("endpoints", "reencrypt")).stdout
    service.restart_with(f"{Vault.new_key()},{service.encryption_key}")
    asked = await run("endpoints", "reencrypt", "--status")
    assert (asked.exit_code, asked.stdout) == (1, "Encrypted with an old key: 1 of 1 endpoint. Run this without --status.\n")
    made = await run("endpoints", "reencrypt")
    assert (made.exit_code, "You can remove the other keys" in made.stdout) == (0, True)
    service.restart_with(f"{Vault.new_key()},{Vault.new_key()}")
    lost = await run("endpoints", "reencrypt")
    assert (lost.exit_code, "Cannot be opened with any of the 2 keys: 1 of 1 endpoint; " in lost.stdout) == (1, True)


async def test_event_types_from_a_file_are_added_changed_and_removed_while_running(
    service: Service, run: Command, tmp_path: Path
) -> None:
    entry = {"name": "refund_issued", "topic": "oms.orders", "description": "Money.", "schema": {}, "sample": {"id": 1}}
    file = tmp_path / "types.json"
    file.write_text(json.dumps([entry]))
    assert (await run("event-types", "add", str(file))).stdout == "refund_issued is added.\n"
    assert (await run("endpoints", "add", "http://127.0.0.1/hooks", "--event", "refund_issued")).exit_code == 0
    assert isinstance((await run("event-types", "remove", "refund_issued")).exception, ApiCallError)

    file.write_text(json.dumps([entry | {"schema": {"required": ["id"]}}]))
    refused = await run("event-types", "add", str(file))
    assert "data.id: It is required now" in str(refused.exception)
    assert str(refused.exception).endswith("Give it a new version, or use --allow-breaking.")
    changed = await run("event-types", "add", str(file), "--allow-breaking")
    assert changed.stdout.startswith("refund_issued is changed.\n  data.id: It is required now")
    await run("endpoints", "remove", "1", "--yes")
    assert (await run("event-types", "remove", "refund_issued")).stdout.startswith("refund_issued is removed.")
    assert service.events.types.names == BUILT_IN.names
