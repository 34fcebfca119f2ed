"""Decides how many replicas topics get, and how many must be in sync; and whether Kafka does what a process needs. Pure.

If they are not configured, both numbers follow the cluster: with three brokers, three replicas, of which two must be in sync. So
one broker may fail, and no acknowledged record is on only one disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from pipeline.ops.settings import Settings

RETENTION_MS: Final = "retention.ms"
RETENTION_BYTES: Final = "retention.bytes"
MAX_REPLICAS: Final = 3
"""The highest number of replicas if the number is not configured."""
IN_SYNC_OF_THREE: Final = 2

_MAX_NAMED: Final = 3
"""How many topics a message names. The others are only counted."""

TopicMetadata = Mapping[str, Any]
"""A topic as kafka-python describes it."""


def wanted_replicas(settings: Settings, brokers: int) -> int:
    """How many replicas each partition gets in a cluster with this many brokers."""
    if settings.kafka_replication_factor > 0:
        return settings.kafka_replication_factor
    return max(min(brokers, MAX_REPLICAS), 1)


def wanted_in_sync(settings: Settings, replicas: int) -> int | None:
    """``min.insync.replicas`` of a topic with this many replicas; None: the broker's default."""
    if settings.kafka_min_insync_replicas > 0:
        return settings.kafka_min_insync_replicas
    return IN_SYNC_OF_THREE if replicas >= MAX_REPLICAS else None


def replicas_of(topic: TopicMetadata) -> int:
    """The number of replicas of the partition with the fewest; 0 if unknown."""
    return min((len(partition["replica_nodes"]) for partition in topic["partitions"]), default=0)


def ids_of(topics: Iterable[TopicMetadata]) -> dict[str, UUID]:
    """The ids of topics. Topics are omitted if a broker has no ids."""
    found = {topic["name"]: UUID(str(topic["topic_id"])) for topic in topics if topic.get("topic_id")}
    return {name: topic_id for name, topic_id in found.items() if topic_id.int}


def topic_problem(
    topics: Iterable[TopicMetadata], *, read: Collection[str], written: Collection[str], in_sync: Mapping[str, int]
) -> str | None:
    """Why records cannot be read or written, in words; None if they can.

    ``in_sync`` is ``min.insync.replicas`` by topic, if known. Missing topics are ignored: they are created at startup.
    """
    lacking: list[str] = []
    for topic in topics:
        name, partitions = topic["name"], topic["partitions"]
        if name not in read and name not in written:
            continue
        if silent := [partition["partition_index"] for partition in partitions if partition["leader_id"] < 0]:
            lacking.append(f"{name}, {_numbers(silent)}: no leader, so nothing can be read or written")
            continue
        least = in_sync.get(name, 1)
        if name in written and (few := [partition for partition in partitions if len(partition["isr_nodes"]) < least]):
            found = min(len(partition["isr_nodes"]) for partition in few)
            numbers = _numbers([partition["partition_index"] for partition in few])
            replicas = "1 replica is" if found == 1 else f"{found} replicas are"
            lacking.append(f"{name}, {numbers}: {replicas} in sync, and min.insync.replicas is {least}, so writes are refused")
    if not lacking:
        return None
    more = f"; and {len(lacking) - _MAX_NAMED} more topics" if len(lacking) > _MAX_NAMED else ""
    topics_named = "; ".join(lacking[:_MAX_NAMED])
    return f"A broker answers, but not every topic can be used. {topics_named}{more}. Bring the missing brokers back."


def leaders_of(topics: Iterable[TopicMetadata]) -> dict[int, list[str]]:
    """The partitions that each broker leads, in words, by the broker's id."""
    led: dict[int, list[str]] = {}
    for topic in topics:
        for partition in topic["partitions"]:
            if partition["leader_id"] >= 0:
                led.setdefault(partition["leader_id"], []).append(f"{topic['name']}, partition {partition['partition_index']}")
    return led


def leaders_problem(led: Mapping[int, Sequence[str]], silent: Mapping[int, str]) -> str | None:
    """Which partitions cannot be read or written because this process does not reach their leaders, in words; None if it reaches
    all. ``silent``: why brokers do not answer.
    """
    lacking = []
    for node, why in sorted(silent.items()):
        if node in led:
            more = f", and {len(led[node]) - 1} more" if len(led[node]) > 1 else ""
            lacking.append(f"Broker {node}, which leads {led[node][0]}{more}: {why}")
    if not lacking:
        return None
    return (
        f"A broker answers, but this process does not reach every one that it needs. {' '.join(lacking)} Check the advertised "
        "address of each broker, and firewalls and network policies between it and this process."
    )


def retention_problem(configs: Mapping[str, Mapping[str, str]], required: Mapping[str, int]) -> str | None:
    """Which topics lose deliveries that still wait, in words; None if none does.

    ``configs``: the known settings by topic. ``required``: how many milliseconds a topic must keep its records.
    """
    found: list[str] = []
    for name, least in sorted(required.items()):
        config = configs.get(name, {})
        kept, size = (_number(config.get(setting)) for setting in (RETENTION_MS, RETENTION_BYTES))
        if kept is not None and 0 <= kept < least:
            found.append(f"{name}: {RETENTION_MS} is {kept}, and must be {least}")
        if size is not None and size >= 0:
            found.append(f"{name}: {RETENTION_BYTES} is {size}, and must be -1")
    if not found:
        return None
    more = f"; and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
    return (
        f"Kafka may remove deliveries that still wait; they would not be sent. {'; '.join(found[:_MAX_NAMED])}{more}. Change the "
        "topics with kafka-configs.sh."
    )


def _number(value: str | None) -> int | None:
    try:
        return None if value is None else int(value)
    except ValueError:
        return None


def _numbers(partitions: Sequence[int]) -> str:
    first, *others = sorted(partitions)
    return f"partitions {first}, {', '.join(map(str, others))}" if others else f"partition {first}"
