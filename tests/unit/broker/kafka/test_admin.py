from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import InvalidReplicationFactorError, TopicAlreadyExistsError, TopicAuthorizationFailedError

from pipeline.broker.errors import TopicError
from pipeline.broker.kafka.admin import KafkaTopicAdmin, describe
from pipeline.broker.topic_admin import Difference
from pipeline.ops.settings import Settings
from schemas.topics import Topics, TopicSpec

SETTINGS = Settings(_env_file=None, kafka_partitions=4, kafka_replication_factor=3)
SPECS = Topics([timedelta(seconds=5)]).specs()
ORDERS, ENDPOINTS = SPECS[0], SPECS[3]
IN_SYNC = {"min.insync.replicas": "2"}


class FakeClient:
    """The calls of kafka-python's KafkaAdminClient that KafkaTopicAdmin makes."""

    def __init__(self) -> None:
        self.topics: dict[str, dict[str, Any]] = {}
        self.errors: dict[str, Exception] = {}
        self.waited_for: list[str] = []
        self.closed = False
        self.grown: dict[str, int] = {}
        self.looks_after_growing = 0
        self.brokers = 3
        self.default_replicas = 1

    def describe_cluster(self) -> dict[str, Any]:
        return {"brokers": [{"broker_id": number, "is_fenced": number == 0} for number in range(self.brokers)]}

    def list_topics(self) -> list[str]:
        return list(self.topics)

    def create_topics(self, new: dict[str, dict[str, Any]], timeout_ms: int, *, validate_only: bool = False) -> dict[str, Any]:
        assert timeout_ms > 0
        for name, topic in new.items():
            if error := self.errors.get(name):
                raise error
            if topic["replication_factor"] == -1 and self.default_replicas > self.brokers:
                raise InvalidReplicationFactorError(f"{self.default_replicas} of {self.brokers}")
            if not validate_only:
                self.topics[name] = topic
        return {"topics": [{"name": name, "replication_factor": self.default_replicas} for name in new]}

    def wait_for_topics(self, names: list[str], timeout_ms: int) -> None:
        assert timeout_ms > 0
        self.waited_for += names

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        # New partitions are shown from the second look on.
        self.looks_after_growing += bool(self.grown)
        for name in self.grown if self.looks_after_growing > 1 else ():
            self.topics[name] |= {"num_partitions": self.grown[name]}
        return [
            {"name": name, "partitions": [{"replica_nodes": [1] * max(1, topic["replication_factor"])}] * topic["num_partitions"]}
            for name, topic in self.topics.items()
            if name in names
        ]

    def create_partitions(self, counts: dict[str, int], timeout_ms: int, *, raise_errors: bool) -> Any:
        assert timeout_ms > 0
        assert not raise_errors
        for name in counts.keys() - self.errors.keys():
            self.grown[name] = counts[name]
        codes = {name: self.errors[name].errno if name in self.errors else 0 for name in counts}  # type: ignore[attr-defined]
        return SimpleNamespace(results=[SimpleNamespace(name=name, error_code=code) for name, code in codes.items()])

    def describe_configs(self, resources: list[Any], config_filter: str) -> dict[str, Any]:
        assert config_filter == "all"
        names = [resource.name for resource in resources]
        return {"topic": {name: {key: {"value": value} for key, value in self.topics[name]["configs"].items()} for name in names}}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setattr("pipeline.broker.kafka.session.reach_brokers", lambda config: config["bootstrap_servers"])
    monkeypatch.setattr("pipeline.broker.kafka.admin.KafkaAdminClient", lambda **_: fake)
    return fake


def test_missing_topics_are_created_with_their_settings(client: FakeClient) -> None:
    client.topics[ORDERS.name] = {"num_partitions": 9, "replication_factor": 3, "configs": {}}

    with KafkaTopicAdmin(SETTINGS) as admin:
        created = admin.create_missing(SPECS)

    assert created == [spec.name for spec in SPECS if spec is not ORDERS]
    assert client.waited_for == created
    assert client.topics[ORDERS.name] == {"num_partitions": 9, "replication_factor": 3, "configs": {}}, (
        "existing topics are left unchanged"
    )
    assert client.topics[ENDPOINTS.name] == {
        "num_partitions": 1,
        "replication_factor": 3,
        "configs": ENDPOINTS.config() | IN_SYNC,
    }
    assert {client.topics[name]["num_partitions"] for name in created} == {1, 4}
    assert client.closed


def test_creating_them_again_does_nothing(client: FakeClient) -> None:
    admin = KafkaTopicAdmin(SETTINGS)
    admin.create_missing(SPECS)
    client.waited_for.clear()

    assert admin.create_missing(SPECS) == []
    assert client.waited_for == []
    assert admin.differences(SPECS) == []


def test_another_process_may_create_a_topic_first(client: FakeClient) -> None:
    client.errors[ORDERS.name] = TopicAlreadyExistsError("there")

    assert ORDERS.name in KafkaTopicAdmin(SETTINGS).create_missing(SPECS)


def test_a_refusal_says_what_to_do(client: FakeClient) -> None:
    client.errors[ORDERS.name] = InvalidReplicationFactorError("one broker only")

    with pytest.raises(
        TopicError, match=r"Topic oms\.orders could not be created: .*one broker only.*kafka_replication_factor \(3\)"
    ) as caught:
        KafkaTopicAdmin(SETTINGS).create_missing(SPECS)
    assert describe(ORDERS, SETTINGS) in str(caught.value)


def test_differences(client: FakeClient) -> None:
    admin = KafkaTopicAdmin(SETTINGS)
    admin.create_missing(SPECS)
    client.topics["oms.orders"] |= {"num_partitions": 3}
    client.topics["oms.shipments"] |= {"num_partitions": 40}
    client.topics["webhooks.endpoints"] |= {"num_partitions": 2, "configs": ENDPOINTS.config() | {"cleanup.policy": "delete"}}
    client.topics["webhooks.attempts"] |= {"configs": {"retention.ms": "1000", "unknown.setting": "x"}}
    del client.topics["webhooks.delay.5s"]

    assert admin.differences(SPECS) == [
        Difference("webhooks.delay.5s", "the topic", "there", "missing"),
        Difference("oms.orders", "partitions", "4", "3"),
        Difference("webhooks.endpoints", "partitions", "1", "2"),
        Difference("webhooks.endpoints", "cleanup.policy", "compact", "delete"),
        Difference("webhooks.attempts", "retention.ms", "604800000", "1000"),
    ]
    assert str(admin.differences(SPECS)[1]) == "oms.orders: partitions is 3, wanted 4"


def test_all_topics_may_be_missing(client: FakeClient) -> None:
    differences = KafkaTopicAdmin(SETTINGS).differences(SPECS)

    assert [difference.topic for difference in differences] == [spec.name for spec in SPECS]
    assert {difference.found for difference in differences} == {"missing"}
    assert client.topics == {}


def test_configured_replicas_and_in_sync_minimum_are_compared(client: FakeClient) -> None:
    settings = SETTINGS.model_copy(update={"kafka_min_insync_replicas": 2})
    admin = KafkaTopicAdmin(settings)
    admin.create_missing(SPECS)
    assert client.topics[ORDERS.name]["configs"] == ORDERS.config() | {"min.insync.replicas": "2"}
    assert admin.differences(SPECS) == []

    client.topics[ORDERS.name] |= {"replication_factor": 2, "configs": ORDERS.config() | {"min.insync.replicas": "1"}}
    assert admin.differences(SPECS) == [
        Difference(ORDERS.name, "replicas", "3", "2"),
        Difference(ORDERS.name, "min.insync.replicas", "2", "1"),
    ]
    assert "--config min.insync.replicas=2" in describe(ORDERS, settings)


UNSET = SETTINGS.model_copy(update={"kafka_replication_factor": -1})


@pytest.mark.parametrize(
    ("brokers", "default", "replicas", "in_sync"),
    [(1, 1, 1, {}), (2, 1, 2, {}), (3, 1, 3, IN_SYNC), (5, 1, 3, IN_SYNC), (2, 2, 2, {}), (3, 3, 3, IN_SYNC)],
)
def test_unset_replicas_follow_the_cluster(
    client: FakeClient, brokers: int, default: int, replicas: int, in_sync: dict[str, str]
) -> None:
    client.brokers, client.default_replicas = brokers, default
    admin = KafkaTopicAdmin(UNSET)

    admin.create_missing(SPECS)

    assert {topic["replication_factor"] for topic in client.topics.values()} == {replicas}
    assert client.topics[ORDERS.name]["configs"] == ORDERS.config() | in_sync
    assert admin.differences(SPECS) == []


def test_a_starting_cluster_is_waited_for_if_its_default_requires_more_brokers(client: FakeClient) -> None:
    client.brokers, client.default_replicas = 1, 3
    with pytest.raises(TopicError, match="could not be created") as caught:
        KafkaTopicAdmin(UNSET).create_missing(SPECS)
    assert not caught.value.needs_operator
    assert client.topics == {}


def test_topics_created_with_one_broker_are_weak_with_three(client: FakeClient) -> None:
    client.brokers = 1
    admin = KafkaTopicAdmin(UNSET)
    admin.create_missing(SPECS)
    assert admin.differences(SPECS) == []

    client.brokers = 3
    assert admin.differences(SPECS) == [Difference(spec.name, "replicas", "3", "1") for spec in SPECS]


def test_three_replicas_with_a_minimum_of_one_are_weak(client: FakeClient) -> None:
    admin = KafkaTopicAdmin(UNSET)
    admin.create_missing(SPECS)
    client.topics[ORDERS.name]["configs"] = ORDERS.config() | {"min.insync.replicas": "1"}
    assert admin.differences(SPECS) == [Difference(ORDERS.name, "min.insync.replicas", "2", "1")]


def test_a_topic_that_refuses_every_write_is_named(client: FakeClient) -> None:
    client.brokers = 1
    admin = KafkaTopicAdmin(UNSET)
    admin.create_missing(SPECS)
    client.topics[ORDERS.name]["configs"] = ORDERS.config() | IN_SYNC
    [found] = admin.differences(SPECS)
    assert str(found) == (
        "oms.orders: min.insync.replicas, with which Kafka refuses every write, is 2, wanted 1 at most (its replicas)"
    )


def test_topics_with_a_configured_number_of_partitions_grow_once(client: FakeClient) -> None:
    admin = KafkaTopicAdmin(SETTINGS)
    admin.create_missing(SPECS)
    client.topics[ORDERS.name] |= {"num_partitions": 12}

    planned = admin.planned_growth(SPECS, 8)
    assert {growth.topic for growth in planned} == {spec.name for spec in SPECS if spec.partitions is None and spec is not ORDERS}
    assert {(growth.before, growth.after) for growth in planned} == {(4, 8)}
    admin.grow(planned)
    admin.grow([])
    assert client.looks_after_growing == 2, "it waited until they were shown"
    assert client.topics[ENDPOINTS.name]["num_partitions"] == 1
    assert admin.planned_growth(SPECS, 8) == []
    assert admin.planned_growth(SPECS, 4) == []


def test_a_topic_that_cannot_be_altered_is_named(client: FakeClient) -> None:
    admin = KafkaTopicAdmin(SETTINGS)
    admin.create_missing(SPECS)
    client.errors["webhooks.attempts"] = TopicAuthorizationFailedError("no")
    with pytest.raises(TopicError, match=r"webhooks\.attempts: TopicAuthorizationFailedError\. Check the permission to alter"):
        admin.grow(admin.planned_growth(SPECS, 8))
    assert client.grown[ORDERS.name] == 8
    assert "webhooks.attempts" not in client.grown


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_command_that_creates_a_topic_is_complete(spec: TopicSpec) -> None:
    command = describe(spec, SETTINGS)

    assert command.startswith(
        f"kafka-topics.sh --bootstrap-server HOST:PORT --create --topic {spec.name} "
        f"--partitions {spec.partitions or 4} --replication-factor 3 --config "
    )
    for name, value in spec.config().items():
        assert f"--config {name}={value}" in command


def test_the_command_names_the_servers_and_omits_unset_replicas() -> None:
    command = describe(ORDERS, Settings(_env_file=None, kafka_bootstrap_servers="a:9092,b:9092"))

    assert command.startswith("kafka-topics.sh --bootstrap-server a:9092,b:9092 --create ")
    assert "--replication-factor" not in command
