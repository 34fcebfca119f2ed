"""A capacity model: how many processes and how much disk a load needs, from the costs of an event, an attempt and a byte. Pure.

The costs were measured on one machine (docs/sizing.md says how). They are CPU seconds of one core: a faster core divides them,
and a busy machine does not change them. Measure yours with ``make bench-path``, and pass them to the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

SECONDS_PER_DAY: Final = 86_400
MAX_PARTITIONS: Final = 1024


@dataclass(frozen=True, slots=True)
class Load:
    """The incoming load: at the peak (for processes) and on average (for disk)."""

    events_per_second: float
    """At the peak."""
    average_share: float = 0.3
    """The average over the day, as a share of the peak."""
    deliveries_per_event: float = 2.0
    """How many endpoints match an event."""
    attempts_per_delivery: float = 1.15
    """1 plus the retries."""
    body_bytes: int = 2_000
    noise: float = 0.0
    """The share of a body that is random text: tokens, base64, hashes. Its n-grams all differ, so its index is large."""


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU in microseconds, sizes in bytes."""

    # The figure of `make bench-path` is here and in docs/sizing.md, and nowhere else.
    delivery_us: float = 300.0
    """The fan-out and the retry: one attempt of 2 KB, with its share of the event, of signing and of Kafka."""
    recorded_attempt_us: float = 45.0
    """The recorder, in Python: decoding, the row, the insert."""
    stored_attempt_us: float = 40.0
    stored_event_us: float = 190.0
    """ClickHouse: inserting a row; an event with the index of its body."""
    merging: float = 2.0
    """What ClickHouse spends on merges and replication in addition to inserts, as a factor."""
    attempt_disk: float = 80.0
    event_disk_per_body_byte: float = 0.55
    """ClickHouse, compressed: the body is a quarter of it, its index the rest."""
    event_disk_per_noise_byte: float = 1.55
    """The same for random text, which hardly compresses."""
    attempt_kafka: float = 170.0
    body_kafka_per_byte: float = 0.4
    """Kafka: an attempt in a batch, and a byte of a body, compressed with lz4."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Retention, replication, and how busy a process may be."""

    retention_days: int = 400
    kafka_days: int = 7
    kafka_replicas: int = 3
    clickhouse_replicas: int = 2
    utilisation: float = 0.5
    """Of a core at the peak. The rest is for catching up after an outage, and for the failure of a process."""


@dataclass(frozen=True, slots=True)
class Size:
    """The result."""

    deliveries_per_second: float
    attempts_per_second: float
    fanout_processes: int
    retry_processes: int
    recorder_processes: int
    partitions: int
    clickhouse_cores: float
    clickhouse_bytes: float
    """On all replicas together."""
    kafka_bytes: float
    """On all replicas together."""
    clickhouse_shards: int


SHARD_BYTES: Final = 4e12
SHARD_CORES: Final = 16.0
"""How many cores one node gets before a second shard is added."""


def size(load: Load, costs: Costs | None = None, deployment: Deployment | None = None) -> Size:
    """Size a deployment for a load.

    Raises:
        ValueError: more partitions would be needed than a topic may have.
    """
    costs, deployment = costs or Costs(), deployment or Deployment()
    deliveries = load.events_per_second * load.deliveries_per_event
    attempts = deliveries * load.attempts_per_delivery
    fanout = _processes(deliveries * costs.delivery_us, deployment)
    retry = _processes((attempts - deliveries) * costs.delivery_us, deployment)
    recorder = _processes((attempts + load.events_per_second) * costs.recorded_attempt_us, deployment)
    # Twice as many partitions as processes: they are divided evenly if one process fails, and there is room to grow.
    partitions = max(6, 2 * max(fanout, retry, recorder))
    if partitions > MAX_PARTITIONS:
        raise ValueError(f"{partitions} partitions are more than a topic may have ({MAX_PARTITIONS}): use several prefixes")
    stored = attempts * costs.stored_attempt_us + load.events_per_second * costs.stored_event_us
    cores = stored * costs.merging / 1e6 / deployment.utilisation
    events_kept = load.events_per_second * load.average_share * SECONDS_PER_DAY * deployment.retention_days
    attempts_kept = events_kept * load.deliveries_per_event * load.attempts_per_delivery
    per_byte = (1 - load.noise) * costs.event_disk_per_body_byte + load.noise * costs.event_disk_per_noise_byte
    per_replica = events_kept * load.body_bytes * per_byte + attempts_kept * costs.attempt_disk
    return Size(
        deliveries_per_second=deliveries,
        attempts_per_second=attempts,
        fanout_processes=fanout,
        retry_processes=retry,
        recorder_processes=recorder,
        partitions=partitions,
        clickhouse_cores=cores,
        clickhouse_bytes=per_replica * deployment.clickhouse_replicas,
        kafka_bytes=_kafka(load, costs, deployment),
        clickhouse_shards=max(math.ceil(per_replica / SHARD_BYTES), math.ceil(cores / SHARD_CORES), 1),
    )


def _processes(microseconds_per_second: float, deployment: Deployment) -> int:
    """At least two, because one may fail."""
    return max(2, math.ceil(microseconds_per_second / 1e6 / deployment.utilisation))


def _kafka(load: Load, costs: Costs, deployment: Deployment) -> float:
    """An event is stored as published and as sent, and once more for each retry. Its attempts are added."""
    events = load.events_per_second * load.average_share * SECONDS_PER_DAY * deployment.kafka_days
    attempts = events * load.deliveries_per_event * load.attempts_per_delivery
    retries = attempts - events * load.deliveries_per_event
    bodies = (2 * events + retries) * load.body_bytes * costs.body_kafka_per_byte
    return (bodies + attempts * costs.attempt_kafka) * deployment.kafka_replicas
