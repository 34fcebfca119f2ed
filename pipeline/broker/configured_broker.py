"""What both Kafka clients have in common: the settings, and the name of this process in its groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Final

from pipeline.broker.api import Partition
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.ops.clock import steady_seconds
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings

log = logger(__name__)

_DESCRIPTION_S: Final = 2.0
"""How long a coordinator may take to describe its group."""


class ConfiguredBroker:
    """The parts of a `pipeline.broker.api.Broker` that do not depend on the client."""

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

    def assigned_partitions(self, group: str) -> Mapping[str, Set[Partition]] | None:
        with self.admin(_DESCRIPTION_S) as admin:
            return admin.assigned_partitions(group)

    def admin(self, answer_seconds: float = 30.0) -> KafkaTopicAdmin:
        return KafkaTopicAdmin(self._settings, answer_seconds)

    def _instance_id(self, group: str) -> str | None:
        return None if self._slot is None else f"{group}-{self._slot}"

    def _replaced(self) -> None:
        """Two processes have the same name and would remove each other in turn: this one continues without a name."""
        log.warning("another process has the same member name; this one joins without a name", slot=self._slot)
        self._slot = None
