"""A consumer group on a broker: who is a member, and what each member shows."""

from __future__ import annotations

import asyncio
import time

from pipeline.broker.admin import TopicAdmin
from pipeline.broker.client import consumer_config
from pipeline.broker.consumer import GroupConsumer
from pipeline.ops.settings import Settings
from schemas.topics import TopicSpec


async def test_a_member_without_partitions_is_ready(bootstrap_servers: str, topic_prefix: str) -> None:
    """More processes than partitions: the others stand by, and a rolling update must not wait for them for ever."""
    settings = Settings(
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_replication_factor=1,
        kafka_session_timeout_ms=6000,
        kafka_fetch_max_wait_ms=30,
    )
    topic = TopicSpec(f"{topic_prefix}one-partition", "any", "delete", 60_000, partitions=1)

    def create() -> None:
        with TopicAdmin(settings) as admin:
            admin.create_missing([topic])

    await asyncio.to_thread(create)
    members = [
        GroupConsumer(
            consumer_config(settings),
            group=f"{topic_prefix}group",
            topics=[topic.name],
            max_outstanding=10,
            max_outstanding_bytes=1024 * 1024,
            on_records=lambda _: None,
        )
        for _ in range(2)
    ]
    assert "not a member of group" in str(members[0].problem())
    await asyncio.gather(*(member.start() for member in members))
    deadline = time.monotonic() + 60
    try:
        while any(member.problem() for member in members) or sum(_held(member) for member in members) != 1:
            assert time.monotonic() < deadline, [(member.problem(), _held(member)) for member in members]
            await asyncio.sleep(0.1)
    finally:
        await asyncio.gather(*(member.stop(1) for member in members))


def _held(member: GroupConsumer) -> int:
    return len(member._assignment.partitions)
