"""A consumer group on a broker: its members, and what each one reports."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from pipeline.broker.consumer import ConsumerOptions, GroupConsumer
from pipeline.broker.factory import open_broker
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.kafka.group_client import KafkaGroupClient
from pipeline.ops.settings import Settings
from schemas.topics import TopicSpec
from tests.contract.broker.backends import Heard, take_part
from tests.contract.broker.dying_process import EXIT_CODE
from tests.waiting import until, wait_until


async def test_a_member_without_partitions_is_ready(bootstrap_servers: str, topic_prefix: str) -> None:
    """With more processes than partitions, the others stand by, and a rolling update must not wait for them forever.

    It takes seconds: on the embedded broker, a join takes half a session timeout.
    """
    settings = Settings(
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_replication_factor=1,
        kafka_session_timeout_ms=6000,
        kafka_fetch_max_wait_ms=30,
    )
    topic = TopicSpec(f"{topic_prefix}one-partition", "any", "delete", 60_000, partitions=1)
    await asyncio.to_thread(_create, settings, topic)
    members = [_member(settings, f"{topic_prefix}group", topic) for _ in range(2)]
    assert "not a member of group" in str(members[0].problem())
    await asyncio.gather(*(member.start() for member in members))
    try:
        await until(
            lambda: not any(member.problem() for member in members) and sum(_held(member) for member in members) == 1,
            lambda: [(member.problem(), _held(member)) for member in members],
        )
    finally:
        await asyncio.gather(*(member.stop(1) for member in members))


class _Hasty(KafkaGroupClient):
    """Once told to, does not wait for a join: it starts one, and polls again when that is over."""

    is_in_haste = False
    joins_between_polls = 0

    def poll(self, seconds: float) -> None:
        if not _Hasty.is_in_haste:
            super().poll(seconds)
            return
        coordinator = self._consumer._coordinator
        join = coordinator._do_join_and_sync_async

        async def join_slowly() -> Any:
            await coordinator._net.sleep(0.3)
            return await join()

        coordinator._do_join_and_sync_async = join_slowly
        super().poll(0.0)
        coordinator._do_join_and_sync_async = join
        task = coordinator._join_task
        if coordinator.rejoining and task is not None:
            wait_until(lambda: task.is_done)
            _Hasty.joins_between_polls += 1
            _Hasty.is_in_haste = False


@pytest.mark.apache
async def test_a_join_that_ends_between_two_polls_is_not_forgotten(
    bootstrap_servers: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A topic has grown, so the group's member joins again; the poll ends before the join."""
    settings = _settings(bootstrap_servers)
    topic = TopicSpec(f"{topic_prefix}growing", "any", "delete", 60_000)

    def grow() -> None:
        with KafkaTopicAdmin(settings) as admin:
            admin.grow(admin.planned_growth([topic], 3))

    await asyncio.to_thread(_create, settings, topic)
    monkeypatch.setattr("pipeline.broker.kafka.broker.KafkaGroupClient", _Hasty)
    member = _member(settings, f"{topic_prefix}group", topic)
    await member.start()
    try:
        await until(lambda: _held(member) == 1)
        monkeypatch.setattr(_Hasty, "is_in_haste", True)
        await asyncio.to_thread(grow)
        await until(lambda: _held(member) == 3)
        # Without speed-ups, each poll has a minimum length, in which the join may end.
        assert _Hasty.joins_between_polls or not settings.kafka_speedups, "no join ended before the member polled again"
    finally:
        await member.stop(1)


@pytest.mark.apache
@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
async def test_partitions_added_after_the_leader_came_back_are_read(
    client: str, bootstrap_servers: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A static member that replaces the leader does not know that it is the leader."""
    monkeypatch.setattr("pipeline.broker.assignment_check._LOOKS_APART_S", 2.0)
    monkeypatch.setattr("pipeline.broker.assignment_check.ADDED_S", 5.0)
    settings = _settings(bootstrap_servers, client)
    topic, group = TopicSpec(f"{topic_prefix}growing", "any", "delete", 60_000), f"{topic_prefix}group"

    def grow() -> None:
        with KafkaTopicAdmin(settings) as admin:
            admin.grow(admin.planned_growth([topic], 3))

    def lead_and_die() -> None:
        heard = Heard()
        killed = open_broker(settings, slot="host-0").group_client(group, [topic.name], heard)
        take_part([killed], lambda: len(heard.held) == 1)
        killed.close(leave=False)

    await asyncio.to_thread(_create, settings, topic)
    await asyncio.to_thread(lead_and_die)
    member = _member(settings, group, topic, slot="host-0")
    await member.start()
    try:
        await until(lambda: _held(member) == 1)
        await asyncio.to_thread(grow)
        await until(lambda: _held(member) == 3)
    finally:
        await member.stop(1)


@pytest.mark.apache
@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
async def test_partitions_that_a_member_gave_up_before_it_was_killed_are_read(
    client: str, bootstrap_servers: str, topic_prefix: str
) -> None:
    """Killed between the two rounds of a rebalance, and back within its session timeout."""
    settings = _settings(bootstrap_servers, client)
    topic, group = TopicSpec(f"{topic_prefix}any", "any", "delete", 60_000, partitions=4), f"{topic_prefix}group"
    await asyncio.to_thread(_create, settings, topic)
    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.contract.broker.dying_process", bootstrap_servers, client, group, topic.name, "host-0"),
        stdout=asyncio.subprocess.PIPE,
    )
    back, other = (_member(settings, group, topic, slot=f"host-{number}") for number in range(2))
    started = []
    try:
        assert killed.stdout is not None
        async with asyncio.timeout(60):
            while (line := await killed.stdout.readline()) != b"it has 4 partitions\n":
                assert line, "it ended too early"
            for member in (other, back):
                await member.start()
                started.append(member)
                assert await killed.wait() == EXIT_CODE
        await until(lambda: _held(back) + _held(other) == 4, seconds=45)
        assert not back._assignment.partitions & other._assignment.partitions
    finally:
        if killed.returncode is None:
            killed.kill()
        for member in started:
            await member.stop(1)


def _settings(bootstrap_servers: str, client: str = "kafka-python") -> Settings:
    return Settings(
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_client=client,
        kafka_replication_factor=1,
        kafka_partitions=1,
        kafka_session_timeout_ms=6000,
        kafka_metadata_max_age_ms=1000,
    )


def _member(settings: Settings, group: str, topic: TopicSpec, slot: str | None = None) -> GroupConsumer:
    return GroupConsumer(
        open_broker(settings, slot=slot),
        ConsumerOptions(
            group=group,
            topics=[topic.name],
            max_outstanding=10,
            max_outstanding_bytes=1024 * 1024,
        ),
        on_records=lambda _: None,
    )


def _create(settings: Settings, topic: TopicSpec) -> None:
    with KafkaTopicAdmin(settings) as admin:
        admin.create_missing([topic])


def _held(member: GroupConsumer) -> int:
    return len(member._assignment.partitions)
