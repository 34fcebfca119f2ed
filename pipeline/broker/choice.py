"""Which client speaks to Kafka: the setting decides, and nothing above this package knows."""

from __future__ import annotations

from pipeline.broker.api import Broker
from pipeline.broker.kafka.broker import KafkaBroker
from pipeline.ops.settings import Settings


def open_broker(settings: Settings, *, slot: str | None = None) -> Broker:
    """The way to Kafka that the settings choose. Nothing is connected yet.

    ``slot`` names this process among the members of its groups, also after a restart; None: members are dynamic.
    """
    return KafkaBroker(settings, slot=slot)
