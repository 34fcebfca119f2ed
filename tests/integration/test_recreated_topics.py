"""Topics that were deleted and created again: no role continues in them without approval."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from pydantic import SecretStr

from consumers.cli.recreated_topics import accept_recreated_topic
from consumers.run import Role, running
from pipeline.broker.errors import TopicError
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.kafka.config import client_config
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from tests.integration.conftest import Pipeline, StartPipeline, event_bytes
from tests.waiting import until


async def _recreate(settings: Settings, topics: Sequence[str]) -> None:
    def make() -> None:
        client = KafkaAdminClient(**client_config(settings))
        client.delete_topics(list(topics), timeout_ms=30_000)
        client.close()
        with KafkaTopicAdmin(settings) as admin:
            admin.create_missing(settings.topics.specs())

    await asyncio.to_thread(make)


async def _published(pipeline: Pipeline, event_id: str) -> None:
    await pipeline.publish(event_bytes(event_id))
    receiver = pipeline.receivers[0]
    await until(lambda: _has(receiver, event_id))


async def _has(receiver: Any, event_id: str) -> bool:
    return any(delivery.webhook_id == event_id for delivery in receiver.deliveries)


@pytest.mark.apache
async def test_a_recreated_topic_stops_the_roles_until_it_is_accepted(start_pipeline: StartPipeline, tmp_path: Path) -> None:
    place: dict[str, Any] = {"encryption_key": SecretStr(Vault.new_key()), "clickhouse_path": tmp_path / "clickhouse"}
    roles = [Role.FANOUT, Role.RETRY, Role.API]
    async with start_pipeline(**place, roles=roles) as pipeline:
        settings: Settings = pipeline.settings
        orders = settings.topics.orders
        await _recreate(settings, [orders])
        with pytest.raises(TopicError, match=f"{orders} is another topic than before"):
            await asyncio.wait_for(pipeline.running.until_failed(), 60)

    with pytest.raises(TopicError, match=f"oms-webhooks topics --accept-recreated {orders}"):
        async with running(settings, roles, ends_when_refused=True):
            pass
    async with start_pipeline(**place, roles=[Role.RECORDER]) as pipeline:
        assert pipeline.running.health.problems().get("topics") is None, "the role does not read the topic"

    await accept_recreated_topic(settings, orders, confirm=lambda _: True)

    async with start_pipeline(**place, roles=roles) as pipeline:
        await pipeline.receiver("shop")
        await _published(pipeline, "evt-recreated")


@pytest.mark.apache
async def test_lost_endpoints_are_not_taken_for_none(start_pipeline: StartPipeline, tmp_path: Path) -> None:
    place: dict[str, Any] = {"encryption_key": SecretStr(Vault.new_key()), "clickhouse_path": tmp_path / "clickhouse"}
    async with start_pipeline(**place) as pipeline:
        settings: Settings = pipeline.settings
        await pipeline.receiver("shop")
        await _published(pipeline, "evt-before")
        await until(pipeline.attempts)
    endpoints, attempts = settings.topics.endpoints, settings.topics.attempts
    await _recreate(settings, [endpoints, attempts])

    for role in (Role.FANOUT, Role.RECORDER):
        with pytest.raises(TopicError, match=f"--accept-recreated {attempts if role is Role.RECORDER else endpoints}"):
            async with running(settings, [role], ends_when_refused=True):
                pass
    with pytest.raises(TopicError, match=f"ClickHouse holds rows of {attempts} up to offset"):
        await accept_recreated_topic(settings, attempts, confirm=lambda _: True)

    elsewhere = settings.model_copy(update={"clickhouse_path": tmp_path / "new"})
    await accept_recreated_topic(elsewhere, attempts, confirm=lambda _: True)
    await accept_recreated_topic(elsewhere, endpoints, confirm=lambda _: True)
    async with start_pipeline(**place | {"clickhouse_path": tmp_path / "new"}) as pipeline:
        await pipeline.receiver("shop")
        await _published(pipeline, "evt-after")
        await until(pipeline.attempts)
