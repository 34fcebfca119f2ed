"""The minimum rights of each role in Kafka and ClickHouse. They are derived from the topics and tables in the code, so they stay
up to date.

``oms-webhooks grants`` prints them. Tests run every role with exactly these rights, on a real Kafka and on the real engine.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from schemas.topics import Topics


class Grantee(enum.StrEnum):
    """Who needs rights."""

    FANOUT = "fanout"
    RETRY = "retry"
    RECORDER = "recorder"
    API = "api"
    OPERATOR = "operator"
    """The person who creates, changes and checks topics and tables."""
    PRODUCER = "producer"
    """The OMS."""
    AUTOSCALER = "autoscaler"
    """KEDA, which reads the lag."""


Operation = Literal["Read", "Write", "Describe", "DescribeConfigs", "Create", "Alter", "AlterConfigs"]


@dataclass(frozen=True, slots=True)
class KafkaRight:
    """Operations on topics or groups, by name or by prefix."""

    operations: tuple[Operation, ...]
    kind: Literal["topic", "group"]
    names: tuple[str, ...]
    prefixed: bool = False

    def command(self, principal: str, servers: str) -> str:
        """The command of Kafka's tools that grants it."""
        operations = " ".join(f"--operation {operation}" for operation in self.operations)
        names = " ".join(f"--{self.kind} {name}" for name in self.names)
        pattern = " --resource-pattern-type prefixed" if self.prefixed else ""
        return f"kafka-acls.sh --bootstrap-server {servers} --add --allow-principal {principal} {operations} {names}{pattern}"


_LOOK: Final[tuple[Operation, ...]] = ("Describe", "DescribeConfigs")


def kafka_rights(grantee: Grantee, topics: Topics) -> tuple[KafkaRight, ...]:
    """What a grantee may do in Kafka."""
    return _RIGHTS[grantee](topics)


def used_topics(grantees: Iterable[Grantee], topics: Topics) -> tuple[frozenset[str], frozenset[str]]:
    """The topics that grantees read, and those that they write to."""
    rights = [
        right for grantee in grantees for right in kafka_rights(grantee, topics) if right.kind == "topic" and not right.prefixed
    ]
    read = frozenset(name for right in rights if "Read" in right.operations for name in right.names)
    return read, frozenset(name for right in rights if "Write" in right.operations for name in right.names)


def _describes(topics: Topics) -> KafkaRight:
    """At its start, every role compares all topics with their required configuration. That needs no right to read them."""
    return KafkaRight(_LOOK, "topic", _every(topics))


def _every(topics: Topics) -> tuple[str, ...]:
    return tuple(spec.name for spec in topics.specs())


def _reads(*names: str) -> KafkaRight:
    return KafkaRight(("Read",), "topic", names)


def _writes(*names: str) -> KafkaRight:
    return KafkaRight(("Write",), "topic", names)


def _joins(group: str) -> KafkaRight:
    return KafkaRight(("Read",), "group", (group,))


def _delivered(topics: Topics) -> tuple[str, ...]:
    """The topics that a delivery writes to: an attempt, perhaps a retry, a dead letter, news about the endpoint; and the clock."""
    return (
        topics.attempts,
        *topics.delay_topics,
        topics.dead_letters,
        topics.endpoint_health,
        topics.operational_events,
        topics.clock,
    )


def _delivered_or_held(topics: Topics) -> tuple[str, ...]:
    return (*_delivered(topics), topics.held, topics.ordered, topics.rate_shares)


def _fanout(topics: Topics) -> tuple[KafkaRight, ...]:
    reads = _reads(
        *topics.sources,
        topics.operational_events,
        topics.endpoints,
        topics.event_types,
        topics.endpoint_health,
        topics.rate_shares,
    )
    return (_describes(topics), reads, _writes(topics.dispatches, *_delivered_or_held(topics)), _joins(topics.fanout_group))


def _retry(topics: Topics) -> tuple[KafkaRight, ...]:
    # By prefix: delays that are no longer in the schedule are read until they are empty.
    delays = KafkaRight(("Read", *_LOOK), "topic", (topics.delay_prefix,), prefixed=True)
    in_order = (topics.ordered, topics.ordered_progress)
    reads = _reads(topics.endpoints, topics.endpoint_health, topics.held, *in_order, topics.rate_shares)
    writes = _writes(*_delivered_or_held(topics), topics.ordered_progress)
    groups = (topics.retry_group, topics.held_group, topics.ordered_group)
    return (_describes(topics), delays, reads, writes, *map(_joins, groups))


def _recorder(topics: Topics) -> tuple[KafkaRight, ...]:
    # To the health topic: records that Kafka removed before they were recorded, for the overview.
    writes = _writes(topics.dead_letters, topics.endpoint_health)
    # From it: which topics are known, so that a recreated topic is not mistaken for a recorded one.
    return (_describes(topics), _reads(*topics.recorded, topics.endpoint_health), writes, _joins(topics.recorder_group))


def _api(topics: Topics) -> tuple[KafkaRight, ...]:
    changes = (topics.endpoints, topics.event_types, topics.api_keys, topics.ended_sessions, topics.audit)
    # Resends go to the topic without delay, or to the end of their lane; test deliveries write the same as deliveries.
    # And dead letters are published again to their original topics.
    writes = _writes(*changes, *topics.sources, topics.dispatches, topics.ordered, *_delivered(topics))
    reads = _reads(topics.endpoints, topics.event_types, topics.endpoint_health, topics.api_keys, topics.ended_sessions)
    return (_describes(topics), reads, writes)


def _operator(topics: Topics) -> tuple[KafkaRight, ...]:
    # The event types that were added with the API name further topics.
    return (KafkaRight((*_LOOK, "Create", "Alter", "AlterConfigs"), "topic", _every(topics)), _reads(topics.event_types))


def _producer(topics: Topics) -> tuple[KafkaRight, ...]:
    return (KafkaRight(("Write", "Describe"), "topic", topics.sources),)


def _autoscaler(topics: Topics) -> tuple[KafkaRight, ...]:
    scaled = (*topics.sources, topics.attempts, topics.dispatches)
    groups = (topics.fanout_group, topics.recorder_group)
    return (KafkaRight(("Describe",), "topic", scaled), KafkaRight(("Describe",), "group", groups))


_RIGHTS: Final[dict[Grantee, Callable[[Topics], tuple[KafkaRight, ...]]]] = {
    Grantee.FANOUT: _fanout,
    Grantee.RETRY: _retry,
    Grantee.RECORDER: _recorder,
    Grantee.API: _api,
    Grantee.OPERATOR: _operator,
    Grantee.PRODUCER: _producer,
    Grantee.AUTOSCALER: _autoscaler,
}

SUMMED: Final = "attempts_hourly"
APPLIED: Final = "schema_migrations"


def clickhouse_grants(grantee: Grantee, database: str, user: str, cluster: str = "") -> tuple[str, ...]:
    """Statements that give a user the required rights in ClickHouse; empty for a role that does not use it."""
    from pipeline.store.clickhouse_cluster import storage_table  # noqa: PLC0415 - every role loads this file, but only this function needs tables and drivers
    from pipeline.store.rows import PARTITIONED_BY  # noqa: PLC0415

    match grantee:
        case Grantee.RECORDER:
            rights = [(f"SELECT, INSERT ON {database}.{name}") for name in _stored(cluster)]
            rights += [f"SELECT ON {database}.{APPLIED}", "SELECT ON system.mutations"]
            # An upgrade adds to the earlier hourly aggregates.
            rights += [f"SELECT, INSERT ON {database}.{name}" for name in _both(SUMMED, cluster)]
            # Weeks that are older than retention_days are dropped, on every node of a cluster.
            rights += [f"ALTER DELETE ON {database}.{storage_table(table.value, cluster)}" for table in PARTITIONED_BY]
            rights += ["CLUSTER ON *.*"] if cluster else []
        case Grantee.API:
            names = [*_stored(cluster), *_both(SUMMED, cluster), APPLIED]
            rights = [f"SELECT ON {database}.{name}" for name in names]
            # Erasures overwrite, on every node of a cluster.
            from pipeline.store.erase import ERASED  # noqa: PLC0415

            rights += [f"ALTER UPDATE ON {database}.{storage_table(name, cluster)}" for name in ERASED]
            rights += ["CLUSTER ON *.*"] if cluster else []
        case Grantee.OPERATOR:
            made = "CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER TABLE, ALTER VIEW, SELECT, INSERT"
            rights = [f"{made} ON {database}.*"]
            rights += ["CLUSTER ON *.*", "REMOTE ON *.*"] if cluster else []
        case _:
            return ()
    return tuple(f"GRANT {right} TO {user}" for right in rights)


def _stored(cluster: str) -> Iterator[str]:
    from pipeline.store.rows import Table  # noqa: PLC0415 - see clickhouse_grants

    for table in Table:
        yield from _both(table.value, cluster)


def _both(table: str, cluster: str) -> Sequence[str]:
    """The table; on a cluster also the one behind the ``Distributed`` one: the nodes query each other as the same user."""
    from pipeline.store.clickhouse_cluster import storage_table  # noqa: PLC0415 - see clickhouse_grants

    return (table, storage_table(table, cluster)) if cluster else (table,)
