"""How long the broker may hold the fetches of a kafka-python reader."""

from __future__ import annotations

from kafka import KafkaConsumer

from pipeline.broker.api import Partition
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.kafka.compat import Speedups
from pipeline.broker.kafka.config import consumer_config
from pipeline.broker.kafka.fetch_client import KafkaFetchClient
from pipeline.ops.settings import Settings
from schemas.topics import TopicSpec
from tests.waiting import wait_until


class _NotedWaits(Speedups):
    """Records each wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[int] = []

    def set_fetch_wait(self, consumer: KafkaConsumer, milliseconds: int) -> None:
        self.waits.append(milliseconds)
        super().set_fetch_wait(consumer, milliseconds)


def test_the_first_fetch_of_new_partitions_is_short(bootstrap_servers: str, topic_prefix: str) -> None:
    settings = Settings(kafka_bootstrap_servers=bootstrap_servers, kafka_replication_factor=1)
    topic = TopicSpec(f"{topic_prefix}empty", "any", "delete", 60_000, partitions=2)
    with KafkaTopicAdmin(settings) as admin:
        admin.create_missing([topic])
    one, other = Partition(topic.name, 0), Partition(topic.name, 1)
    hooks = _NotedWaits()
    reader = KafkaFetchClient(consumer_config(settings), partition_bytes=1024, read_committed=False, hooks=hooks)

    def has_ended(partition: Partition) -> bool:
        assert reader.poll(0.1) == {}
        return reader.end(partition) is not None

    try:
        reader.assign({one: 0})
        assert hooks.waits == [50]
        wait_until(lambda: has_ended(one))
        assert hooks.waits == [50, 500]
        reader.allow_long_polls()
        reader.assign({one: 0, other: 0})
        wait_until(lambda: has_ended(other))
        assert hooks.waits == [50, 500, 5_000, 50, 5_000]
        reader.assign({one: 0})
        assert hooks.waits[-1] == 5_000
    finally:
        reader.close()
