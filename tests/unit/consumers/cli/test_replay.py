"""``oms-webhooks replay`` against the real application: complete, resumable, and never twice unless asked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from consumers.cli import replay as module
from consumers.cli.api_client import ApiClient
from consumers.cli.app import app
from consumers.cli.replay import Progressed, _carry_out
from consumers.cli.runtime_files import RunNote, leave_note
from pipeline.store.errors import StoreUnavailableError
from tests.unit.consumers.commands import Command
from tests.unit.web.api.test_replays import deliveries, past, place
from tests.unit.web.endpoint_requests import PATH, request, wrapped
from tests.unit.web.service import API_KEY, Service

CONTINUE = "oms-webhooks replay --resume"
FROM = ("--endpoint", "1", "--since", "2026-03-01")


@pytest.fixture
async def filled(service: Service) -> Service:
    """A service with an endpoint and 45 events for it."""
    await service.create()
    service.past.events = [past(number, 1) for number in range(45)]
    return service


def sent(service: Service) -> list[str]:
    return [one.event.id for one in deliveries(service)]


ALL = [f"evt.{number}" for number in range(45)]


async def test_it_counts_first_and_sends_with_yes(filled: Service, run: Command, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    counted = await run("replay", *FROM, "--state", str(state))
    assert (counted.exit_code, counted.stdout) == (
        0,
        "45 events, 45 notifications.\nNothing was sent. To send them, add --yes.\n",
    )
    assert (sent(filled), state.exists()) == ([], False)

    made = await run("replay", *FROM, "--event", "order_completed", "--rate", "1000", "--state", str(state), "--yes")
    assert made.exit_code == 0
    assert "45 notifications of 45 events are queued (replay " in made.stdout
    assert sent(filled) == ALL
    kept = json.loads(state.read_text())
    assert (kept["is_done"], kept["in_flight"], kept["sent"]) == (True, False, 45)
    again = await run("replay", "--resume", str(state))
    assert str(again.exception) == f"The replay of {state} is done: 45 notifications were sent."
    assert "already exists" in str((await run("replay", *FROM, "--state", str(state), "--yes")).exception)
    assert sent(filled) == ALL


async def test_one_event_is_counted_in_the_singular(service: Service, run: Command, tmp_path: Path) -> None:
    await service.create()
    service.past.events = [past(0, 1)]
    state = tmp_path / "state.json"
    assert "1 event, 1 notification.\n" in (await run("replay", *FROM)).stdout
    made = await run("replay", *FROM, "--state", str(state), "--yes")
    assert "1 notification of 1 event is queued (replay " in made.stdout
    again = await run("replay", "--resume", str(state))
    assert str(again.exception) == f"The replay of {state} is done: 1 notification was sent."


@pytest.mark.parametrize("yes", [(), ("--yes",)])
async def test_if_no_event_matches_it_says_so_and_leaves_no_file(
    service: Service, run: Command, tmp_path: Path, yes: tuple[str, ...]
) -> None:
    """After a typo, it used to say that notifications are queued, or how to send them."""
    await service.create()
    state = tmp_path / "state.json"
    done = await run("replay", *FROM, "--order", "NOPE", "--state", str(state), *yes)
    text = "0 events, 0 notifications.\nNo event matches, so nothing was sent. Check the options.\n"
    assert (done.exit_code, done.stdout, state.exists()) == (0, text, False)


async def test_it_resumes_after_a_refused_step(filled: Service, run: Command, tmp_path: Path) -> None:
    state = tmp_path / "the state.json"
    page = filled.past.page

    async def paused_later(wanted, after, limit):  # type: ignore[no-untyped-def]
        if after is not None:
            filled.past.page = page  # type: ignore[method-assign]
            await request(filled, "PATCH", f"{PATH}/1", **wrapped(active=False))
        return await page(wanted, after, limit)

    filled.past.page = paused_later  # type: ignore[method-assign]
    broken = await run("replay", *FROM, "--rate", "1000", "--state", str(state), "--yes")
    assert "is paused" in str(broken.exception)
    # It used to name neither the file nor the rate, and the default rate may be too high for the receiver.
    assert str(broken.exception).endswith(f"\nThe replay is not finished. Continue with: {CONTINUE} '{state}' --rate 1000")
    assert (sent(filled), json.loads(state.read_text())["in_flight"]) == (ALL[:40], False), "a refused step is not in doubt"

    await request(filled, "PATCH", f"{PATH}/1", **wrapped(active=True))
    assert (await run("replay", "--resume", str(state))).exit_code == 0
    assert sent(filled) == ALL


@pytest.mark.parametrize("in_doubt", ["send", "skip"])
async def test_a_person_decides_about_a_step_without_an_answer(
    filled: Service, run: Command, tmp_path: Path, in_doubt: str
) -> None:
    state = tmp_path / "state.json"
    filled.attempts.error = None
    await run("replay", *FROM, "--rate", "1000", "--state", str(state), "--yes")
    kept = json.loads(state.read_text())
    first = place(19)
    state.write_text(json.dumps(kept | {"after": first, "sent": 20, "events": 20, "is_done": False, "in_flight": True}))
    filled.kafka.records.clear()

    asked = await run("replay", "--resume", str(state))
    assert "Up to 20 events may or may not have been sent" in str(asked.exception)
    assert sent(filled) == []

    made = await run("replay", "--resume", str(state), "--rate", "1000", "--in-doubt", in_doubt)
    assert made.exit_code == 0
    assert sent(filled) == (ALL[20:] if in_doubt == "send" else ALL[40:])


async def test_a_clickhouse_outage_is_reported(filled: Service, run: Command, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    await run("replay", *FROM, "--rate", "1000", "--state", str(state), "--yes")
    kept = json.loads(state.read_text())
    state.write_text(json.dumps(kept | {"after": None, "is_done": False}))
    filled.attempts.error = StoreUnavailableError("It is down.")
    broken = await run("replay", "--resume", str(state))
    assert "It is down." in str(broken.exception)
    assert json.loads(state.read_text())["in_flight"], "after an answer of 503, the step is in doubt"


async def test_missing_and_invalid_arguments_are_refused(filled: Service, run: Command, tmp_path: Path) -> None:
    assert "--endpoint ID and --since TIME" in str((await run("replay")).exception)
    soon = await run("replay", "--endpoint", "1", "--since", "soon")
    assert (soon.exit_code, "soon is not a time" in soon.output) == (2, True)
    state = tmp_path / "state.json"
    state.write_text("{}")
    assert "was not created by" in str((await run("replay", "--resume", str(state))).exception)


async def test_times_may_be_relative_and_empty_options_are_refused(filled: Service, run: Command) -> None:
    asked = await run("replay", "--endpoint", "1", "--since", "yesterday", "--until", "-2h")
    assert "Nothing was sent" in asked.output
    [wanted] = filled.past.asked
    assert (wanted.since.hour, wanted.since.minute, (wanted.until - wanted.since).total_seconds() > 0) == (0, 0, True)
    for option in ("--order", "--since", "--until"):
        given = [one for one in ("--since", "2026-03-01") if option != "--since"]
        refused = await run("replay", "--endpoint", "1", *given, option, "", "--yes")
        assert (refused.exit_code, "it has no value" in refused.output) == (2, True), option
    assert sent(filled) == []


async def test_the_file_of_an_earlier_release_is_resumed(filled: Service, run: Command, tmp_path: Path) -> None:
    """It has empty lists for all events and all orders, which the API refuses."""
    state = tmp_path / "state.json"
    wanted = {
        "endpoint_ids": [1],
        "since": "2026-03-01T00:00:00+00:00",
        "until": "2026-03-05T00:00:00+00:00",
        "event_names": [],
        "order_numbers": [],
        "matched_only": True,
    }
    state.write_text(json.dumps({"run": "0123abcd", "replay": wanted, "total": 1}))
    made = await run("replay", "--resume", str(state), "--rate", "1000")
    assert made.exit_code == 0, made.output + str(made.exception)
    assert sent(filled) != []


async def test_nothing_is_sent_if_progress_cannot_be_saved(filled: Service, run: Command, tmp_path: Path) -> None:
    missing = tmp_path / "none" / "state.json"
    refused = await run("replay", *FROM, "--state", str(missing), "--yes")
    assert str(refused.exception).startswith(f"{missing} cannot be written: No such file or directory.")
    assert sent(filled) == []

    state = tmp_path / "state.json"
    page = filled.past.page

    async def full_later(wanted, after, limit):  # type: ignore[no-untyped-def]
        (tmp_path / "state.json.part").mkdir()
        return await page(wanted, after, limit)

    filled.past.page = full_later  # type: ignore[method-assign]
    broken = await run("replay", *FROM, "--rate", "1000", "--state", str(state), "--yes")
    assert "nothing more is sent" in str(broken.exception)
    assert (sent(filled), json.loads(state.read_text())["in_flight"]) == (ALL[:20], True), "the last step sent is in doubt"


async def test_it_resumes_with_the_pipeline_that_it_was_started_with(
    filled: Service, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with the one that happens to run locally, which has other events and endpoints."""
    state = tmp_path / "state.json"
    await run("replay", *FROM, "--rate", "1000", "--state", str(state), "--yes")
    kept = json.loads(state.read_text())
    assert kept["api"] == filled.url
    kept |= {"api": "https://webhooks.example.com", "after": place(19), "sent": 20, "events": 20, "is_done": False}
    state.write_text(json.dumps(kept))
    filled.kafka.records.clear()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    here = {"OMS_WEBHOOKS_API_URL": None, "OMS_WEBHOOKS_API_KEY": None}
    with leave_note(RunNote(filled.url, API_KEY, "127.0.0.1:1", 3)):
        arguments = ["replay", "--resume", str(state)]
        refused = await asyncio.to_thread(lambda: CliRunner().invoke(app, arguments, env=here))
        nameless = await asyncio.to_thread(lambda: CliRunner().invoke(app, [*arguments, "--url", ""], env=here))
    assert f"was started with the API at https://webhooks.example.com, not with the one at {filled.url}" in str(refused.exception)
    assert (sent(filled), json.loads(state.read_text())) == ([], kept)
    assert (nameless.exit_code, "it has no value" in nameless.output) == (2, True), "it was taken for an explicit URL"
    assert (await run("replay", "--resume", str(state), "--rate", "1000")).exit_code == 0, (
        "with an explicit URL: it may be a new one"
    )
    assert sent(filled) == ALL[20:]


def test_ctrl_c_ends_the_pause_after_a_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At 0.1 per second, the pause after a step of 20 lasts 200 s."""
    interrupt = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))

    def step(*_: object) -> dict[str, Any]:
        interrupt.start()
        return {"events": 20, "sent": 20, "skipped": 0, "next": "1.evt"}

    monkeypatch.setattr(module, "_step", step)
    progressed = Progressed("0123abcd", {}, 45, path=tmp_path / "state.json")
    begun = time.monotonic()
    _carry_out(cast("ApiClient", None), progressed, 0.1)
    interrupt.join()
    assert time.monotonic() - begun < 5
    assert (progressed.sent, progressed.is_done) == (20, False)
