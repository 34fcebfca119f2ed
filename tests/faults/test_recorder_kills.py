"""``kill -9`` of the recorder, at random moments under load: every read path returns each attempt once.

A ClickHouse server continues, and may execute an insert that nothing waits for any more. With ClickHouse in process, both die at
once, during an insert.
"""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from tests.faults.deployment import Deployment
from tests.faults.processes import COMMAND
from tests.faults.read_paths import Readings, from_clickhouse, from_the_api
from tests.faults.scenario import Scenario, Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(3600)]

BUSY = ("env", "OMS_WEBHOOKS_RECORDER_BATCH_SECONDS=0.1", "OMS_WEBHOOKS_KAFKA_SESSION_TIMEOUT_MS=3000")
"""Inserts follow each other closely, so that most kills hit one; and the partitions of a killed recorder move soon."""


async def test_a_killed_recorder_records_everything_once(stage: Stage) -> None:
    async with stage.play("recorder kills", commands={"recorder": (*BUSY, COMMAND)}) as run:
        await kill_again_and_again(run)
        readings = await every_way_of_reading_agrees(run)
        assert readings.left_out == 0, "the server continued, so the hourly figures count every attempt"


async def test_a_killed_recorder_with_clickhouse_in_process_records_everything_once(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "in-process"
    here = ("OMS_WEBHOOKS_CLICKHOUSE_URL=", f"OMS_WEBHOOKS_CLICKHOUSE_PATH={path}")
    async with stage.play("recorder kills in process", commands={"recorder": (*BUSY, *here, COMMAND)}) as run:
        await kill_again_and_again(run)
        await run.deployment.settle(run.scale.settle_seconds)
        await move_to_a_server(run.deployment, path)
        readings = await every_way_of_reading_agrees(run)
        assert readings.left_out == 0, "figures missing after a crash were added at the next start"


async def kill_again_and_again(run: Scenario) -> None:
    """Kill the recorder repeatedly, at moments chosen by the seed, after it has recorded something since its start."""
    recorder, kills = run.deployment.roles["recorder"], run.scale.recorder_kills
    for number in range(1, kills + 1):
        async with run.under_load(waves=kills):
            await recorder.until_above_zero("oms_webhooks_recorded_rows_total")
            await asyncio.sleep(run.chance.uniform(0.0, 0.7))
            recorder.kill()
            await asyncio.sleep(run.chance.uniform(0.0, 0.5))
            recorder.start()
        run.say(f"{number} of {kills}: killed the recorder")


async def move_to_a_server(deployment: Deployment, path: Path) -> None:
    """Start a ClickHouse server with this directory, for the API and another recorder."""
    await deployment.dismiss("recorder", 40.0)
    await asyncio.to_thread(deployment.clickhouse.stop)
    deployment.clickhouse.path = path
    await asyncio.to_thread(deployment.clickhouse.start)
    await deployment.launch("recorder").until_ready()


async def every_way_of_reading_agrees(run: Scenario) -> Readings:
    """Check the promises, and then every read path."""
    found = await run.prove()
    ids = {attempt.id for attempt in found.attempts}
    assert len(ids) == len(found.attempts) > 0
    await run.deployment.roles["api"].until_ready()
    readings = await asyncio.to_thread(from_clickhouse, run.deployment)
    readings = dataclasses.replace(readings, attempts={**readings.attempts, **await from_the_api(run.deployment)})
    differences = list(readings.differences(len(ids), len(found.dispatches)))
    assert not differences, "\n".join(differences)
    return readings
