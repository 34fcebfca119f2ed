"""Kafka access with kafka-python: creates the clients from the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.broker.api import RebalanceListener
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.kafka.compat import Hooks, hooks_for
from pipeline.broker.kafka.config import consumer_config, producer_config
from pipeline.broker.kafka.fetch_client import KafkaFetchClient
from pipeline.broker.kafka.group_client import KafkaGroupClient, MemberIdentity
from pipeline.broker.kafka.producer_client import KafkaProducerClient
from pipeline.ops.clock import steady_seconds
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings

log = logger(__name__)


class KafkaBroker:
    """See `pipeline.broker.api.Broker`."""

    def __init__(self, settings: Settings, *, slot: str | None = None) -> None:
        """``slot`` names this process among all members, also after a restart. None: members are dynamic."""
        self._settings = settings
        self._slot = slot
        self._hooks: Hooks = hooks_for(settings)

    @property
    def clock(self) -> Callable[[], float]:
        return steady_seconds

    @property
    def session_seconds(self) -> float:
        return self._settings.kafka_session_timeout_ms / 1000

    def group_client(self, group: str, topics: Sequence[str], listener: RebalanceListener) -> KafkaGroupClient:
        instance_id = None if self._slot is None else f"{group}-{self._slot}"
        config = self._hooks.configure(consumer_config(self._settings))
        identity = MemberIdentity(group, topics, instance_id)
        return KafkaGroupClient(config, identity, listener, hooks=self._hooks, on_replaced=self._replaced)

    def _replaced(self) -> None:
        """Two processes have the same name and would remove each other in turn: this one continues without a name."""
        log.warning("another process has the same member name; this one joins without a name", slot=self._slot)
        self._slot = None

    def fetch_client(self, *, partition_bytes: int, read_committed: bool = False) -> KafkaFetchClient:
        config = self._hooks.configure(consumer_config(self._settings))
        return KafkaFetchClient(config, partition_bytes=partition_bytes, read_committed=read_committed, hooks=self._hooks)

    def producer_client(self, topics: Sequence[str]) -> KafkaProducerClient:
        return KafkaProducerClient(self._hooks.configure(producer_config(self._settings)), topics, hooks=self._hooks)

    def admin(self, answer_seconds: float = 30.0) -> KafkaTopicAdmin:
        return KafkaTopicAdmin(self._settings, answer_seconds)
