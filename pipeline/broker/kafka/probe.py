"""Does Kafka answer? Asked with a client of its own: consumers and producers wait in silence while the brokers are away."""

from __future__ import annotations

import asyncio
import threading
from typing import Final

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from pipeline.broker.api import NoSessionError
from pipeline.broker.kafka.config import client_config
from pipeline.broker.kafka.meeting import meet_brokers
from pipeline.broker.kafka.session import opening_session
from pipeline.ops.settings import Settings
from pipeline.ops.threads import in_thread

_ANSWER_MS: Final = 5_000
_CLOSE_SECONDS: Final = 0.5
"""How long a question may keep the process from ending."""


class BrokerProbe:
    """One client, kept as long as it works."""

    def __init__(self, settings: Settings) -> None:
        self._config = client_config(settings) | {"request_timeout_ms": _ANSWER_MS}
        self._asking = threading.Lock()
        self._client: KafkaAdminClient | None = None

    async def ask(self) -> None:
        """Return when a broker has answered.

        Raises:
            NoSessionError: none did; it says why.
        """
        await in_thread(self._ask, "broker probe")

    async def close(self) -> None:
        """Disconnect. A question that takes long is left to itself."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await in_thread(self._close, "broker probe")
        except TimeoutError:
            return

    def _ask(self) -> None:
        with self._asking:
            try:
                if self._client is None:
                    with opening_session(self._config) as met:
                        self._client = KafkaAdminClient(**met)
                self._client.describe_cluster()
            except KafkaError as error:
                self._disconnect()
                meet_brokers(self._config)  # says why in words, when it is that
                raise NoSessionError(f"A Kafka broker answers, but not as it should: {error}") from error

    def _close(self) -> None:
        with self._asking:
            self._disconnect()

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
