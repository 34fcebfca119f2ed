"""How far a consumer is behind the ends of its partitions."""

from __future__ import annotations

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from pipeline.broker.buffers import Buffers
from pipeline.broker.record import Partition
from pipeline.ops import metrics


def measure_lag(consumer: KafkaConsumer, group: str, buffers: Buffers) -> None:
    """Set the metric. What is buffered has been polled and not been looked at."""
    for partition in consumer.assignment():
        end = consumer.highwater(partition)
        if end is None:
            continue
        head = buffers.head(Partition(*partition))
        position = _position(consumer, partition) if head is None else head
        behind = end - (end if position is None else position)
        metrics.CONSUMER_LAG.labels(group, partition.topic, str(partition.partition)).set(max(0, behind))


def _position(consumer: KafkaConsumer, partition: TopicPartition) -> int | None:
    try:
        position: int | None = consumer.position(partition, timeout_ms=0)
    except KafkaError:
        return None  # not known yet; asking for longer would hold up the poll loop
    return position
