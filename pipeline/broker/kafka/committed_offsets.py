"""Reads the commits of a group without being a member."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError

from pipeline.broker.api import Committed, Partition
from pipeline.broker.kafka.config import client_config
from pipeline.broker.kafka.errors import translated
from pipeline.broker.kafka.session import opening_session
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings

log = logger(__name__)

_ANSWER_MS: Final = 5_000


class CommittedOffsets:
    """The commits of one group. Connects at the first request, and keeps the connection. Used by one thread."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._config = client_config(settings) | {"request_timeout_ms": _ANSWER_MS}
        self._group = group
        self._client: KafkaAdminClient | None = None

    def read(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        """The committed offsets. Partitions without a commit are omitted.

        Raises:
            UnavailableError: no answer.
        """
        if not partitions:
            return {}
        if self._client is None:
            with opening_session(self._config):
                self._client = KafkaAdminClient(**self._config)
        asked = {self._group: [TopicPartition(*partition) for partition in partitions]}
        try:
            with translated():
                stored = self._client.list_group_offsets(asked)[self._group]
        except Exception:
            self.close()  # the next request gets a new connection
            raise
        return {
            Partition(*partition): Committed(found.offset, text_of(found.metadata))
            for partition, found in stored.items()
            if found.offset >= 0
        }

    def close(self) -> None:
        """Disconnect. Never raises."""
        client, self._client = self._client, None
        if client is not None:
            try:
                client.close()
            except KafkaError as error:
                log.warning("a client could not be closed cleanly", error=repr(error))


def text_of(metadata: str | None) -> str:
    """The metadata text of a commit, without the trailing zero byte of confluent-kafka."""
    return (metadata or "").rstrip("\0")
