"""Kafka access with librdkafka: creates the clients from the settings."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.broker.api import RebalanceListener
from pipeline.broker.configured_broker import ConfiguredBroker
from pipeline.broker.librdkafka.fetch_client import LibrdkafkaFetchClient
from pipeline.broker.librdkafka.group_client import LibrdkafkaGroupClient
from pipeline.broker.librdkafka.producer_client import LibrdkafkaProducerClient


class LibrdkafkaBroker(ConfiguredBroker):
    """See `pipeline.broker.api.Broker`."""

    def group_client(self, group: str, topics: Sequence[str], listener: RebalanceListener) -> LibrdkafkaGroupClient:
        name = self._instance_id(group)
        return LibrdkafkaGroupClient(self._settings, group, topics, listener, instance_id=name, on_replaced=self._replaced)

    def fetch_client(self, *, partition_bytes: int, read_committed: bool = False) -> LibrdkafkaFetchClient:
        return LibrdkafkaFetchClient(self._settings, partition_bytes=partition_bytes, read_committed=read_committed)

    def producer_client(self, topics: Sequence[str]) -> LibrdkafkaProducerClient:
        return LibrdkafkaProducerClient(self._settings, topics)
