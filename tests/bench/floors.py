"""The cost of the bare libraries, in the same run as the benchmark: an aiohttp client, a producer and a consumer, inserts."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from kafka import KafkaConsumer, KafkaProducer

from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.devtools.local_broker import ApacheKafkaBroker
from pipeline.ops.settings import Settings
from pipeline.store.connection import Connections
from pipeline.store.migrate import migrate
from pipeline.store.rows import Row, RowPosition, Table, attempt_row
from pipeline.store.writer import Writer
from schemas.batch import read_attempts
from tests.bench.path import bare_client, cpu_seconds, event, receiver
from tests.bench.recorder_load import slices

_RECORDS = 10_000
_POSTS = 5_000
_SIZE = 2048


async def floors(broker: ApacheKafkaBroker, directory: Path) -> dict[str, float]:
    """Return microseconds of CPU time of this process: per POST, record produced, record consumed, attempt inserted (with chDB)."""
    with receiver() as (url, _):
        post = await bare_client(url, _POSTS, _SIZE, 50)
    produced, consumed = await asyncio.to_thread(_records, broker)
    return {
        "aiohttp, a POST of 2 KB": 1e6 * post,
        "kafka-python, a record of 2 KB produced": 1e6 * produced,
        "kafka-python, a record of 2 KB consumed": 1e6 * consumed,
        "ClickHouse in this process, an attempt inserted in a batch": 1e6 * await _inserted(directory / "floor"),
    }


def _records(broker: ApacheKafkaBroker) -> tuple[float, float]:
    settings = Settings(
        _env_file=None, kafka_bootstrap_servers=broker.bootstrap_servers, kafka_topic_prefix=f"floor{time.time_ns():x}."
    )
    topic, value = settings.topics.orders, event(1, _SIZE)
    with KafkaTopicAdmin(settings) as admin:
        admin.create_missing(settings.topics.specs())
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all", linger_ms=5)
    producer.send(topic, value).get(30)
    before = cpu_seconds()
    for future in [producer.send(topic, value) for _ in range(_RECORDS)]:
        future.get(60)
    produced = cpu_seconds() - before
    producer.close()
    consumer = KafkaConsumer(topic, bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest", group_id=None)
    before, count = cpu_seconds(), 0
    while count < _RECORDS:
        count += sum(map(len, consumer.poll(1000).values()))
    consumed = cpu_seconds() - before
    consumer.close()
    return produced / _RECORDS, consumed / _RECORDS


async def _inserted(path: Path) -> float:
    settings = Settings(_env_file=None, clickhouse_path=path)
    connections = Connections(settings)
    try:
        await migrate(connections)
        rows: list[Row] = []
        for offset, one in enumerate(slices(1_000)):
            rows += [
                attempt_row(RowPosition(0, offset), attempt, index) for index, attempt in enumerate(read_attempts(one.attempts))
            ]
        before = cpu_seconds()
        await Writer(connections).append(Table.ATTEMPTS, 0, rows)
        return (cpu_seconds() - before) / len(rows)
    finally:
        await connections.close()
