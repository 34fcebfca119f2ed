"""A pipeline started with a shorter retention_days: old rows are dropped at once, and new ones are recorded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from pipeline.ops.settings import Settings
from pipeline.store.rows import Table
from tests.contract.store_case import opened
from tests.contract.store_records import attempt_rows
from tests.integration.conftest import StartPipeline, event_bytes
from tests.waiting import until

pytestmark = pytest.mark.slow  # starts whole pipelines; make test-slow and make test-kafka run it


@pytest.mark.slow  # starts everything twice; tests/contract/test_store_retention covers what is dropped
async def test_a_shorter_limit_takes_effect_when_the_recorder_starts(start_pipeline: StartPipeline, tmp_path: Path) -> None:
    place: dict[str, Any] = {"clickhouse_path": tmp_path / "clickhouse", "clickhouse_database": "kept"}
    old = datetime.now(UTC) - timedelta(days=100)
    async with opened(Settings(**place)) as store:
        await store.writer.append(Table.ATTEMPTS, 900, attempt_rows(range(70), 900, created_at=old))
    before = REGISTRY.get_sample_value("oms_webhooks_retention_dropped_rows_total", {"table": "attempts"}) or 0.0

    async with start_pipeline(retention_days=30, **place) as pipeline:
        await pipeline.receiver("shop")
        await pipeline.publish(event_bytes("evt-new"))

        async def only_the_new_one() -> bool:
            return [one["event_id"] for one in await pipeline.attempts()] == ["evt-new"]

        assert await until(only_the_new_one)
    dropped = REGISTRY.get_sample_value("oms_webhooks_retention_dropped_rows_total", {"table": "attempts"}) or 0.0
    assert dropped - before == 70
