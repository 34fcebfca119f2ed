"""Every role with the rights that ``oms-webhooks grants`` prints, and no others, on a real Kafka with its authorizer turned on."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType

from consumers.cli.settings_check import check_settings
from consumers.grants import Grantee, KafkaRight
from consumers.run import Role
from pipeline.broker.errors import TopicError
from pipeline.broker.factory import open_broker
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.producer import Producer
from pipeline.broker.readable_topics import check_topics
from pipeline.endpoints.source_topics import SourceTopics
from pipeline.ops.settings import Settings
from schemas.topics import added_source
from tests.contract.broker.conftest import CLIENTS
from tests.faults.deployment import deployed, simulated_events
from tests.faults.processes import COMMAND
from tests.secure_kafka import SecureKafka
from tests.waiting import until

pytestmark = [pytest.mark.apache, pytest.mark.timeout(300)]

USERS = {grantee.value: f"{grantee.value}-hunter2" for grantee in Grantee} | {"nobody": "nobody-hunter2"}
EVENTS = 150
DELAYS = "500ms,1s,2s,3s,5s"


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    guarded = SecureKafka(tmp_path_factory.mktemp("guarded") / "kafka", USERS, with_acls=True)
    guarded.broker.start()
    yield guarded
    guarded.broker.stop()


def printed(topic_prefix: str, directory: Path) -> list[str]:
    """Return the commands for Kafka, as the command line prints them."""
    environment = {"OMS_WEBHOOKS_KAFKA_TOPIC_PREFIX": topic_prefix, "OMS_WEBHOOKS_RETRY_DELAYS": DELAYS}
    command = [COMMAND, "grants", "--kafka-principal", "User:{role}"]
    done = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if line.startswith("kafka-acls.sh ")]


def acls(command: str) -> list[ACL]:
    """Return the ACLs that Kafka's tool would create for a command."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--bootstrap-server", required=True)
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--resource-pattern-type", default="literal")
    for name in ("--operation", "--topic", "--group"):
        parser.add_argument(name, action="append", default=[])
    given = parser.parse_args(command.split()[1:])
    pattern = ACLResourcePatternType[given.resource_pattern_type.upper()]
    resources = [ResourcePattern(ResourceType.TOPIC, name, pattern) for name in given.topic]
    resources += [ResourcePattern(ResourceType.GROUP, name, pattern) for name in given.group]
    operations = {"DescribeConfigs": "DESCRIBE_CONFIGS", "AlterConfigs": "ALTER_CONFIGS"}
    return [
        ACL(given.allow_principal, "*", ACLOperation[operations.get(name, name.upper())], ACLPermissionType.ALLOW, resource)
        for name in given.operation
        for resource in resources
    ]


def grant(kafka: SecureKafka, commands: list[str]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=kafka.broker.bootstrap_servers)
    try:
        made = admin.create_acls([acl for command in commands for acl in acls(command)])
        assert not made["failed"]
    finally:
        admin.close()


def settings(kafka: SecureKafka, user: str, prefix: str) -> Settings:
    given: dict[str, Any] = {**kafka.settings("SCRAM-SHA-512", user), "kafka_topic_prefix": prefix, "retry_delays": DELAYS}
    return Settings(_env_file=None, kafka_replication_factor=1, kafka_partitions=4, **given)


def make_topics(kafka: SecureKafka, prefix: str) -> None:
    operator = settings(kafka, "operator", prefix)
    with KafkaTopicAdmin(operator) as admin:
        assert admin.create_missing(operator.topics.specs())
        planned = admin.planned_growth(operator.topics.specs(), 5)
        admin.grow(planned)
        assert admin.differences(operator.topics.specs()) == []


def visible(kafka: SecureKafka, user: str, prefix: str) -> set[str]:
    with KafkaTopicAdmin(settings(kafka, user, prefix)) as admin:
        return {name for name in admin.names() if name.startswith(prefix)}


@pytest.mark.parametrize("kafka_client", CLIENTS)
async def test_every_role_works_with_its_printed_grants(
    kafka: SecureKafka, tmp_path: Path, topic_prefix: str, kafka_client: str
) -> None:
    commands = await asyncio.to_thread(printed, topic_prefix, tmp_path)
    await asyncio.to_thread(grant, kafka, commands)
    await asyncio.to_thread(make_topics, kafka, topic_prefix)
    as_itself = {
        role.value: (
            "env",
            f"OMS_WEBHOOKS_KAFKA_SASL_USERNAME={role.value}",
            f"OMS_WEBHOOKS_KAFKA_SASL_PASSWORD={USERS[role.value]}",
            COMMAND,
        )
        for role in Role
    }
    given: dict[str, Any] = {
        **kafka.settings("SCRAM-SHA-512", "producer"),
        "kafka_client": kafka_client,
        "retry_delays": DELAYS,
        "kafka_partitions": "5",
    }
    async with deployed(
        tmp_path, kafka.broker.bootstrap_servers, topic_prefix, seed=3, commands=as_itself, **given
    ) as deployment:
        await deployment.publish(simulated_events(EVENTS, seed=3), rate=100)
        await publish_garbage(deployment.settings)
        await deployment.settle(90)
        async with deployment.api() as client:
            endpoints = (await client.get("/api/webhook/endpoints")).json()["endpoints"]
            tried = await client.post(f"/api/webhook/endpoints/{endpoints[0]['id']}/test")
            assert tried.status_code == 200, tried.text
            [attempt] = (await client.get("/api/webhook/attempts?per_page=1&q[attempt_eq]=2&q[state_eq]=succeeded")).json()[
                "attempts"
            ]
            resent = await client.post(f"/api/webhook/attempts/{attempt['id']}/resend")
            assert resent.status_code == 202, resent.text

            async def dead_letters() -> list[object]:
                found: list[object] = (await client.get("/api/webhook/dead_letters")).json()["dead_letters"]
                return found

            await until(dead_letters)
        await deployment.settle(60)

    # They may do no more than that.
    assert await asyncio.to_thread(visible, kafka, "producer", topic_prefix) == set(deployment.settings.topics.sources)
    assert await asyncio.to_thread(visible, kafka, "nobody", topic_prefix) == set()
    with pytest.raises(TopicError, match="permission to alter topics"):
        await asyncio.to_thread(grow_as_fanout, kafka, topic_prefix)


async def publish_garbage(chosen: Settings) -> None:
    producer = Producer(open_broker(chosen), chosen.topics.sources)
    await producer.start()
    try:
        await producer.send(chosen.topics.orders, key=b"R1", value=b"not an event")
    finally:
        await producer.close()


def grow_as_fanout(kafka: SecureKafka, prefix: str) -> None:
    fanout = settings(kafka, "fanout", prefix)
    with KafkaTopicAdmin(fanout) as admin:
        admin.grow(admin.planned_growth(fanout.topics.specs(), 6))


async def test_a_missing_grant_is_reported(kafka: SecureKafka, topic_prefix: str) -> None:
    found = {finding.what: finding.problem for finding in await check_settings(settings(kafka, "nobody", topic_prefix))}
    assert found.pop(f"Kafka: {kafka.address}") is None
    assert found.pop("Kafka: log in as nobody") is None
    topics = {what: problem for what, problem in found.items() if what.startswith("Kafka: topic")}
    assert topics
    assert all(problem and "or grant DESCRIBE" in problem for problem in topics.values())


@pytest.mark.parametrize("kafka_client", CLIENTS)
async def test_the_topic_of_a_new_event_type_is_created_and_read_only_with_grants(
    kafka: SecureKafka, topic_prefix: str, kafka_client: str
) -> None:
    """A fan-out that subscribed to a topic that it may not read would end, so it checks first."""
    topic = f"{topic_prefix}oms.refunds"
    broker = open_broker(settings(kafka, "fanout", topic_prefix).model_copy(update={"kafka_client": kafka_client}))
    maker = SourceTopics(open_broker(settings(kafka, "api", topic_prefix)), topic_prefix)
    with pytest.raises(TopicError, match=r"--event-topic oms\.refunds"):
        await maker.provide("oms.refunds", is_read=False)
    with KafkaTopicAdmin(Settings(kafka_bootstrap_servers=kafka.broker.bootstrap_servers, kafka_replication_factor=1)) as admin:
        assert admin.create_missing([added_source(topic)]) == [topic]
    with pytest.raises(TopicError, match=r"grants --event-topic oms\.refunds"):  # it may not describe it either
        await maker.provide("oms.refunds", is_read=False)
    assert list((await asyncio.to_thread(check_topics, broker, [topic])).missing) == [topic]
    await asyncio.to_thread(grant, kafka, [KafkaRight(("Describe",), "topic", (topic,)).command("User:fanout", "any:9092")])
    refused = (await asyncio.to_thread(check_topics, broker, [topic])).refused
    assert list(refused) == [topic]
    assert "uthoriz" in refused[topic]
    await asyncio.to_thread(grant, kafka, [KafkaRight(("Read",), "topic", (topic,)).command("User:fanout", "any:9092")])
    assert list((await asyncio.to_thread(check_topics, broker, [topic])).readable) == [topic]
    await asyncio.to_thread(grant, kafka, [KafkaRight(("Describe",), "topic", (topic,)).command("User:api", "any:9092")])
    assert "existed already" in (await maker.provide("oms.refunds", is_read=False))[0]
