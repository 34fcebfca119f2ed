"""``oms-webhooks event-types``: its output, and the exit codes documented in docs/event-types.md."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from consumers.cli import app, known_event_types
from consumers.cli.known_event_types import types_on_kafka
from pipeline.broker.errors import UnavailableError
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.ops.settings import Settings
from schemas.codec import to_json
from schemas.event import EventType
from schemas.event_type_record import EventTypeRecord
from schemas.event_types import BUILT_IN

if TYPE_CHECKING:
    from tests.unit.consumers.commands import Command
    from tests.unit.web.service import Service

SHIPPED = Path(__file__).parents[4] / "deploy" / "event-types" / "event-types.yaml"
ENTRY: dict[str, Any] = {
    "name": "refund_issued",
    "topic": "oms.orders",
    "description": "Money is given back.",
    "schema": {"type": "object", "required": ["id"]},
    "sample": {"id": 7, "order": "R1"},
    "references": {"order_number": "/order"},
}


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # no local pipeline is found
    for name in ("EVENT_TYPES_FILE", "API_URL", "API_KEY"):
        monkeypatch.delenv(f"OMS_WEBHOOKS_{name}", raising=False)


def run(*arguments: object, file: Path | None = None) -> Result:
    env = {"COLUMNS": "300", "NO_COLOR": "1"} | ({"OMS_WEBHOOKS_EVENT_TYPES_FILE": str(file)} if file else {})
    return CliRunner().invoke(app.app, list(map(str, arguments)), env=env)


def test_list() -> None:
    built_in = json.loads(run("event-types", "list", "--json").stdout)
    assert [each["name"] for each in built_in] == list(EventType)
    assert {one["in_pipeline"] for one in built_in} == {None}
    every = json.loads(run("event-types", "list", "--json", file=SHIPPED).stdout)
    assert (len(every), every[-1]["name"], every[-1]["topic"], every[-1]["added"]) == (
        len(EventType) + 3,
        "subscription_paused",
        "oms.subscriptions",
        True,
    )
    assert "refund_issued" in run("event-types", "list", file=SHIPPED).stdout


def test_check() -> None:
    assert run("event-types", "check", SHIPPED).exit_code == 0
    assert run("event-types", "check", file=SHIPPED).exit_code == 0
    assert run("event-types", "check").exit_code == 1
    assert run("event-types", "check", SHIPPED, "--against", SHIPPED).stdout.endswith("Nothing changed.\n")


def test_check_against_an_older_file(tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    changed = tmp_path / "changed.yaml"
    changed.write_text(text.replace("required: [id, paused_until]", "required: [id]"))
    result = run("event-types", "check", changed, "--against", SHIPPED)
    assert (result.exit_code, "change  subscription_paused, data.paused_until: It is no longer required" in result.stdout) == (
        0,
        True,
    )
    assert result.stdout.endswith("\n1 change, 0 of them breaking.\n")
    broken = run("event-types", "check", SHIPPED, "--against", changed)
    assert broken.exit_code == 3
    assert "breaks  subscription_paused, data.paused_until: It is required now" in broken.stdout
    changed.write_text(text.replace("topic: oms.refunds", "topic: webhooks.refunds"))
    unusable = run("event-types", "check", changed)
    assert (unusable.exit_code, "entry 2 (refund_issued), topic: " in unusable.output) == (1, True)


def test_schema_and_grants_include_added_event_types() -> None:
    assert "refund_issued" in json.loads(run("schema", file=SHIPPED).stdout)["$defs"]
    assert "oms.refunds" in run("grants", "--role", "fanout", file=SHIPPED).stdout


def test_grants_and_topics_accept_the_topic_of_a_future_event_type() -> None:
    for role in ("fanout", "api", "producer", "operator"):
        assert "--topic oms.parcels" in run("grants", "--role", role, "--event-topic", "oms.parcels").stdout, role
    refused = run("grants", "--event-topic", "webhooks.attempts")
    assert (refused.exit_code, "a pipeline's own" in refused.stderr) == (2, True)


def test_create_also_creates_the_topics_of_event_types(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, settings = MemoryBroker(), Settings()
    for module in ("consumers.cli.operate", "consumers.cli.known_event_types"):
        monkeypatch.setattr(f"{module}.open_broker", lambda _: broker)
    monkeypatch.setenv("OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    with broker.admin() as admin:
        admin.create_missing([one for one in settings.topics.specs() if one.name == settings.topics.event_types])
    at = datetime(2026, 3, 2, tzinfo=UTC)
    one = EventTypeRecord(
        name="parcel_lost", entry=ENTRY | {"name": "parcel_lost", "topic": "oms.lost"}, created_at=at, updated_at=at
    )
    broker.producer_client([]).send(settings.topics.event_types, 0, b"parcel_lost", to_json(one), [], None)
    made = run("topics", "--create", "--event-topic", "oms.parcels")
    assert made.exit_code == 0, made.output
    assert {"oms.orders", "oms.lost", "oms.parcels"} <= set(broker.cluster.topics)


def test_the_check_of_settings_reports_problems_of_the_file(tmp_path: Path) -> None:
    broken = tmp_path / "types.yaml"
    broken.write_text("- {name: a_b, topic: t, description: d, schema: {}}")
    found = run("settings", "--check", file=broken)
    assert found.exit_code == 1
    assert "entry 1 (a_b), sample: It is missing" in " ".join(found.output.split())


def test_without_a_pipeline_it_says_what_is_missing() -> None:
    alone = run("event-types", "list")
    assert (alone.exit_code, alone.stdout.count("OMS webhooks")) == (0, len(EventType))
    assert "These are only the event types in the settings: no pipeline was specified" in alone.stderr
    assert run("event-types", "list", "--offline").stderr == ""
    away = run("event-types", "list", "--url", "http://127.0.0.1:9", "--api-key", "k")
    assert (away.exit_code, away.stdout, "is not responding" in away.stderr) == (1, alone.stdout, True)
    assert "Only the event types in the settings: no pipeline was specified" in run("schema").stderr
    assert run("schema", "--offline").stderr == ""
    refused = run("schema", "--url", "http://127.0.0.1:9", "--api-key", "k")
    assert (refused.stdout, "Use --offline" in str(refused.exception)) == ("", True)


async def test_commands_know_event_types_added_through_the_api(service: Service, run: Command, tmp_path: Path) -> None:
    file = tmp_path / "types.json"
    file.write_text(json.dumps([ENTRY]))
    assert (await run("event-types", "add", str(file))).exit_code == 0
    rows = {one["name"]: one for one in json.loads((await run("event-types", "list", "--json")).stdout)}
    assert rows["refund_issued"]["origin"] == "api"
    assert (rows["order_completed"]["in_pipeline"], rows["refund_issued"]["in_settings"]) == (True, False)
    assert "refund_issued" in json.loads((await run("schema")).stdout)["$defs"]
    assert "refund_issued" not in json.loads((await run("schema", "--offline")).stdout)["$defs"]
    await run("endpoints", "add", "http://127.0.0.1/hooks")
    assert "refund_issued" in service.kafka.changes[-1].events, "all means all that the pipeline has"

    good = {"id": "e-1", "event_name": "refund_issued", "occurred_at": "2026-03-02T15:04:00Z", "data": {"id": 1, "order": "R9"}}
    checked = await run("publish", "--check", stdin=json.dumps(good))
    assert (checked.exit_code, checked.stdout.splitlines()[0].endswith("for oms.orders, key R9")) == (0, True)
    assert "(invalid_payload)" in (await run("publish", "--check", stdin=json.dumps(good | {"data": {}}))).stdout
    typo = await run("publish", "--check", stdin=json.dumps(good | {"event_name": "refund_isued"}))
    assert (typo.exit_code, "(unknown_event)" in typo.stdout) == (1, True)
    assert "refund_issued" in typo.stdout
    assert "does not have this event type either" in typo.stderr


async def test_searches_accept_added_and_removed_types_only(service: Service, run: Command, tmp_path: Path) -> None:
    file = tmp_path / "types.json"
    file.write_text(json.dumps([ENTRY]))
    await run("event-types", "add", str(file))
    assert (await run("attempts", "--event", "refund_issued")).exit_code == 0
    typo = await run("attempts", "--event", "refund_isued")
    assert (typo.exit_code, "'refund_issued'" in typo.stderr, len(service.attempts.queries)) == (2, True, 1)

    as_file = (await run("event-types", "show", "refund_issued", "--as-file")).stdout
    file.write_text(as_file)
    written = len(service.kafka.records)
    assert (await run("event-types", "add", str(file))).stdout == "refund_issued is unchanged.\n"
    assert len(service.kafka.records) == written
    file.write_text(as_file.replace(ENTRY["description"], "Other words"))
    assert (await run("event-types", "add", str(file))).stdout == "refund_issued is changed.\n"
    assert "from:     the API" in (await run("event-types", "show", "refund_issued")).stdout
    assert (await run("event-types", "show", "order_completed", "--as-file")).exit_code == 1
    await run("event-types", "remove", "refund_issued")
    assert (await run("attempts", "--event", "refund_issued")).exit_code == 0
    assert "refund_issued was removed at 2026-03-02" in (await run("event-types", "list")).stderr


async def test_publishing_commands_read_added_types_from_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    broker, settings = MemoryBroker(), Settings()
    monkeypatch.setattr(known_event_types, "open_broker", lambda _: broker)
    assert (await types_on_kafka(settings)).names == BUILT_IN.names, "there is no topic yet"

    topic, at = settings.topics.event_types, datetime(2026, 3, 2, tzinfo=UTC)
    with broker.admin() as admin:
        admin.create_missing([one for one in settings.topics.specs() if one.name == topic])
    records = [
        EventTypeRecord(name=name, entry=ENTRY | {"name": name, "topic": of}, created_at=at, updated_at=at)
        for name, of in (("refund_issued", "oms.orders"), ("parcel_lost", "oms.parcels"), ("loop_made", "webhooks.attempts"))
    ]
    producer = broker.producer_client([topic])
    for one in records:
        producer.send(topic, 0, one.name.encode(), to_json(one), [], None)
    knowing = settings.knowing(await types_on_kafka(settings))
    assert knowing.event_types.names[len(EventType) :] == ("refund_issued", "parcel_lost"), (
        "topics that no fan-out reads are left out"
    )
    assert knowing.topics.sources[3:] == ("oms.parcels",)
    assert settings.topics_with(["oms.orders", "oms.b", "oms.b"]).sources[3:] == ("oms.b",)
    assert knowing.event_reader.topic_of("refund_issued") == "oms.orders"
    assert settings.event_types.names == BUILT_IN.names

    broker.cluster.is_away = True
    with pytest.raises(UnavailableError):
        await types_on_kafka(settings)
