"""Unusable input stops nothing: it becomes a dead letter with its reason, and the next good event is delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from pipeline.broker.kafka.config import consumer_config
from pipeline.devtools.receiver import Receiver
from pipeline.ops.settings import Settings
from pipeline.store.connection import Connections
from pipeline.store.reports.recent import DeadLetterDetail, Reports
from tests.integration.conftest import StartPipeline, event_bytes
from tests.waiting import until

pytestmark = pytest.mark.slow  # starts whole pipelines; make test-slow and make test-kafka run it

NOW = '"occurred_at":"2026-03-02T15:04:00Z"'

UNUSABLE: dict[str, tuple[bytes | None, bytes | None]] = {
    "not_json": (b"R1", b"<order/>"),
    "invalid_utf8": (b"R1", b'{"id":"e","event_name":"order_completed",' + NOW.encode() + b',"data":{"number":"\xff\xfe"}}'),
    "wrong_types": (b"R1", b'{"id":7,"event_name":"order_completed","occurred_at":"yesterday","data":[]}'),
    "wrong_payload": (b"R1", f'{{"id":"e","event_name":"order_completed",{NOW},"data":{{"number":12}}}}'.encode()),
    "unknown_event": (b"R1", f'{{"id":"e","event_name":"order_exploded",{NOW},"data":{{}}}}'.encode()),
    "missing_member": (b"R1", f'{{"event_name":"order_completed",{NOW},"data":{{"number":"R1"}}}}'.encode()),
    "missing_key": (None, event_bytes("e-key")),
    "too_large": (b"R1", event_bytes("e-large", padding="x" * 10_000_000)),
    "null_value": (b"R1", None),
    "newer_version": (b"R1", b'{"schema_version":9,"id":"e"}'),
}

REASONS = {
    "not_json": "not_json",
    "invalid_utf8": "not_json",
    "wrong_types": "invalid_envelope",
    "wrong_payload": "invalid_payload",
    "unknown_event": "unknown_event",
    "missing_member": "invalid_envelope",
    "missing_key": "missing_key",
    "too_large": "too_large",
    "null_value": "null_value",
    "newer_version": "unsupported_version",
}


async def test_each_kind_becomes_a_dead_letter_and_good_events_are_delivered(
    start_pipeline: StartPipeline, tmp_path: Path
) -> None:
    async with start_pipeline(clickhouse_path=tmp_path) as pipeline:
        receiver = await pipeline.receiver("good")
        sent: dict[tuple[int, int], str] = {}
        for kind, (key, value) in UNUSABLE.items():
            position = await pipeline.producer.send(pipeline.settings.topics.orders, key=key, value=value)
            sent[position.partition, position.offset] = kind
            await pipeline.publish(event_bytes(f"good-after-{kind}"))

        await until(lambda: _acknowledged(receiver, len(UNUSABLE)))
        assert set(receiver.acknowledgements) == {f"good-after-{kind}" for kind in UNUSABLE}

        letters = await until(lambda: _letters(pipeline.settings, len(UNUSABLE)))
        assert {sent[one.summary.partition, one.summary.offset]: one.summary.reason for one in letters} == REASONS
        for one in letters:
            each = one.summary
            key, value = UNUSABLE[sent[each.partition, each.offset]]
            assert (each.topic, one.key, one.value) == (pipeline.settings.topics.orders, key, value)
            assert each.detail.endswith(".")

        # Nothing is lost: the topic contains each one unchanged, ready to be republished.
        assert sorted(map(repr, _records(pipeline.settings))) == sorted(map(repr, UNUSABLE.values()))
        metrics = (await pipeline.api.get(pipeline.running.url.rstrip("/") + "/metrics")).text
        assert f'oms_webhooks_dead_letters_total{{reason="not_json",topic="{pipeline.settings.topics.orders}"}} 2.0' in metrics


async def _acknowledged(receiver: Receiver, wanted: int) -> bool:
    return receiver.counts.acknowledged >= wanted


async def _letters(settings: Settings, wanted: int) -> list[DeadLetterDetail]:
    connections = Connections(settings)
    try:
        reports = Reports(connections)
        found = [await reports.dead_letter(one.id) for one in (await reports.dead_letters(1, 100)).items]
    finally:
        await connections.close()
    letters = [one for one in found if one is not None]
    return letters if len(letters) == wanted else []


def _records(settings: Settings) -> list[tuple[Any, Any]]:
    """Return all records of the dead letter topic."""
    topic = settings.topics.dead_letters
    consumer = KafkaConsumer(**consumer_config(settings) | {"group_id": None, "max_partition_fetch_bytes": 2**25})
    try:
        partitions = [TopicPartition(topic, number) for number in range(settings.kafka_partitions)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        records: list[tuple[Any, Any]] = []
        while len(records) < len(UNUSABLE):
            polled = consumer.poll(timeout_ms=5_000)
            assert polled, f"only {len(records)} dead letters"
            records += [(record.key, record.value) for batch in polled.values() for record in batch]
        return records
    finally:
        consumer.close()
