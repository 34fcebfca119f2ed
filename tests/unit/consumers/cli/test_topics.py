"""``oms-webhooks topics``: what it changes in Kafka, and what its table shows."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from consumers.cli.app import app
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.ops.settings import Settings


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> MemoryBroker:
    """A Kafka without topics, which the command uses."""
    broker = MemoryBroker()
    for module in ("consumers.cli.operate", "consumers.cli.known_event_types"):
        monkeypatch.setattr(f"{module}.open_broker", lambda _: broker)
    monkeypatch.setenv("OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("OMS_WEBHOOKS_KAFKA_PARTITIONS", "6")
    return broker


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["topics", *arguments], env={"COLUMNS": "300", "NO_COLOR": "1"})


def partitions_in(table: str) -> dict[str, int]:
    """The numbers in the table, by topic."""
    rows = [[cell.strip() for cell in line.split("│")] for line in table.splitlines() if line.startswith("│")]
    return {row[1]: int(row[3]) for row in rows}


def test_the_table_shows_the_new_number_only_for_grown_topics(broker: MemoryBroker) -> None:
    topics = Settings().topics
    run("--create")
    done = run("--add-partitions", "12", "--topic", topics.orders, "--yes")
    partitions = partitions_in(done.stdout)
    assert done.exit_code == 0, done.output
    assert (partitions[topics.orders], partitions[topics.shipments], partitions[topics.endpoints]) == (12, 6, 1)
    assert [len(broker.cluster.topics[one].logs) for one in (topics.orders, topics.shipments)] == [12, 1]


def test_topics_created_at_the_same_time_get_the_new_number_of_partitions(broker: MemoryBroker) -> None:
    topics = Settings().topics
    with broker.admin() as admin:
        admin.create_missing([one for one in topics.specs() if one.name == topics.orders])
    partitions = partitions_in(run("--create", "--add-partitions", "12", "--yes").stdout)
    assert {one: partitions[one] for one in (topics.orders, topics.shipments, topics.endpoints)} == {
        topics.orders: 12,
        topics.shipments: 12,
        topics.endpoints: 1,
    }
    assert len(broker.cluster.topics[topics.shipments].logs) == 12


def test_partitions_are_not_reduced_below_the_setting(broker: MemoryBroker) -> None:
    topics = Settings().topics
    partitions = partitions_in(run("--create", "--add-partitions", "3", "--yes").stdout)
    assert (partitions[topics.orders], len(broker.cluster.topics[topics.orders].logs)) == (6, 6)


def test_json(broker: MemoryBroker) -> None:
    orders = Settings().topics.orders
    absent = run("--json")
    listed = {one["topic"]: one for one in json.loads(absent.stdout)["topics"]}
    assert (absent.exit_code, listed[orders]["partitions"], listed[orders]["created"]) == (1, 6, False)
    assert listed[orders]["differences"], "it does not exist"
    assert listed[orders]["settings"]["message.timestamp.type"] == "LogAppendTime"
    made = json.loads(run("--create", "--json").stdout)["topics"]
    assert {one["created"] for one in made} == {True}
    refused = run("--json", "--add-partitions", "12")
    assert (refused.exit_code, "It cannot be combined with --add-partitions" in refused.output) == (2, True)


@pytest.mark.parametrize("option", ["--accept-recreated", "--begin-anew"])
def test_a_recreated_topic_is_accepted_with_the_former_option_name_too(
    option: str, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted: list[str] = []

    async def accept(_: Settings, topic: str, **__: object) -> None:
        accepted.append(topic)

    monkeypatch.setattr("consumers.cli.operate.accept_recreated_topic", accept)
    done = run(option, "oms.orders", "--yes")
    assert (accepted, done.stdout.startswith("oms.orders is accepted")) == (["oms.orders"], True), done.output


def test_the_help_has_no_former_names() -> None:
    text = run("--help").stdout
    assert ("--accept-recreated" in text, "--begin-anew" in text) == (True, False)
