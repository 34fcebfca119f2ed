from __future__ import annotations

from datetime import timedelta

import pytest

from consumers.grants import Grantee, clickhouse_grants, kafka_rights
from consumers.run import Role
from schemas.topics import Topics

TOPICS = Topics([timedelta(seconds=5)], "eu.")


def may(grantee: Grantee, operation: str, kind: str = "topic") -> set[str]:
    return {
        name
        for right in kafka_rights(grantee, TOPICS)
        if right.kind == kind and operation in right.operations
        for name in right.names
    }


def test_every_role_is_a_grantee() -> None:
    assert {role.value for role in Role} <= {grantee.value for grantee in Grantee}


@pytest.mark.parametrize("grantee", list(Grantee))
def test_nobody_gets_rights_that_only_an_administrator_needs(grantee: Grantee) -> None:
    rights = kafka_rights(grantee, TOPICS)
    allowed = {"Read", "Write", "Describe", "DescribeConfigs"}
    if grantee is Grantee.OPERATOR:
        allowed |= {"Create", "Alter", "AlterConfigs"}
    assert {operation for right in rights for operation in right.operations} <= allowed
    assert all(name.startswith("eu.") and name != "eu." for right in rights for name in right.names), "nothing outside the prefix"


def test_a_source_topic_is_written_by_the_oms_and_the_api_and_read_by_the_fan_out() -> None:
    for source in TOPICS.sources:
        assert {grantee for grantee in Grantee if source in may(grantee, "Write")} == {Grantee.PRODUCER, Grantee.API}
        assert {grantee for grantee in Grantee if source in may(grantee, "Read")} == {Grantee.FANOUT}


def test_secrets_are_read_by_the_delivering_roles_and_changed_by_the_api() -> None:
    for topic, readers in {
        TOPICS.endpoints: {
            Grantee.FANOUT,
            Grantee.RETRY,
            Grantee.API,
            Grantee.RECORDER,
        },  # the recorder: changes, without secrets
        TOPICS.api_keys: {Grantee.API},
        TOPICS.event_types: {Grantee.FANOUT, Grantee.API, Grantee.OPERATOR},  # no secrets: whoever creates topics must know which
        TOPICS.ended_sessions: {Grantee.API},
    }.items():
        assert {grantee for grantee in Grantee if topic in may(grantee, "Read")} == readers
        assert {grantee for grantee in Grantee if topic in may(grantee, "Write")} == {Grantee.API}


def test_each_group_has_its_members() -> None:
    joined = {grantee: may(grantee, "Read", "group") for grantee in Grantee if may(grantee, "Read", "group")}
    assert joined == {
        Grantee.FANOUT: {TOPICS.fanout_group},
        Grantee.RETRY: {TOPICS.retry_group, TOPICS.held_group, TOPICS.ordered_group},
        Grantee.RECORDER: {TOPICS.recorder_group},
    }


def test_the_command_for_kafka_acls() -> None:
    [right] = kafka_rights(Grantee.PRODUCER, TOPICS)
    assert right.command("User:oms", "kafka:9092") == (
        "kafka-acls.sh --bootstrap-server kafka:9092 --add --allow-principal User:oms --operation Write --operation Describe "
        "--topic eu.oms.orders --topic eu.oms.shipments --topic eu.oms.stock-items"
    )
    [delays] = [right for right in kafka_rights(Grantee.RETRY, TOPICS) if right.prefixed]
    assert delays.command("User:r", "k:1").endswith("--topic eu.webhooks.delay. --resource-pattern-type prefixed")


def test_clickhouse_is_for_the_recorder_the_api_and_the_operator() -> None:
    granted = {grantee: clickhouse_grants(grantee, "shop", "me") for grantee in Grantee}
    assert {grantee for grantee, statements in granted.items() if statements} == {Grantee.RECORDER, Grantee.API, Grantee.OPERATOR}
    assert "GRANT SELECT, INSERT ON shop.attempts TO me" in granted[Grantee.RECORDER]
    assert all(
        statement.startswith(("GRANT SELECT ON shop.", "GRANT ALTER UPDATE ON shop.")) for statement in granted[Grantee.API]
    )
    assert "GRANT ALTER UPDATE ON shop.events TO me" in granted[Grantee.API], "for erasures"
    assert len(granted[Grantee.OPERATOR]) == 1


def test_on_a_cluster_the_local_tables_are_granted_too() -> None:
    statements = clickhouse_grants(Grantee.RECORDER, "shop", "me", "nodes")
    assert {"GRANT SELECT, INSERT ON shop.attempts TO me", "GRANT SELECT, INSERT ON shop.attempts_local TO me"} <= set(statements)
    assert "GRANT CLUSTER ON *.* TO me" in clickhouse_grants(Grantee.OPERATOR, "shop", "me", "nodes")
    api = clickhouse_grants(Grantee.API, "shop", "me", "nodes")
    assert {"GRANT ALTER UPDATE ON shop.events_local TO me", "GRANT CLUSTER ON *.* TO me"} <= set(api)
