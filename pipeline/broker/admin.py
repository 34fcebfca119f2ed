"""Topics: make those that are missing, and say where one differs from what it must look like."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError

from pipeline.broker.client import client_config
from pipeline.ops.settings import Settings
from schemas.topics import TopicSpec


class TopicError(Exception):
    """Topics could not be made or read; ``str(error)`` says which and what to do."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a topic is not as it must be."""

    topic: str
    what: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.what} is {self.found}, wanted {self.wanted}"


class TopicAdmin:
    """Administers topics. Its calls block: run them in a thread, or before the event loop."""

    def __init__(self, settings: Settings, answer_ms: int = 30_000) -> None:
        self._settings = settings
        patience = {"request_timeout_ms": answer_ms, "bootstrap_timeout_ms": answer_ms}
        self._client = KafkaAdminClient(**client_config(settings) | patience)

    def __enter__(self) -> TopicAdmin:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def names(self) -> list[str]:
        """Every topic that there is."""
        return [str(name) for name in self._client.list_topics()]

    def create_missing(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Make the topics that do not exist, and return their names. Safe to run from many processes at once.

        Raises:
            TopicError: Kafka refused.
        """
        existing = set(self.names())
        missing = [spec for spec in specs if spec.name not in existing]
        for spec in missing:
            self._create(spec)
        if missing:
            self._client.wait_for_topics([spec.name for spec in missing], timeout_ms=30_000)
        return [spec.name for spec in missing]

    def _create(self, spec: TopicSpec) -> None:
        topic = {
            "num_partitions": spec.partitions or self._settings.kafka_partitions,
            "replication_factor": self._settings.kafka_replication_factor,
            "configs": spec.config(),
        }
        try:
            self._client.create_topics({spec.name: topic}, timeout_ms=30_000)
        except TopicAlreadyExistsError:
            return  # another process was quicker
        except KafkaError as error:
            message = (
                f"Topic {spec.name} could not be made: {error}. Check kafka_replication_factor ({topic['replication_factor']}) "
                "and the permission to create topics, or create it by hand with: " + describe(spec, self._settings)
            )
            raise TopicError(message) from error

    def differences(self, specs: Sequence[TopicSpec]) -> list[Difference]:
        """Compare the topics with what they must look like: missing ones, fewer partitions, other settings."""
        existing = set(self.names())
        present = [spec for spec in specs if spec.name in existing]
        found = [Difference(spec.name, "the topic", "there", "missing") for spec in specs if spec.name not in existing]
        if not present:
            return found
        topics = {topic["name"]: topic for topic in self._client.describe_topics([spec.name for spec in present])}
        resources = [ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in present]
        configs = self._client.describe_configs(resources, config_filter="all").get("topic", {})
        for spec in present:
            found += _partition_differences(spec, topics[spec.name], self._settings.kafka_partitions)
            found += _config_differences(spec, configs.get(spec.name, {}))
        return found


def _partition_differences(spec: TopicSpec, topic: dict[str, Any], default: int) -> Iterable[Difference]:
    wanted, count = spec.partitions or default, len(topic["partitions"])
    # More partitions than the setting says are fine (a topic was scaled out), except where there must be just one.
    if count < wanted or (spec.partitions is not None and count != wanted):
        yield Difference(spec.name, "partitions", str(wanted), str(count))


def _config_differences(spec: TopicSpec, config: dict[str, dict[str, Any]]) -> Iterable[Difference]:
    for name, wanted in spec.config().items():
        # A broker that does not report a setting (the embedded one) cannot be checked for it.
        if name in config and config[name]["value"] != wanted:
            yield Difference(spec.name, name, wanted, str(config[name]["value"]))


def describe(spec: TopicSpec, settings: Settings) -> str:
    """The command of Kafka's own tools that makes the topic."""
    options = " ".join(f"--config {name}={value}" for name, value in spec.config().items())
    partitions = spec.partitions or settings.kafka_partitions
    servers = settings.kafka_bootstrap_servers or "HOST:PORT"
    replicas = settings.kafka_replication_factor
    replication = f"--replication-factor {replicas} " if replicas > 0 else ""
    return (
        f"kafka-topics.sh --bootstrap-server {servers} --create --topic {spec.name} "
        f"--partitions {partitions} {replication}{options}"
    )
