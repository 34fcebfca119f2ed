"""ClickHouse refuses batches: its disk is full, they are too large, or its table never accepts a row."""

from __future__ import annotations

import asyncio
from collections import Counter

import clickhouse_connect
import httpx
import pytest

from schemas.delivery import DeadLetterReason
from tests.faults.deployment import CLICKHOUSE_PASSWORD, Deployment
from tests.faults.evidence import Evidence
from tests.faults.scenario import Scenario, Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]

DISK_FULL = "Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE) (version 26.2.4.23)"
NO_MEMORY = (
    "Code: 241. DB::Exception: (total) memory limit exceeded: would use 7.03 GiB (attempt to allocate chunk of 4.23 MiB), "
    "maximum: 7.00 GiB. OvercommitTracker decision: Query was selected to stop by OvercommitTracker. (MEMORY_LIMIT_EXCEEDED)"
)
PROXY = "<html><head><title>413 Request Entity Too Large</title></head></html>"
MAX_BYTES = 300_000
"""The accepted size: more than any record has (pipeline/broker/record_batcher.py), less than a batch of some seconds of one partition."""
POISONED = 3


async def test_refused_batches_lose_nothing(stage: Stage) -> None:
    async with stage.play("refused batches", kafka_partitions="1", recorder_batch_seconds="3") as run:
        deployment, clickhouse = run.deployment, run.deployment.clickhouse
        await deployment.roles["recorder"].until_ready()
        poison = await poisoned(run)
        async with run.under_load(waves=3):
            await asyncio.to_thread(clickhouse.refuse, DISK_FULL)
            await deployment.roles["recorder"].until_unready("not enough space")
            run.say("the disk is full, and the recorder says so")
            await asyncio.to_thread(clickhouse.recover)
        for what, text, status in (("a proxy's limit", PROXY, 413), ("the memory limit", NO_MEMORY, 500)):
            async with run.under_load(waves=3):
                await asyncio.to_thread(clickhouse.refuse, text, status=status, over_bytes=MAX_BYTES)
                await until_rows_come_in(deployment)
                run.say(f"{what} refuses large batches; smaller ones go in")
            await asyncio.to_thread(clickhouse.recover)

        def set_aside(found: Evidence) -> int:
            """Return the records with a dispatch or an attempt of a poisoned event."""
            dispatches = {row[:2] for row in found.dispatches if row.id in poison}
            return len(dispatches) + len({attempt.position for attempt in found.attempts if attempt.pair[0] in poison})

        found = await run.prove(most_duplicates=0, dead_letters=set_aside)
        assert {letter.reason for letter in found.dead_letters} == {DeadLetterReason.NOT_RECORDABLE}
        assert all(count == 1 for count in Counter(letter.source for letter in found.dead_letters).values())
        counted = await deployment.roles["recorder"].metric("oms_webhooks_unrecorded_records_total")
        assert counted == len(found.dead_letters), "dead letters are counted"


async def poisoned(run: Scenario) -> list[str]:
    """Return events whose rows the real engine's tables never accept (Code: 469, VIOLATED_CONSTRAINT)."""
    poison = run.chance.sample([event.id for event in run.to_publish], POISONED)
    listed = ", ".join(f"'{event_id}'" for event_id in poison)
    settings = run.deployment.settings
    url = httpx.URL(settings.clickhouse_url)
    client = clickhouse_connect.get_client(
        host=url.host, port=url.port or 0, password=CLICKHOUSE_PASSWORD, database=settings.clickhouse_database
    )
    try:
        for table in ("attempts", "events"):
            client.command(f"ALTER TABLE {table} ADD CONSTRAINT wholesome CHECK event_id NOT IN ({listed})")
    finally:
        client.close()
    return poison


async def until_rows_come_in(deployment: Deployment) -> None:
    """Wait until the recorder was refused, and has still written rows."""
    recorder = deployment.roles["recorder"]
    rows, errors = "oms_webhooks_recorded_rows_total", "oms_webhooks_clickhouse_errors_total"
    await recorder.until_above(errors, await recorder.metric(errors) or 0.0)
    await recorder.until_above(rows, await recorder.metric(rows) or 0.0)
