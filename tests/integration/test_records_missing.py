"""Records removed before they were read: every group reports them, and so does a process that does not read these topics."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from kafka import KafkaAdminClient, TopicPartition
from prometheus_client import REGISTRY
from pydantic import SecretStr

from consumers.run import Role
from pipeline.broker.factory import open_broker
from pipeline.broker.kafka.config import client_config
from pipeline.broker.producer import Producer
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from tests.integration.conftest import StartPipeline, event_bytes
from tests.waiting import until


def _missing(group: str, topic: str) -> float:
    return REGISTRY.get_sample_value("oms_webhooks_records_missing_total", {"group": group, "topic": topic}) or 0.0


async def _write_and_remove(settings: Settings, wanted: dict[str, int]) -> None:
    """Write records to partition 0 of a topic, and remove them."""
    producer = Producer(open_broker(settings), list(wanted))
    await producer.start()
    ends = {}
    for topic, count in wanted.items():
        for _ in range(count):
            ends[TopicPartition(topic, 0)] = (await producer.send(topic, key=b"k", value=b"{}", partition=0)).offset + 1
    await producer.close()

    def remove() -> None:
        admin = KafkaAdminClient(**client_config(settings))
        admin.delete_records(ends, timeout_ms=30_000)
        admin.close()

    await asyncio.to_thread(remove)


@pytest.mark.apache
async def test_retention_overtakes_every_group(start_pipeline: StartPipeline, tmp_path: Path) -> None:
    place: dict[str, Any] = {"encryption_key": SecretStr(Vault.new_key()), "clickhouse_path": tmp_path / "clickhouse"}
    async with start_pipeline(**place) as pipeline:
        settings: Settings = pipeline.settings
        topics = settings.topics
        await pipeline.receiver("shop")
        await pipeline.publish(event_bytes("evt-before"))
        await until(pipeline.attempts)
        assert "records missing" not in pipeline.running.health.warnings()

    delay = topics.delay_topics[1]
    await _write_and_remove(settings, {topics.orders: 20, delay: 7, topics.attempts: 5})

    async with start_pipeline(**place, roles=[Role.FANOUT, Role.RETRY, Role.RECORDER]) as pipeline:
        health = pipeline.running.health

        async def all_told() -> bool:
            warning = health.warnings().get("records missing", "")
            return all(
                f"{count} of {topic}, partition 0" in warning
                for topic, count in ((topics.orders, 20), (delay, 7), (topics.attempts, 5))
            )

        await until(all_told)
        assert _missing(topics.fanout_group, topics.orders) == 20
        assert _missing(topics.retry_group, delay) == 7
        assert _missing(topics.recorder_group, topics.attempts) == 5
        assert health.problems() == {}, "it is a warning: the process works"
        async with httpx.AsyncClient(base_url=pipeline.running.url, trust_env=False) as client:
            answer = await client.get("/readyz")
        assert answer.status_code == 200
        assert answer.json()["warnings"]["records missing"].startswith("32 records were removed from Kafka before being read")

    # The process with the overview is a different one.
    async with start_pipeline(**place, roles=[Role.API]) as pipeline:

        async def told() -> str | None:
            warning: str | None = pipeline.running.health.warnings().get("records missing")
            return warning

        assert (await until(told) or "").startswith("32 records were removed")
