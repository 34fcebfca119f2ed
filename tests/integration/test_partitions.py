"""Partitions are added while events arrive, fail, wait for retries and are recorded: nothing is lost or recorded twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from consumers.run import Role
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.devtools.receiver import Behaviour
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from pipeline.store.connection import Connections
from tests.integration.conftest import StartPipeline, event_bytes
from tests.waiting import until

pytestmark = [pytest.mark.apache, pytest.mark.timeout(300)]

EVENTS = 600
BEFORE, AFTER = 2, 5


def grow(settings: Settings) -> list[str]:
    specs = settings.topics.specs()
    with KafkaTopicAdmin(settings) as admin:
        planned = admin.planned_growth(specs, AFTER)
        admin.grow(planned)
        assert admin.planned_growth(specs, AFTER) == [], "a second run has nothing to do"
        assert admin.differences(specs) == []
    return [growth.topic for growth in planned]


async def test_partitions_are_added_under_load(start_pipeline: StartPipeline, tmp_path: Path) -> None:
    kept: dict[str, Any] = {
        "kafka_partitions": BEFORE,
        "kafka_metadata_max_age_ms": 1_000,
        "circuit_failures": 10_000,  # every first attempt fails here, many in a row
        "clickhouse_path": tmp_path / "clickhouse",
    }
    async with start_pipeline(tuple(Role), encryption_key=Vault.new_key(), **kept) as pipeline:
        receiver = await pipeline.receiver("grown", Behaviour(fail_first=1))
        settings = pipeline.settings

        async def publish() -> None:
            for number in range(EVENTS):
                await pipeline.publish(event_bytes(f"evt-{number}", number=f"R{number:09}"))
                await asyncio.sleep(0.01)

        publishing = asyncio.create_task(publish())
        await until(lambda: _at_least(receiver.counts, EVENTS // 6))
        grown = await asyncio.to_thread(grow, settings)
        assert set(grown) == {spec.name for spec in settings.topics.specs() if spec.partitions is None}
        await publishing
        await until(lambda: _at_least(receiver.counts, EVENTS), seconds=120)

    connections = Connections(settings)

    async def rows(sql: str) -> list[Any]:
        return list(await connections.read(lambda client: client.query(sql).result_rows))

    try:
        tried = await rows("SELECT event_id, groupArray(attempt), groupArray(outcome) FROM attempts GROUP BY event_id")
        assert {event: sorted(zip(numbers, outcomes, strict=True)) for event, numbers, outcomes in tried} == {
            f"evt-{number}": [(1, "repeated"), (2, "delivered")] for number in range(EVENTS)
        }
        assert await rows("SELECT count(), uniqExact(event_id) FROM events") == [(EVENTS, EVENTS)]
        for table in ("attempts", "events"):
            used = [partition for (partition,) in await rows(f"SELECT DISTINCT kafka_partition FROM {table}")]
            assert max(used) >= BEFORE, f"new source partitions of {table} must be used: {used}"
        [(sources,)] = await rows("SELECT groupUniqArray(source_partition) FROM events")
        assert max(sources) >= BEFORE
    finally:
        await connections.close()
    assert Counter(one.webhook_id for one in receiver.deliveries).most_common(1)[0][1] == 2


async def _at_least(counts: Any, acknowledged: int) -> bool:
    return bool(counts.acknowledged >= acknowledged)
