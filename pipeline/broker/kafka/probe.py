"""Does a broker answer? Asked with a client of its own: consumers and producers wait in silence while the brokers are away."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from pipeline.broker.kafka.config import client_config
from pipeline.ops.settings import Settings

_ANSWER_MS: Final = 5_000


class BrokerProbe:
    """One client in one thread, kept as long as it works."""

    def __init__(self, settings: Settings) -> None:
        self._config = client_config(settings) | {"request_timeout_ms": _ANSWER_MS, "bootstrap_timeout_ms": _ANSWER_MS}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="broker-probe")
        self._client: KafkaAdminClient | None = None

    async def ask(self) -> None:
        """Return when a broker has answered.

        Raises:
            KafkaError: none did.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._ask)

    async def close(self) -> None:
        """Disconnect, after a question that is under way."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _ask(self) -> None:
        try:
            if self._client is None:
                self._client = KafkaAdminClient(**self._config)
            self._client.describe_cluster()
        except KafkaError:
            self._close()
            raise

    def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
