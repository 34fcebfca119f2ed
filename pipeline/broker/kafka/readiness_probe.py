"""Checks with its own client whether Kafka does what this process needs: in an outage, consumers and producers wait silently."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final
from uuid import UUID

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from pipeline.broker.errors import NoSessionError, UnavailableError
from pipeline.broker.kafka.bootstrap import reach_brokers, silent_brokers
from pipeline.broker.kafka.config import client_config
from pipeline.broker.kafka.replication import (
    RETENTION_BYTES,
    RETENTION_MS,
    TopicMetadata,
    ids_of,
    leaders_of,
    leaders_problem,
    retention_problem,
    topic_problem,
)
from pipeline.broker.kafka.session import opening_session
from pipeline.ops.daemon_threads import in_thread
from pipeline.ops.settings import Settings

EVERY_SECONDS: Final = 5.0
"""How often to ask: one request each time, and sometimes another one for the configuration of topics."""
_ANSWER_MS: Final = 3_000
_TRIES: Final = 3
"""A broker that hangs costs one try: kafka-python then asks another one."""
_CONFIGS_SECONDS: Final = 300.0
_LEADERS_SECONDS: Final = 30.0
"""How often to check whether every broker that leads a partition answers; each time while one does not."""
_CLOSE_SECONDS: Final = 0.5
"""How long a request may delay the end of the process."""
_IN_SYNC: Final = "min.insync.replicas"
_TIMES: Final = "message.timestamp.type"


class BrokerProbe:
    """Asks with one client, which is kept while it works."""

    def __init__(
        self,
        settings: Settings,
        *,
        read: Collection[str] = (),
        written: Collection[str] = (),
        on_ids: Callable[[Mapping[str, UUID]], None] = lambda _: None,
    ) -> None:
        """``read``, ``written``: the topics that this process reads, and writes to. ``on_ids`` is called on another thread with the ids of
        the topics, each time.
        """
        self._config = client_config(settings) | {"request_timeout_ms": _ANSWER_MS}
        topics = settings.topics
        self._sources = frozenset(topics.sources)
        waiting = {topics.held, topics.ordered, *topics.delay_topics}
        self._required = {spec.name: spec.retention_ms for spec in topics.specs() if spec.name in waiting}
        """How long topics in which deliveries wait must keep them (milliseconds)."""
        self._read = frozenset(read)
        self._written = frozenset(written)
        self._asking = threading.Lock()
        self._client: KafkaAdminClient | None = None
        self._configs: Mapping[str, Mapping[str, str]] = {}
        self._configs_at = -_CONFIGS_SECONDS
        self._silent: dict[int, str] = {}
        """The brokers that did not answer at the last check, and why."""
        self._leaders_at = -_LEADERS_SECONDS
        self._unreached: str | None = None
        self._on_ids = on_ids

    def also_reads(self, sources: Collection[str]) -> None:
        """Also check these source topics, which this process reads from now on."""
        self._sources, self._read = self._sources.union(sources), self._read.union(sources)

    async def ask(self) -> None:
        """Return when a broker has answered, and every topic of this process can be used.

        Raises:
            NoSessionError: no broker answered; the message says why.
            UnavailableError: a topic has no leader, or one that does not answer, or too few replicas in sync to be written to.
        """
        if problem := await in_thread(self._ask, "broker probe"):
            raise UnavailableError(problem)

    async def close(self) -> None:
        """Disconnect. A request that takes long is abandoned."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await in_thread(self._close, "broker probe")
        except TimeoutError:
            return

    def warning(self) -> str | None:
        """Which source topics keep the timestamps of producers, in words, according to the last check."""
        found = sorted(
            name for name, config in self._configs.items() if config.get(_TIMES) == "CreateTime" and name in self._sources
        )
        if not found:
            return None
        names, keep = ", ".join(found), "keep" if len(found) > 1 else "keeps"
        return (
            f"{names} {keep} the timestamps of the producers ({_TIMES}=CreateTime). Kafka's retention goes by them: events with "
            f"old timestamps may be removed before they are read. Set {_TIMES}=LogAppendTime; `oms-webhooks topics` lists every "
            "difference."
        )

    def retention_warning(self) -> str | None:
        """Which topics lose deliveries that still wait, in words, according to the last check."""
        return retention_problem(self._configs, self._required)

    def _ask(self) -> str | None:
        with self._asking:
            try:
                topics = self._topics(self._session())
            except KafkaError as error:
                self._disconnect()
                reach_brokers(self._config)  # raises the reason in words, if no broker answers
                raise NoSessionError(f"A Kafka broker answers, but not as expected: {error}") from error
            self._check_configs(self._session(), [topic["name"] for topic in topics])
            self._look_at_leaders(self._session(), topics)
        self._on_ids(ids_of(topics))
        in_sync = {name: int(config.get(_IN_SYNC, "1")) for name, config in self._configs.items()}
        return topic_problem(topics, read=self._read, written=self._written, in_sync=in_sync) or self._unreached

    def _session(self) -> KafkaAdminClient:
        if self._client is None:
            with opening_session(self._config) as met:
                self._client = KafkaAdminClient(**met)
        return self._client

    def _topics(self, client: KafkaAdminClient) -> list[TopicMetadata]:
        """The topics of this process that exist and are visible."""
        wanted = sorted(self._read | self._written)
        for tries in range(_TRIES):
            try:
                if not wanted:
                    client.describe_cluster()
                    return []
                return [topic for topic in client.describe_topics(wanted) if not topic["error_code"]]
            except KafkaError as error:
                if tries == _TRIES - 1 or not error.retriable:
                    raise
        return []

    def _check_configs(self, client: KafkaAdminClient, names: Collection[str]) -> None:
        """Read the configuration of topics from time to time. Skipped without the right to see it."""
        if time.monotonic() - self._configs_at < _CONFIGS_SECONDS or not names:
            return
        settings = dict.fromkeys((_IN_SYNC, _TIMES, RETENTION_MS, RETENTION_BYTES))
        wanted = [ConfigResource(ConfigResourceType.TOPIC, name, settings) for name in names]
        try:
            found: dict[str, dict[str, dict[str, Any]]] = client.describe_configs(wanted, config_filter="all").get("topic", {})
        except KafkaError:
            return
        self._configs = {
            topic: {key: str(one["value"]) for key, one in config.items() if one["value"] is not None}
            for topic, config in found.items()
        }
        self._configs_at = time.monotonic()

    def _look_at_leaders(self, client: KafkaAdminClient, topics: Collection[TopicMetadata]) -> None:
        """Check from time to time whether every broker that leads a partition answers: clients wait silently for one that does not.

        One check is not enough. A broker that has just died still leads its partitions for a moment.
        """
        if not self._silent and time.monotonic() - self._leaders_at < _LEADERS_SECONDS:
            return
        led = leaders_of(topics)
        try:
            brokers = client.describe_cluster()["brokers"] if led else []
        except KafkaError:
            return
        addresses = {str(one["broker_id"]): (str(one["host"]), int(one["port"])) for one in brokers if one["broker_id"] in led}
        silent = {int(node): why for node, why in silent_brokers(self._config, addresses).items()}
        self._unreached = leaders_problem(led, {node: why for node, why in silent.items() if node in self._silent})
        self._silent, self._leaders_at = silent, time.monotonic()

    def _close(self) -> None:
        with self._asking:
            self._disconnect()

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
