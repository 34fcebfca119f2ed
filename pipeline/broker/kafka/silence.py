"""Whether a group may have given a member up while its process was frozen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer

from pipeline.ops.logs import logger

log = logger(__name__)

_SESSION_MS = 45_000
_HEARTBEAT_MS = 3_000
"""kafka-python's own, where the configuration says nothing."""


class Silence:
    """Notices a silence of this process that is as long as a session. It belongs to the poll thread.

    A process that was frozen (SIGSTOP, a suspended machine) goes on with what it has in memory as if nothing had been, while
    another one has long since begun the same records. It must begin nothing more until a heartbeat was answered that was sent
    after the silence, or until it has joined anew. kafka-python tells neither in public.
    """

    def __init__(self, group: str, config: Mapping[str, Any]) -> None:
        """``config``: kafka-python's."""
        self._group = group
        session, heartbeat = config.get("session_timeout_ms", _SESSION_MS), config.get("heartbeat_interval_ms", _HEARTBEAT_MS)
        # Heartbeats go out that often; the broker gives a member up when it has heard of none for the time of a session.
        self._longest = (session - heartbeat) / 1000
        self._looked_at = math.inf  # not yet
        self._in_doubt_since: float | None = None

    def leaves_in_doubt(self, consumer: KafkaConsumer, now: float) -> bool:
        """Whether the group may have given us up without our knowing. Ask before each beginning; ``now``: ``time.monotonic()``."""
        silence, self._looked_at = now - self._looked_at, now
        if silence > self._longest:
            log.warning(
                "silent for long; nothing is begun until the group is heard of", group=self._group, seconds=round(silence)
            )
            self._in_doubt_since = now
        if self._in_doubt_since is not None:
            heartbeat = consumer._coordinator.heartbeat  # noqa: SLF001
            is_answered = heartbeat.last_receive >= heartbeat.last_send > self._in_doubt_since
            if is_answered or heartbeat.last_reset > self._in_doubt_since:
                self._in_doubt_since = None
        return self._in_doubt_since is not None
