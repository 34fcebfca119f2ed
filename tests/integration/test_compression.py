"""Producers may use any compression of Kafka clients."""

from __future__ import annotations

from functools import partial

import pytest

from pipeline.devtools.receiver import Receiver
from tests.integration.conftest import StartPipeline, event_bytes
from tests.waiting import until

pytestmark = pytest.mark.slow  # starts whole pipelines; make test-slow and make test-kafka run it

CODECS = ("gzip", "lz4", "snappy", "zstd")


async def test_events_in_compressed_batches_are_delivered(start_pipeline: StartPipeline) -> None:
    from kafka import KafkaProducer  # noqa: PLC0415 - it warns while it is imported

    async with start_pipeline() as pipeline:
        receiver = await pipeline.receiver("compressed")
        servers = pipeline.settings.kafka_bootstrap_servers
        for codec in CODECS:
            # Ten of them share a batch of two million bytes.
            producer = KafkaProducer(
                bootstrap_servers=servers, compression_type=codec, linger_ms=1000, batch_size=4 * 1024 * 1024
            )
            for number in range(10):
                value = event_bytes(f"evt-{codec}-{number}", note="x" * 200_000)
                producer.send(pipeline.settings.topics.orders, key=b"R100000001", value=value)
            producer.flush()
            producer.close()
        await until(partial(_arrived, receiver, 10 * len(CODECS)))


async def _arrived(receiver: Receiver, count: int) -> bool:
    return len(receiver.acknowledgements) >= count
