"""A writer, by kafka-python."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from pipeline.broker.api import BrokerError, NoSessionError, Pending, Position, PublishError, UnavailableError
from pipeline.broker.kafka.compat import Hooks
from pipeline.broker.kafka.errors import ours
from pipeline.broker.kafka.session import opening_session
from pipeline.ops.logs import logger

log = logger(__name__)

_CONNECT_S: Final = 10.0
_BLOCK_MS: Final = 20
"""The longest that kafka-python may hold up the event loop: it asks for a topic's partitions when it has forgotten them."""


class KafkaProducerClient:
    """See `pipeline.broker.api.ProducerClient`. What is pending is a future of kafka-python's."""

    def __init__(self, config: dict[str, Any], topics: Collection[str], *, hooks: Hooks) -> None:
        """Connect, and learn of the topics.

        Raises:
            NoSessionError: no broker let the client in, or told of the topics.
        """
        with opening_session(config) as met:
            self._producer = KafkaProducer(**met | {"max_block_ms": _BLOCK_MS})
        hooks.wait_while_full(self._producer)
        deadline = time.monotonic() + _CONNECT_S
        try:
            for topic in topics:
                self._learn(topic, deadline)
        except BaseException:
            self._producer.close(timeout=0)
            raise

    def _learn(self, topic: str, deadline: float) -> None:
        while True:
            try:
                self.partitions(topic)
            except UnavailableError as error:
                if time.monotonic() > deadline:
                    message = f"Kafka did not tell of {topic} within {_CONNECT_S:.0f} s ({error})"
                    raise NoSessionError(message) from error
            else:
                return

    def partitions(self, topic: str) -> Collection[int]:
        try:
            known: Collection[int] = self._producer.partitions_for(topic)
        except KafkaError as error:
            raise _why(topic, error) from error
        return known

    def send(
        self,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        timestamp_ms: int | None,
    ) -> Pending:
        try:
            pending: Pending = self._producer.send(
                topic, key=key, value=value, headers=list(headers), partition=partition, timestamp_ms=timestamp_ms
            )
        except KafkaError as error:
            raise _why(topic, error) from error
        except Exception as error:  # what kafka-python's checks raise: it would raise it again
            raise PublishError(f"Kafka does not take a record for {topic}: {error}") from error
        return pending

    def serve(self) -> None:
        """Nothing to do: kafka-python has a thread for it."""

    def position(self, pending: Pending) -> Position:
        future: Any = pending
        if future.exception is not None:
            raise _why("the topic", future.exception) from future.exception
        metadata = future.value
        return Position(metadata.topic, metadata.partition, metadata.offset, metadata.timestamp)

    def close(self, seconds: float) -> None:
        try:
            self._producer.close(timeout=seconds)
        except KafkaError as error:
            log.warning("the producer was closed with records that Kafka had not acknowledged", error=repr(error))


def _why(topic: str, error: Exception) -> BrokerError:
    if isinstance(error, KafkaError) and isinstance(ours(error), UnavailableError):
        return ours(error)
    return PublishError(f"Kafka does not take a record for {topic}: {error}")
