"""ClickHouse is down for minutes: Kafka keeps the records, deliveries continue, and afterwards every record is there once."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.clickhouse_faults import FaultKind
from tests.faults.scenario import Scenario, Stage
from tests.waiting import until

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]


async def test_deliveries_continue_without_clickhouse(stage: Stage) -> None:
    async with stage.play("ClickHouse outage") as run:
        clickhouse = run.deployment.clickhouse
        async with run.under_load(waves=2):
            await run.deployment.until_at_work("fanout")
            await run.deployment.roles["recorder"].until_busy()
            await asyncio.to_thread(clickhouse.kill)
            run.say(f"ClickHouse was killed; it is away for {run.scale.clickhouse_outage_seconds:.0f} s")
            await delivery_goes_on(run)
        await asyncio.to_thread(clickhouse.start)
        run.say("ClickHouse is back")
        async with run.under_load(waves=2):
            before = len(run.deployment.acknowledged())
            await until(lambda: len(run.deployment.acknowledged()) > before)  # on a busy machine, the load begins late
            # Reachable but failing; it executes some of the refused inserts.
            await asyncio.to_thread(clickhouse.fail, run.chance.choice([FaultKind.UNAVAILABLE, FaultKind.LOST]), times=1_000_000)
            await delivery_goes_on(run)
            await asyncio.to_thread(clickhouse.recover)
        await run.prove(most_duplicates=0)


async def delivery_goes_on(run: Scenario) -> None:
    """Check that during the outage the receivers keep getting requests, and the recorder says what it waits for."""
    slices = 3
    for _ in range(slices):
        before = len(run.deployment.acknowledged())
        published = len(run.deployment.events)
        await asyncio.sleep(run.scale.clickhouse_outage_seconds / slices)
        after = len(run.deployment.acknowledged())
        run.say(f"without ClickHouse, {after - before:,} more notifications were acknowledged")
        is_publishing = len(run.deployment.events) == published
        assert after > before or not is_publishing, "nothing was delivered while ClickHouse was down"
    await run.deployment.roles["recorder"].until_unready("ClickHouse")
