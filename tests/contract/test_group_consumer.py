"""A consumer group on a broker: who is a member, and what each member shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from kafka import KafkaConsumer

from pipeline.broker.consumer import GroupConsumer
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.kafka.config import consumer_config
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
    await asyncio.to_thread(_create, settings, topic)
    members = [_member(GroupConsumer, settings, f"{topic_prefix}group", topic) for _ in range(2)]
    assert "not a member of group" in str(members[0].problem())
    await asyncio.gather(*(member.start() for member in members))
    deadline = time.monotonic() + 60
    try:
        while any(member.problem() for member in members) or sum(_held(member) for member in members) != 1:
            assert time.monotonic() < deadline, [(member.problem(), _held(member)) for member in members]
            await asyncio.sleep(0.1)
    finally:
        await asyncio.gather(*(member.stop(1) for member in members))


class _Away(GroupConsumer):
    """Once told to leave, it begins one join, and comes back when that is over."""

    leaves = False
    is_leaving = False
    joined = False

    def leave(self) -> None:
        self.leaves = True

    def _poll_timeout_ms(self, consumer: KafkaConsumer) -> int:
        milliseconds = super()._poll_timeout_ms(consumer)
        return 0 if self.leaves else milliseconds

    def _turn(self, consumer: KafkaConsumer) -> None:
        coordinator = consumer._coordinator
        join = coordinator._do_join_and_sync_async

        async def join_slowly() -> Any:
            await coordinator._net.sleep(0.3)
            return await join()

        self.is_leaving = self.leaves
        if self.is_leaving:
            coordinator._do_join_and_sync_async = join_slowly
        super()._turn(consumer)
        if self.is_leaving and coordinator.rejoining:
            while not coordinator._join_task.is_done:
                time.sleep(0.01)
            self.joined, self.leaves = True, False
        coordinator._do_join_and_sync_async = join


@pytest.mark.apache
async def test_a_join_that_ends_between_two_polls_is_not_forgotten(bootstrap_servers: str, topic_prefix: str) -> None:
    """A topic has grown, so the group's member joins again; the poll is over before the join is."""
    settings = Settings(
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_replication_factor=1,
        kafka_partitions=1,
        kafka_session_timeout_ms=6000,
        kafka_metadata_max_age_ms=1000,
    )
    topic = TopicSpec(f"{topic_prefix}growing", "any", "delete", 60_000)

    def grow() -> None:
        with KafkaTopicAdmin(settings) as admin:
            admin.grow(admin.planned_growth([topic], 3))

    await asyncio.to_thread(_create, settings, topic)
    member = _member(_Away, settings, f"{topic_prefix}group", topic)
    await member.start()
    try:
        await _until(lambda: _held(member) == 1)
        member.leave()
        await _until(lambda: member.is_leaving)
        await asyncio.to_thread(grow)
        await _until(lambda: _held(member) == 3)
        assert member.joined, "the join was over before the member looked again"
    finally:
        await member.stop(1)


MemberT = TypeVar("MemberT", bound=GroupConsumer)


def _member(kind: type[MemberT], settings: Settings, group: str, topic: TopicSpec) -> MemberT:
    return kind(
        consumer_config(settings),
        group=group,
        topics=[topic.name],
        max_outstanding=10,
        max_outstanding_bytes=1024 * 1024,
        on_records=lambda _: None,
    )


def _create(settings: Settings, topic: TopicSpec) -> None:
    with KafkaTopicAdmin(settings) as admin:
        admin.create_missing([topic])


async def _until(reached: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "not reached in time"
        await asyncio.sleep(0.05)


def _held(member: GroupConsumer) -> int:
    return len(member._assignment.partitions)
