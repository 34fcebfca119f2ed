"""Every Kafka topic of the product in one place: its name, key, cleanup policy, retention and record size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

HOUR_MS = 60 * 60 * 1000
DAY_MS = 24 * HOUR_MS
MIB = 1024 * 1024

# Every topic that carries an accepted body must have room for it, with its metadata. The limits are above the largest event that
# a deployment can allow (settings.max_event_bytes), so that invalid input can be stored whole.
MAX_RECORD_BYTES = 16 * MIB
MAX_EVENT_BYTES_LIMIT = 12 * MIB
MAX_DEAD_LETTER_BYTES = 20 * MIB
"""A dead letter may be as large as the largest record of another topic, plus a header that says what is wrong with it."""

DEFAULT_HOLD = timedelta(days=14)
_SMALL_SEGMENT_BYTES = 4 * MIB
"""For a topic that is read from its beginning whenever a partition is reassigned: little of it stays uncompacted."""

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": DAY_MS}
_DELAY = re.compile(r"^(\d+)(ms|s|m|h|d)$")


def parse_delay(text: str) -> timedelta:
    """Read a delay such as ``5s``, ``1m``, ``6h`` or ``250ms``.

    Raises:
        ValueError: the text is not a whole number followed by ms, s, m, h or d.
    """
    match = _DELAY.match(text.strip())
    if match is None:
        message = f"{text!r} is not a delay; write a whole number and a unit, such as 5s, 1m, 6h or 250ms"
        raise ValueError(message)
    try:
        return timedelta(milliseconds=int(match[1]) * _UNITS_MS[match[2]])
    except (OverflowError, ValueError):  # OverflowError for more digits than int() reads
        message = f"{text[:50]!r} is too long a delay"
        raise ValueError(message) from None


def delay_label(delay: timedelta) -> str:
    """Name a delay in its largest whole unit: ``5s``, ``1m``, ``6h``. The inverse of :func:`parse_delay`."""
    milliseconds = round(delay / timedelta(milliseconds=1))
    if milliseconds == 0:
        return "0s"
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if milliseconds % _UNITS_MS[unit] == 0)
    return f"{milliseconds // _UNITS_MS[unit]}{unit}"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """The required configuration of a topic. ``partitions`` of None means: as many as the deployment's setting."""

    name: str
    key: str
    cleanup_policy: Literal["delete", "compact"]
    retention_ms: int
    partitions: int | None = None
    min_compaction_lag_ms: int = 0
    max_record_bytes: int = MAX_RECORD_BYTES
    broker_time: bool = False
    """Whether the records' timestamps are the broker's, not the producer's."""
    segment_bytes: int | None = None
    """The size of its log files; None: the broker's default. Kafka does not compact the file that is being written."""

    def config(self) -> dict[str, str]:
        """The topic-level settings, as Kafka names them."""
        config = {"cleanup.policy": self.cleanup_policy, "max.message.bytes": str(self.max_record_bytes)}
        if self.broker_time:
            config["message.timestamp.type"] = "LogAppendTime"
        if self.segment_bytes is not None:
            config["segment.bytes"] = str(self.segment_bytes)
        if self.cleanup_policy == "compact":
            config["min.compaction.lag.ms"] = str(self.min_compaction_lag_ms)
        else:
            config["retention.ms"] = str(self.retention_ms)
        return config


def added_source(name: str) -> TopicSpec:
    """The topic of an event type that a deployment adds; ``name`` is Kafka's."""
    return TopicSpec(name, "as its producers choose", "delete", 7 * DAY_MS, broker_time=True)


class Topics:
    """The catalogue of topics for one prefix and one retry schedule.

    The prefix separates several pipelines on one cluster (and tests on one broker); it also prefixes the group ids.
    """

    def __init__(
        self, delays: Sequence[timedelta], prefix: str = "", hold: timedelta = DEFAULT_HOLD, more_sources: Sequence[str] = ()
    ) -> None:
        """``hold``: how long a delivery may wait for a paused endpoint (setting ``hold_days``). ``more_sources``: topics of the
        deployment's own event types, without the prefix.
        """
        self.prefix = prefix
        self._hold = hold
        self.orders = f"{prefix}oms.orders"
        self.shipments = f"{prefix}oms.shipments"
        self.stock_items = f"{prefix}oms.stock-items"
        self.sources = (self.orders, self.shipments, self.stock_items, *(f"{prefix}{topic}" for topic in more_sources))
        self.endpoints = f"{prefix}webhooks.endpoints"
        self.dispatches = f"{prefix}webhooks.dispatches"
        self.attempts = f"{prefix}webhooks.attempts"
        self.dead_letters = f"{prefix}webhooks.dead-letters"
        self.endpoint_health = f"{prefix}webhooks.endpoint-health"
        self.operational_events = f"{prefix}webhooks.operational-events"
        self.api_keys = f"{prefix}webhooks.api-keys"
        self.audit = f"{prefix}webhooks.audit"
        self.ended_sessions = f"{prefix}webhooks.ended-sessions"
        self.clock = f"{prefix}webhooks.clock"
        self.held = f"{prefix}webhooks.held"
        self.rate_shares = f"{prefix}webhooks.rate-shares"
        self.event_types = f"{prefix}webhooks.event-types"
        self.ordered = f"{prefix}webhooks.ordered"
        self.ordered_progress = f"{prefix}webhooks.ordered-progress"
        # Delay 0 is for records that are due immediately: resends and replays.
        self.delays = tuple(sorted({timedelta(0), *delays}))
        self.fanout_group = f"{prefix}webhooks.fanout"
        self.retry_group = f"{prefix}webhooks.retry"
        self.recorder_group = f"{prefix}webhooks.recorder"
        self.held_group = f"{prefix}webhooks.held"
        self.ordered_group = f"{prefix}webhooks.ordered"

    def delay(self, delay: timedelta) -> str:
        """The topic whose records are due ``delay`` after they were written."""
        return f"{self.delay_prefix}{delay_label(delay)}"

    @property
    def delay_prefix(self) -> str:
        """The beginning of the names of all delay topics."""
        return f"{self.prefix}webhooks.delay."

    def delay_of(self, topic: str) -> timedelta | None:
        """The inverse of :meth:`delay`; None for a topic that is not a delay topic."""
        name = self.delay_prefix
        try:
            return parse_delay(topic.removeprefix(name)) if topic.startswith(name) else None
        except ValueError:
            return None

    @property
    def delay_topics(self) -> tuple[str, ...]:
        """Every delay topic, shortest delay first."""
        return tuple(self.delay(delay) for delay in self.delays)

    @property
    def recorded(self) -> tuple[str, ...]:
        """The topics that the recorder copies into ClickHouse."""
        return (self.attempts, self.dispatches, self.dead_letters, self.endpoints, self.audit)

    def specs(self) -> tuple[TopicSpec, ...]:
        """Every topic with its required configuration, sources first."""
        week, month = 7 * DAY_MS, 30 * DAY_MS
        return (
            # Retention uses timestamps. A producer's may be old (a delayed outbox, a wrong clock), and Kafka would remove its
            # events before they are read.
            TopicSpec(self.orders, "order number", "delete", week, broker_time=True),
            TopicSpec(self.shipments, "order number", "delete", week, broker_time=True),
            TopicSpec(self.stock_items, "stock item id", "delete", week, broker_time=True),
            *map(added_source, self.sources[3:]),
            # One partition: its offsets order all changes, and an offset becomes a new endpoint's id.
            TopicSpec(self.endpoints, "endpoint id", "compact", -1, partitions=1, min_compaction_lag_ms=week),
            TopicSpec(self.api_keys, "API key id", "compact", -1, partitions=1, min_compaction_lag_ms=week),
            TopicSpec(self.event_types, "event type", "compact", -1, partitions=1, min_compaction_lag_ms=week),
            TopicSpec(self.audit, "who did it", "delete", week),
            # A session lasts for 12 hours.
            TopicSpec(self.ended_sessions, "session id", "delete", week, partitions=1, broker_time=True),
            TopicSpec(self.endpoint_health, "endpoint id / fact", "compact", -1, partitions=1),
            TopicSpec(self.operational_events, "endpoint id", "delete", month),
            TopicSpec(self.dispatches, "none", "delete", week),
            TopicSpec(self.attempts, "none", "delete", week),
            TopicSpec(self.dead_letters, "as it came", "delete", month, max_record_bytes=MAX_DEAD_LETTER_BYTES),
            # Delivering processes learn the broker's time from the acknowledgements; nobody reads it.
            TopicSpec(self.clock, "none", "delete", HOUR_MS, partitions=1, broker_time=True),
            # Announcements are outdated after a few seconds.
            TopicSpec(self.rate_shares, "process", "delete", HOUR_MS, partitions=1, broker_time=True),
            # Held deliveries must be kept for longer than they may be held, even if nobody reads them for a while.
            TopicSpec(
                self.held,
                "endpoint id",
                "delete",
                week + DAY_MS + round(self._hold / timedelta(milliseconds=1)),
                broker_time=True,
            ),
            # Ordered deliveries may wait as long. A lane has one partition; its progress is in the one of the same number.
            TopicSpec(
                self.ordered,
                "endpoint id / record key",
                "delete",
                week + DAY_MS + round(self._hold / timedelta(milliseconds=1)),
                broker_time=True,
            ),
            TopicSpec(
                self.ordered_progress,
                "endpoint id / record key",
                "compact",
                -1,
                max_record_bytes=MIB,
                segment_bytes=_SMALL_SEGMENT_BYTES,
            ),
            # A delay topic must keep its records for longer than they wait, however far the retry consumer is behind. A record is
            # due by its timestamp: all timestamps are the broker's, so that due times rise with offsets, whoever wrote them.
            *(
                TopicSpec(
                    self.delay(delay),
                    "event id",
                    "delete",
                    week + DAY_MS + 2 * round(delay / timedelta(milliseconds=1)),
                    broker_time=True,
                )
                for delay in self.delays
            ),
        )
