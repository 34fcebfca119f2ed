"""Kafka access with librdkafka: creates the clients from the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.broker.api import RebalanceListener
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.librdkafka.fetch_client import LibrdkafkaFetchClient
from pipeline.broker.librdkafka.group_client import LibrdkafkaGroupClient
from pipeline.broker.librdkafka.producer_client import LibrdkafkaProducerClient
from pipeline.ops.clock import steady_seconds
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings

log = logger(__name__)


class LibrdkafkaBroker:
    """See `pipeline.broker.api.Broker`."""

    def __init__(self, settings: Settings, *, slot: str | None = None) -> None:
        """``slot`` names this process among all members, also after a restart. None: members are dynamic."""
        self._settings = settings
        self._slot = slot

    @property
    def clock(self) -> Callable[[], float]:
        return steady_seconds

    @property
    def session_seconds(self) -> float:
        return self._settings.kafka_session_timeout_ms / 1000

    def group_client(self, group: str, topics: Sequence[str], listener: RebalanceListener) -> LibrdkafkaGroupClient:
        instance_id = None if self._slot is None else f"{group}-{self._slot}"
        return LibrdkafkaGroupClient(self._settings, group, topics, listener, instance_id=instance_id, on_replaced=self._replaced)

    def _replaced(self) -> None:
        """Two processes have the same name and would remove each other in turn: this one continues without a name."""
        log.warning("another process has the same member name; this one joins without a name", slot=self._slot)
        self._slot = None

    def fetch_client(self, *, partition_bytes: int, read_committed: bool = False) -> LibrdkafkaFetchClient:
        return LibrdkafkaFetchClient(self._settings, partition_bytes=partition_bytes, read_committed=read_committed)

    def producer_client(self, topics: Sequence[str]) -> LibrdkafkaProducerClient:
        return LibrdkafkaProducerClient(self._settings, topics)

    def admin(self, answer_seconds: float = 30.0) -> KafkaTopicAdmin:
        return KafkaTopicAdmin(self._settings, answer_seconds)
