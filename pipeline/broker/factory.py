"""Chooses the Kafka client according to the settings. No code above this package knows which one it is."""

from __future__ import annotations

from pipeline.broker.api import Broker
from pipeline.broker.errors import NoSessionError
from pipeline.broker.kafka.broker import KafkaBroker
from pipeline.ops.settings import Settings


def open_broker(settings: Settings, *, slot: str | None = None) -> Broker:
    """Access to Kafka according to the settings. Nothing is connected yet.

    ``slot`` names this process among the members of its groups, also after a restart. None: members are dynamic.

    Raises:
        MissingClientError: the chosen client is not installed.
    """
    if settings.kafka_client == "kafka-python":
        return KafkaBroker(settings, slot=slot)
    try:
        from pipeline.broker.librdkafka.broker import LibrdkafkaBroker  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "confluent_kafka":
            raise
        raise MissingClientError from error
    return LibrdkafkaBroker(settings, slot=slot)


class MissingClientError(NoSessionError):
    """The client that the settings choose is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "kafka_client is librdkafka, and confluent-kafka is not installed: run pip install 'oms-webhooks[librdkafka]', "
            "or set OMS_WEBHOOKS_KAFKA_CLIENT=kafka-python.",
            needs_operator=True,
        )
