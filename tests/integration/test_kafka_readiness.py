"""Readiness reports whether Kafka does what a role needs, not only whether a broker answers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from prometheus_client import REGISTRY

from consumers.run import Role
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.kafka.config import client_config
from pipeline.ops.settings import Settings
from tests.integration.conftest import Pipeline, StartPipeline
from tests.waiting import until


async def _alter(settings: Settings, topics: Collection[str], **config: str) -> None:
    def alter() -> None:
        wanted = {name.replace("_", "."): value for name, value in config.items()}
        with KafkaTopicAdmin(settings) as admin:
            admin.create_missing(settings.topics.specs())
        client = KafkaAdminClient(**client_config(settings))
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, wanted) for topic in topics])
        client.close()

    await asyncio.to_thread(alter)


def _settings(bootstrap_servers: str, topic_prefix: str) -> Settings:
    return Settings(
        _env_file=None,
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_topic_prefix=topic_prefix,
        kafka_partitions=2,
        kafka_replication_factor=1,
    )


async def _ready(pipeline: Pipeline) -> bool:
    return not pipeline.running.health.problems()


@pytest.mark.apache
async def test_a_role_that_cannot_write_is_not_ready(
    start_pipeline: StartPipeline, bootstrap_servers: str, topic_prefix: str
) -> None:
    """One replica, but a minimum of two in sync: Kafka answers everything, and refuses each write."""
    settings = _settings(bootstrap_servers, topic_prefix)
    attempts = settings.topics.attempts
    await _alter(settings, [attempts], min_insync_replicas="2")

    async with start_pipeline(roles=[Role.FANOUT]) as pipeline:
        health = pipeline.running.health

        async def told() -> str | None:
            return str(health.problems().get("kafka", ""))

        assert f"{attempts}, partitions 0, 1: 1 replica is in sync, and min.insync.replicas is 2" in (await until(told) or "")
        assert REGISTRY.get_sample_value("oms_webhooks_dependency_up", {"dependency": "kafka"}) == 0

    async with start_pipeline(roles=[Role.RECORDER]) as pipeline:
        assert await until(lambda: _ready(pipeline)), "it writes no attempts"


@pytest.mark.apache
async def test_source_topics_that_keep_producer_timestamps_are_named(
    start_pipeline: StartPipeline, bootstrap_servers: str, topic_prefix: str
) -> None:
    settings = _settings(bootstrap_servers, topic_prefix)
    topics = settings.topics
    await _alter(settings, [topics.orders, topics.shipments], message_timestamp_type="CreateTime")

    async with start_pipeline(roles=[Role.FANOUT]) as pipeline:
        health = pipeline.running.health

        async def told() -> str | None:
            return str(health.warnings().get("source topics", ""))

        assert (await until(told) or "").startswith(f"{topics.orders}, {topics.shipments} keep the timestamps of the producers")
        assert await until(lambda: _ready(pipeline)), "it is a warning"
