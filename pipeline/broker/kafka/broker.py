"""Kafka access with kafka-python: creates the clients from the settings."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.broker.api import RebalanceListener
from pipeline.broker.configured_broker import ConfiguredBroker
from pipeline.broker.kafka.compat import Hooks, hooks_for
from pipeline.broker.kafka.config import consumer_config, producer_config
from pipeline.broker.kafka.fetch_client import KafkaFetchClient
from pipeline.broker.kafka.group_client import KafkaGroupClient, MemberIdentity
from pipeline.broker.kafka.producer_client import KafkaProducerClient
from pipeline.ops.settings import Settings


class KafkaBroker(ConfiguredBroker):
    """See `pipeline.broker.api.Broker`."""

    def __init__(self, settings: Settings, *, slot: str | None = None) -> None:
        super().__init__(settings, slot=slot)
        self._hooks: Hooks = hooks_for(settings)

    def group_client(self, group: str, topics: Sequence[str], listener: RebalanceListener) -> KafkaGroupClient:
        config = self._hooks.configure(consumer_config(self._settings))
        identity = MemberIdentity(group, topics, self._instance_id(group))
        return KafkaGroupClient(config, identity, listener, hooks=self._hooks, on_replaced=self._replaced)

    def fetch_client(self, *, partition_bytes: int, read_committed: bool = False) -> KafkaFetchClient:
        config = self._hooks.configure(consumer_config(self._settings))
        return KafkaFetchClient(config, partition_bytes=partition_bytes, read_committed=read_committed, hooks=self._hooks)

    def producer_client(self, topics: Sequence[str]) -> KafkaProducerClient:
        return KafkaProducerClient(self._hooks.configure(producer_config(self._settings)), topics, hooks=self._hooks)
