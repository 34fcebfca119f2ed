"""``oms-webhooks publish --check``: it needs no Kafka, writes nothing, and sets the exit code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from consumers.cli import app
from consumers.cli import publish as module
from consumers.cli.runtime_files import RunNote, leave_note
from pipeline.broker.api import Position
from pipeline.ops.settings import Settings
from schemas.event import EventType
from tests.deploy.files import DEPLOY
from tests.unit.sample_events import event, event_of

SHIPMENT = event_of(EventType.SHIPMENT_SHIPPED).replace(b"evt_1", b"evt_2").replace(b"\n", b"")


def run(*arguments: str, given: bytes = b"") -> Result:
    return CliRunner().invoke(app.app, ["publish", *arguments], input=given)


@pytest.fixture(autouse=True)
def _no_kafka(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.chdir(tmp_path)


def test_events_from_standard_input() -> None:
    result = run("--check", given=event() + b"\n" + SHIPMENT)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "line 1: order_completed evt_1 is a valid event; for oms.orders, key R1",
        "line 2: shipment_shipped evt_2 is a valid event; for oms.shipments, key R204816339",
        "2 events: all can be delivered, 0 with warnings.",
    ]


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "event.json"
    file.write_bytes(event_of(EventType.STOCK_ITEM_OUT_OF_STOCK))
    result = run("--check", str(file))
    assert result.exit_code == 0
    assert result.stdout.startswith("stock_item_out_of_stock evt_1 is a valid event; for oms.stock-items, key 9002\n")
    assert run("--check", str(tmp_path / "none.json")).exit_code == 2


def test_each_problem_is_printed_with_its_position_and_remedy() -> None:
    result = run("--check", given=event().replace(b"evt_1", b"a.b") + b"\n" + event('{"number":"R1","total":5}'))
    assert result.exit_code == 1
    first, error, second, warning, summary = result.stdout.splitlines()
    assert first == "line 1: would become a dead letter (invalid_envelope)"
    assert error.startswith("  error  id: ")
    assert "(no dots)" in error
    assert second.startswith("line 2: order_completed evt_1 is a valid event")
    assert warning == "  warning  data.total: It is a whole number, but documented as text or null (Decimal amount as a string)."
    assert summary == "2 events: 1 cannot be delivered, 1 with warnings. Nothing was published."


def test_strict_makes_warnings_fail() -> None:
    odd = event('{"number":"R1","total":5}')
    assert run("--check", given=odd).exit_code == 0
    assert run("--check", "--strict", given=odd).exit_code == 1
    assert run("--check", "--strict", given=event()).exit_code == 0


def test_nothing_is_published_if_one_event_is_unusable() -> None:
    # If all events were usable, it would need a Kafka, and there is none.
    result = run(given=event() + b"\n" + event("{}"))
    assert result.exit_code == 1
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "line 2: would become a dead letter (invalid_payload)" in result.stderr
    assert result.stdout == ""


def test_an_unknown_event_type_is_reported_with_where_to_find_added_types() -> None:
    unknown = event().replace(b"order_completed", b"refund_issued")
    for checks in (["--check"], []):
        result = run(*checks, given=unknown)
        assert result.exit_code == 1
        assert "would become a dead letter (unknown_event)" in result.output
        assert "Only the event types in the settings are known: " in result.stderr
        assert "oms-webhooks event-types list" in result.stderr
    asked = run("--url", "http://127.0.0.1:9", given=unknown)
    assert (asked.exit_code, "need --check" in asked.stderr) == (2, True)
    away = run("--check", "--url", "http://127.0.0.1:9", "--api-key", "k", given=unknown)
    assert (away.exit_code, "is not responding" in away.stderr) == (1, True)


def test_kafka_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The destination used to be printed twice, the second time with a variable that was not set."""
    events = Settings(event_types_file=DEPLOY / "event-types" / "event-types.yaml").event_types
    [sample] = [one.sample for one in events.configured.values() if one.name == "refund_issued"]
    given = event(json.dumps(sample)).replace(b"order_completed", b"refund_issued")
    published: list[str] = []

    async def publish(settings: Settings, values: Sequence[bytes]) -> list[Position]:
        published.append(settings.kafka_bootstrap_servers)
        return []

    monkeypatch.setattr(module, "publish_events", publish)
    monkeypatch.setattr(module, "with_types_on_kafka", lambda chosen: (chosen.knowing(events), ""))
    with leave_note(RunNote("http://127.0.0.1:8080", "key", "127.0.0.1:29092", 3)):
        result = run(given=given)
    assert (result.exit_code, published) == (0, ["127.0.0.1:29092"])
    [where] = result.stderr.splitlines()
    assert where.startswith("Publishing to Kafka at 127.0.0.1:29092, of the local pipeline at http://127.0.0.1:8080 ")


def test_an_empty_input_is_an_error() -> None:
    result = run("--check")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "The input is empty" in result.stderr


def test_input_is_not_treated_as_markup() -> None:
    result = run("--check", given=event(more=',"[bold]x[/bold]":1'))
    assert "[bold]x[/bold]: The envelope has no such member" in result.stdout


def test_the_output_matches_the_documentation() -> None:
    events = [event('{"number":"R758805215","total":60.25}'), event("{}").replace(b"evt_1", b"evt-2")]
    result = run("--check", given=b"\n".join(events).replace(b"evt_1", b"evt-1"))
    text = (Path(__file__).parents[4] / "docs" / "publishing.md").read_text()
    assert f"$ oms-webhooks publish --check events.jsonl\n{result.stdout}```" in text


def test_ctrl_c_says_that_events_may_have_been_published(monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(_: Settings, __: Sequence[bytes]) -> list[Position]:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "publish_events", interrupted)
    monkeypatch.setenv("OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    result = run(given=event() + b"\n" + SHIPMENT)
    assert result.exit_code == 130
    assert "Interrupted. Some or all of 2 events may have been published." in result.stderr
