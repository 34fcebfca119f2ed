"""What the roles of a process use to read from Kafka and to write to it. Nothing is started here."""

from __future__ import annotations

from dataclasses import dataclass

from consumers.start_context import StartContext
from pipeline.broker.api import Broker
from pipeline.broker.factory import open_broker
from pipeline.broker.producer import Producer
from pipeline.broker.topic_ids import TopicIds
from pipeline.delivery.broker_clock import BrokerClock
from pipeline.delivery.missing_records import MissingRecords
from pipeline.endpoints.health import HealthTable
from pipeline.ops.instance_slots import claim_slot
from pipeline.ops.settings import Settings


@dataclass(frozen=True, slots=True)
class KafkaContext:
    """One per process."""

    broker: Broker
    producer: Producer
    clock: BrokerClock
    """Started only by roles that deliver, or make test deliveries. Until then, the producer does not use it."""
    health: HealthTable
    losses: MissingRecords
    topic_ids: TopicIds


def make_kafka(context: StartContext) -> KafkaContext:
    """Build the clients. They do not connect yet."""
    topics = context.settings.topics
    broker = open_broker(context.settings, slot=_slot(context))
    clock = BrokerClock(topics.clock)
    producer = _producer(context.settings, broker, clock)
    losses = MissingRecords(producer, topics.endpoint_health)
    context.health.warn("records missing", losses.warning)
    read, _ = context.topics()
    topic_ids = TopicIds(read - {topics.clock, topics.rate_shares})  # their records mean nothing a few seconds later
    context.health.add("topics", topic_ids.problem)
    health = HealthTable(broker, topics.endpoint_health, on_missing=losses.learn, on_topic_ids=topic_ids.learn)
    return KafkaContext(broker, producer, clock, health, losses, topic_ids)


def _producer(settings: Settings, broker: Broker, clock: BrokerClock) -> Producer:
    written = [spec.name for spec in settings.topics.specs()]
    return Producer(broker, written, max_bytes=settings.max_outstanding_bytes, stamp=clock.stamp)


def _slot(context: StartContext) -> str | None:
    """The name of this process's group members, which survives a restart."""
    settings = context.settings
    if not settings.kafka_static_members:
        return None
    slot = claim_slot(f"{settings.kafka_bootstrap_servers} {settings.kafka_topic_prefix} {sorted(context.roles)}")
    context.stack.callback(slot.release)
    return slot.name
