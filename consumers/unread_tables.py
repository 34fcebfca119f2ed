"""Checks whether the topics that this process keeps in memory can still be read: the endpoints, the API keys, and so on.

A topic that was deleted, or that this process may no longer see, looks to a reader like one without new records. So this
check uses its own clients. The process continues with what it has read, and stays ready: deliveries that go out with yesterday's settings are
better than none, and a restart could not read the topic either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

from pipeline.broker.api import Broker
from pipeline.broker.errors import BrokerError
from pipeline.broker.readable_topics import check_topics
from pipeline.ops import metrics
from pipeline.ops.daemon_threads import in_thread
from pipeline.ops.logs import logger
from schemas.topics import Topics

log = logger(__name__)

_EVERY_SECONDS: Final = 60.0


class UnreadTables:
    """Used from the event loop."""

    def __init__(self, broker: Broker, topics: Topics, read: Collection[str]) -> None:
        """``read``: the topics that this process reads."""
        in_memory = {
            topics.endpoints,
            topics.endpoint_health,
            topics.event_types,
            topics.rate_shares,
            topics.api_keys,
            topics.ended_sessions,
        }
        self._broker = broker
        self._topics = sorted(in_memory.intersection(read))
        self._problems: Mapping[str, str] = {}
        metrics.UNREAD_TABLES.set(0)

    def warning(self) -> str | None:
        """Which topics can no longer be read, and why, in words (for health checks)."""
        if not self._problems:
            return None
        found = " ".join(f"{topic} can no longer be read: {why.rstrip('.')}." for topic, why in self._problems.items())
        return (
            f"{found} This process continues with what it had read. Changes since then have no effect in it. See docs/runbook.md."
        )

    async def follow(self) -> None:
        """Check until cancelled. At the start, every topic has just been read."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Check now. If Kafka does not answer, nothing is known: the check ``kafka`` of ``/readyz`` says so."""
        try:
            found = await in_thread(lambda: check_topics(self._broker, self._topics), "tables")
        except BrokerError:
            return
        # About a topic whose broker did not answer, nothing new is known.
        refused = {topic: why for topic, why in found.refused.items() if topic not in found.unanswered}
        refused |= {topic: why for topic, why in self._problems.items() if topic in found.unanswered}
        problems = dict.fromkeys(found.missing, "it does not exist, or this process may not see it") | refused
        for topic, why in problems.items():
            if topic not in self._problems:
                log.error("a topic that is kept in memory can no longer be read", topic=topic, problem=why)
        for topic in self._problems.keys() - problems.keys():
            log.info("a topic that is kept in memory can be read again", topic=topic)
        self._problems = problems
        metrics.UNREAD_TABLES.set(len(problems))
