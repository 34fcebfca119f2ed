"""What a source topic may contain besides good events: unusable records, and good events in unusual forms."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from pipeline.devtools.simulator import SimulatedEvent
from schemas.delivery import DEAD_LETTER_HEADER, DELIVERY_HEADER, DISPATCH_HEADER
from schemas.topics import Topics
from tests.faults.kafka_view import TopicOffset

Headers = list[tuple[str, bytes]]

TEN_MB = 10_000_000
LAST_TIMESTAMP = 2**63 - 1
HOSTILE_HEADERS: Sequence[Headers] = (
    [(DISPATCH_HEADER, b"{not json"), (DELIVERY_HEADER, b'{"attempt": 999}'), (DEAD_LETTER_HEADER, b"\xff\xfe")],
    [("webhook-signature", b"v1,forged"), ("host", b"169.254.169.254"), ("content-length", b"-1")],
    [("x" * 30_000, b"\x00" * 30_000)],
    [("same", b"1")] * 500,
    [("", b"")],
)


@dataclass
class Planted:
    """The written records: unusable ones by position, and good events in unusual forms."""

    unusable: dict[TopicOffset, str] = field(default_factory=dict)
    good: list[tuple[SimulatedEvent, TopicOffset]] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    """Ids of events whose transaction was aborted."""
    markers: int = 0
    """Records of Kafka's own: one ends each transaction."""

    def add(self, other: Planted) -> None:
        """Add the records of another call."""
        self.unusable |= other.unusable
        self.good += other.good
        self.aborted += other.aborted
        self.markers += other.markers

    @property
    def records(self) -> int:
        """Return the number of offsets that they take."""
        return len(self.unusable) + len(self.good) + len(self.aborted) + self.markers


def unusable_records(chance: random.Random, good: SimulatedEvent) -> Iterator[tuple[str, bytes | None, bytes | None]]:
    """Return kind, key and value of unusable records, each made from a good one."""
    value, key = good.value, good.key.encode()
    cut = chance.randrange(1, len(value))
    flipped = bytearray(value)
    flipped[value.index(b'"')] = 0xFF
    yield "cut off", key, value[:cut]
    yield "a byte turned", key, bytes(flipped)
    yield "noise", key, chance.randbytes(chance.randrange(1, 5_000))
    yield "empty", key, b""
    yield "null", key, None
    yield "no key", None, value
    yield "ten megabytes", key, value[:-1] + b',"padding":"' + b"x" * TEN_MB + b'"}'
    yield "no object", key, b"[" + value + b"]"
    yield "deep", key, b"[" * 100_000
    yield "wrong types", key, b'{"id":7,"event_name":"order_completed","occurred_at":"yesterday","data":[]}'
    yield "unknown event", key, value.replace(good.event_name.value.encode(), b"order_exploded", 1)
    yield "newer version", key, b'{"schema_version":9,' + value.lstrip()[1:].replace(b'"schema_version":1,', b"", 1)
    yield "no members", key, b"{}"
    yield "a number", key, b"1e999"


def plant(bootstrap_servers: str, topics: Topics, events: Sequence[SimulatedEvent], chance: random.Random) -> Planted:
    """Write hostile records, mixed. Some ``events`` are published in unusual forms, some in transactions; the rest model unusable ones."""
    _allow_any_timestamp(bootstrap_servers, topics)
    planted = Planted()
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", max_request_size=2 * TEN_MB)
    try:
        stamps = (0, 1, int(time.time() * 1_000_000), LAST_TIMESTAMP, None)
        third = len(events) // 3
        for number, event in enumerate(events[:third]):
            topic = getattr(topics, event.topic_kind)
            headers, stamp = HOSTILE_HEADERS[number % len(HOSTILE_HEADERS)], stamps[number % len(stamps)]
            sent = producer.send(topic, key=event.key.encode(), value=event.value, headers=headers, timestamp_ms=stamp)
            planted.good.append((event, _position(sent)))
        for event in events[third : 2 * third]:
            for kind, key, value in unusable_records(chance, event):
                headers = chance.choice(HOSTILE_HEADERS)
                sent = producer.send(chance.choice(topics.sources), key=key, value=value, headers=headers)
                planted.unusable[_position(sent)] = kind
    finally:
        producer.close()
    _in_transactions(bootstrap_servers, topics, events[2 * third :], planted)
    return planted


def end_with_good_ones(bootstrap_servers: str, topics: Topics, partitions: int, events: Iterator[SimulatedEvent]) -> Planted:
    """Write a good event at the end of each partition: a group never commits beyond a marker there.

    ``events`` may be endless; those of other topics are left out.
    """
    planted = Planted()
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
    try:
        for topic, partition in itertools.product(topics.sources, range(partitions)):
            event = next(one for one in events if getattr(topics, one.topic_kind) == topic)
            sent = producer.send(topic, key=event.key.encode(), value=event.value, partition=partition)
            planted.good.append((event, _position(sent)))
    finally:
        producer.close()
    return planted


def _in_transactions(bootstrap_servers: str, topics: Topics, events: Sequence[SimulatedEvent], planted: Planted) -> None:
    """Publish in transactions, and abort every second one. Each leaves a marker, one of Kafka's own records."""
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers, transactional_id=f"{topics.prefix}oms")
    try:
        producer.init_transactions()
        for number, event in enumerate(events):
            producer.begin_transaction()
            sent = producer.send(getattr(topics, event.topic_kind), key=event.key.encode(), value=event.value)
            position = _position(sent)
            planted.markers += 1
            if number % 2:
                producer.abort_transaction()
                planted.aborted.append(event.id)
            else:
                producer.commit_transaction()
                planted.good.append((event, position))
    finally:
        producer.close()


def _allow_any_timestamp(bootstrap_servers: str, topics: Topics) -> None:
    """Allow any timestamp: by default Kafka refuses those an hour ahead, but many clusters do not."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        largest = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(LAST_TIMESTAMP)}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=largest) for topic in topics.sources])
    finally:
        admin.close()


def _position(sent: object) -> TopicOffset:
    metadata = sent.get(timeout=60)  # type: ignore[attr-defined]
    return TopicOffset(metadata.topic, metadata.partition, metadata.offset)
