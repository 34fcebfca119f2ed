"""Creates missing topics, and reports differences from their required configuration."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    GroupIdNotFoundError,
    InvalidReplicationFactorError,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from pipeline.broker.api import Partition
from pipeline.broker.errors import TopicError
from pipeline.broker.kafka.config import client_config
from pipeline.broker.kafka.errors import translated
from pipeline.broker.kafka.replication import MAX_REPLICAS, ids_of, replicas_of, wanted_in_sync, wanted_replicas
from pipeline.broker.kafka.session import opening_session
from pipeline.broker.topic_admin import Difference, Growth
from pipeline.ops.settings import Settings
from schemas.topics import TopicSpec

_IN_SYNC: Final = "min.insync.replicas"
_SHOWN_SECONDS: Final = 30.0
_SHOWN_PAUSE: Final = 0.1
"""How long brokers may take to report new partitions, and how often they are asked. They learn of them one after the other."""


class KafkaTopicAdmin:
    """See `pipeline.broker.topic_admin.TopicAdmin`."""

    def __init__(self, settings: Settings, answer_seconds: float = 30.0) -> None:
        """Connect. Each answer may then take ``answer_seconds``.

        Raises:
            NoSessionError: no broker answers, or none accepts the client.
        """
        self._settings = settings
        answer_ms = round(answer_seconds * 1000)
        config = client_config(settings) | {"request_timeout_ms": answer_ms}
        with opening_session(config) as met:
            self._client = KafkaAdminClient(**met)

    def __enter__(self) -> KafkaTopicAdmin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    @translated()
    def names(self) -> list[str]:
        return [str(name) for name in self._client.list_topics()]

    @translated()
    def ids(self, topics: Collection[str]) -> dict[str, UUID]:
        return ids_of(self._client.describe_topics(list(topics)))

    @translated()
    def create_missing(self, specs: Sequence[TopicSpec]) -> list[str]:
        existing = set(self.names())
        missing = [spec for spec in specs if spec.name not in existing]
        for spec in missing:
            self._create(spec)
        if missing:
            self._client.wait_for_topics([spec.name for spec in missing], timeout_ms=30_000)
        return [spec.name for spec in missing]

    def _create(self, spec: TopicSpec) -> None:
        replicas: int | None = None
        try:
            replicas = self._replicas(spec)
            self._client.create_topics({spec.name: self._topic(spec, replicas)}, timeout_ms=30_000)
        except TopicAlreadyExistsError:
            return  # another process was faster
        except KafkaError as error:
            asked = self._settings.kafka_replication_factor if replicas is None else replicas
            message = (
                f"Topic {spec.name} could not be created: {error}. Check kafka_replication_factor ({asked}) "
                "and the permission to create topics, or create it by hand with: " + describe(spec, self._settings, replicas)
            )
            # The brokers of a starting cluster appear one after the other: there may soon be enough of them.
            passes = error.retriable or isinstance(error, InvalidReplicationFactorError)
            raise TopicError(message, needs_operator=not passes) from error

    def _topic(self, spec: TopicSpec, replicas: int) -> dict[str, Any]:
        return {
            "num_partitions": spec.partitions or self._settings.kafka_partitions,
            "replication_factor": replicas,
            "configs": _config(spec, self._settings, replicas),
        }

    def _replicas(self, spec: TopicSpec) -> int:
        """How many replicas to create. A starting cluster does not have all of its brokers yet: its own default may be better."""
        wanted = wanted_replicas(self._settings, self._brokers())
        if self._settings.kafka_replication_factor > 0 or wanted >= MAX_REPLICAS:
            return wanted
        # Asks for the default without creating anything. Refused while there are fewer brokers than that.
        answer = self._client.create_topics({spec.name: self._topic(spec, -1)}, timeout_ms=30_000, validate_only=True)
        default = next((topic.get("replication_factor") or -1 for topic in answer["topics"]), -1)
        return max(wanted, default)

    def _brokers(self) -> int:
        """The number of brokers in the cluster, including those that are down."""
        return len(self._client.describe_cluster()["brokers"])

    @translated()
    def differences(self, specs: Sequence[TopicSpec]) -> list[Difference]:
        existing = set(self.names())
        present = [spec for spec in specs if spec.name in existing]
        found = [Difference(spec.name, "the topic", "there", "missing") for spec in specs if spec.name not in existing]
        if not present:
            return found
        topics = {topic["name"]: topic for topic in self._client.describe_topics([spec.name for spec in present])}
        resources = [ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in present]
        configs = self._client.describe_configs(resources, config_filter="all").get("topic", {})
        replicas = wanted_replicas(self._settings, self._brokers())
        for spec in present:
            found += _partition_differences(spec, topics[spec.name], self._settings, replicas)
            found += _config_differences(spec, configs.get(spec.name, {}), self._settings, replicas_of(topics[spec.name]))
        return found

    @translated()
    def planned_growth(self, specs: Sequence[TopicSpec], wanted: int) -> list[Growth]:
        existing = set(self.names())
        growing = [spec.name for spec in specs if spec.partitions is None and spec.name in existing]
        topics = self._client.describe_topics(growing) if growing else []
        counts = {topic["name"]: len(topic["partitions"]) for topic in topics}
        return [Growth(name, counts[name], wanted) for name in growing if counts[name] < wanted]

    @translated()
    def grow(self, planned: Sequence[Growth]) -> None:
        """See `TopicAdmin.grow`. One request for all topics, so that members of a group rejoin only once.

        Repeating it is harmless: the request states the total number of partitions.

        Raises:
            TopicError: Kafka refused some topics; the others have grown.
        """
        if not planned:
            return
        wanted = {growth.topic: growth.after for growth in planned}
        try:
            answer = self._client.create_partitions(wanted, timeout_ms=30_000, raise_errors=False)
        except KafkaError as error:
            raise _not_grown(str(error)) from error
        refused = [f"{each.name}: {for_code(each.error_code).__name__}" for each in answer.results if each.error_code]
        if refused:
            raise _not_grown("; ".join(refused))
        deadline = time.monotonic() + _SHOWN_SECONDS
        while any(len(topic["partitions"]) < wanted[topic["name"]] for topic in self._client.describe_topics(list(wanted))):
            if time.monotonic() > deadline:
                raise _not_grown(f"the brokers do not report them after {_SHOWN_SECONDS:g} s")
            time.sleep(_SHOWN_PAUSE)

    @translated()
    def forget_commits(self, group: str, topic: str) -> None:
        described = self._client.describe_topics([topic])
        partitions = [TopicPartition(topic, each["partition_index"]) for one in described for each in one["partitions"]]
        try:
            answers = self._client.delete_group_offsets(group, partitions)
        except GroupIdNotFoundError:
            return
        except KafkaError as error:
            raise _not_forgotten(group, topic, error) from error
        for error_type in answers.values():
            if error_type not in (NoError, UnknownTopicOrPartitionError):
                raise _not_forgotten(group, topic, error_type())

    @translated()
    def assigned_partitions(self, group: str) -> dict[str, frozenset[Partition]] | None:
        """See `pipeline.broker.api.Broker.assigned_partitions`."""
        try:
            described = self._client.describe_groups([group])[group]
        except ValueError:  # kafka-python cannot decode the rights that the embedded broker lists
            return None
        if described["error"] or described["group_state"] != "Stable":
            return None
        return {member["member_id"]: _assigned(member["member_assignment"]) for member in described["members"]}


def _assigned(assignment: Any) -> frozenset[Partition]:
    """The partitions of a decoded assignment; none if the member got an empty one."""
    topics = assignment["assigned_partitions"] if assignment else ()
    return frozenset(Partition(each["topic"], number) for each in topics for number in each["partitions"])


def _not_forgotten(group: str, topic: str, error: KafkaError) -> TopicError:
    return TopicError(
        f"The commits of group {group} for {topic} could not be deleted: {error}. Stop the roles that read the topic, and run the "
        "command again. It needs the right Delete for the group, and Read for the topic."
    )


def _not_grown(why: str) -> TopicError:
    return TopicError(
        f"Partitions could not be added: {why}. Check the permission to alter topics (`oms-webhooks grants --role operator`), and "
        "run the command again: it skips what is already done."
    )


def _config(spec: TopicSpec, settings: Settings, replicas: int) -> dict[str, str]:
    """The topic-level settings: the catalogue's, and the deployment's."""
    in_sync = wanted_in_sync(settings, replicas)
    return spec.config() | ({} if in_sync is None else {_IN_SYNC: str(in_sync)})


def _partition_differences(spec: TopicSpec, topic: dict[str, Any], settings: Settings, replicas: int) -> Iterable[Difference]:
    wanted, count = spec.partitions or settings.kafka_partitions, len(topic["partitions"])
    # More partitions than configured are fine (a topic was scaled out), except where there must be exactly one.
    if count < wanted or (spec.partitions is not None and count != wanted):
        yield Difference(spec.name, "partitions", str(wanted), str(count))
    # More replicas than wanted are fine, too.
    if (found := replicas_of(topic)) < replicas:
        yield Difference(spec.name, "replicas", str(replicas), str(found))


def _config_differences(
    spec: TopicSpec, config: dict[str, dict[str, Any]], settings: Settings, replicas: int
) -> Iterable[Difference]:
    wanted = _config(spec, settings, replicas)
    for name, value in wanted.items():
        # A setting that the broker does not report cannot be checked (the embedded broker).
        if name in config and config[name]["value"] != value:
            yield Difference(spec.name, name, value, str(config[name]["value"]))
    in_sync = str(config[_IN_SYNC]["value"]) if _IN_SYNC in config else ""
    if replicas and in_sync.isdecimal() and int(in_sync) > replicas:
        yield Difference(
            spec.name, f"{_IN_SYNC}, with which Kafka refuses every write,", f"{replicas} at most (its replicas)", in_sync
        )


def describe(spec: TopicSpec, settings: Settings, replicas: int | None = None) -> str:
    """The command of Kafka's tools that creates the topic. ``replicas``: the cluster's number, if the settings have none."""
    count = settings.kafka_replication_factor if replicas is None else replicas
    options = " ".join(f"--config {name}={value}" for name, value in _config(spec, settings, count).items())
    partitions = spec.partitions or settings.kafka_partitions
    servers = settings.kafka_bootstrap_servers or "HOST:PORT"
    replication = f"--replication-factor {count} " if count > 0 else ""
    return (
        f"kafka-topics.sh --bootstrap-server {servers} --create --topic {spec.name} "
        f"--partitions {partitions} {replication}{options}"
    )
