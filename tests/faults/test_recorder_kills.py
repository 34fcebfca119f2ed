"""``kill -9`` of whoever writes to ClickHouse, at random moments under load: through every way of reading, each attempt is there once.

Who dies differs. The recorder alone, while the server goes on (it may still carry out an insert that nobody waits for). The server alone,
in the middle of an insert that the recorder then tries again. And both at once, where ClickHouse runs in the recorder's process.
"""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from tests.faults.deployment import Deployment
from tests.faults.processes import COMMAND
from tests.faults.read_paths import from_clickhouse, from_the_api
from tests.faults.scenario import Scenario, Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(3600)]

RECORDED = "oms_webhooks_recorded_rows_total"
BUSY = {"recorder_batch_seconds": "0.1", "kafka_session_timeout_ms": "3000"}
"""Inserts follow one another, so that most kills hit one; and a killed recorder's partitions move soon."""


async def test_a_killed_recorder_or_server_records_everything_once(stage: Stage) -> None:
    async with stage.play("recorder or server", **BUSY) as run:
        deployment, kills = run.deployment, run.scale.recorder_kills
        for number in range(1, kills + 1):
            async with run.under_load(waves=kills):
                await at_work(run)
                if number % 2:
                    run.faults.append(await deployment.kill("recorder", pause=run.chance.uniform(0.0, 0.5)))
                else:
                    await asyncio.to_thread(deployment.clickhouse.kill)
                    await asyncio.sleep(run.chance.uniform(0.0, 0.5))
                    await asyncio.to_thread(deployment.clickhouse.start)
            run.say(f"{number} of {kills}: killed {'the recorder' if number % 2 else 'ClickHouse'}")
        await every_way_of_reading_agrees(run)


async def test_a_recorder_with_clickhouse_in_its_process_records_everything_once(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "in-process"
    here = ("env", "OMS_WEBHOOKS_CLICKHOUSE_URL=", f"OMS_WEBHOOKS_CLICKHOUSE_PATH={path}", COMMAND)
    async with stage.play("recorder in process", commands={"recorder": here}, **BUSY) as run:
        deployment, kills = run.deployment, run.scale.recorder_kills
        for number in range(1, kills + 1):
            async with run.under_load(waves=kills):
                await at_work(run)
                run.faults.append(await deployment.kill("recorder", pause=run.chance.uniform(0.0, 0.5)))
            run.say(f"{number} of {kills}: killed the recorder, and ClickHouse with it")
        await deployment.settle(run.scale.settle_seconds)
        await move_to_a_server(deployment, path)
        await every_way_of_reading_agrees(run)


async def at_work(run: Scenario) -> None:
    """Wait until a recorder has its partitions, and for a moment that the seed chooses."""
    recorder = run.deployment.roles["recorder"]
    await recorder.until_above(RECORDED, await recorder.metric(RECORDED) or 0.0)
    await asyncio.sleep(run.chance.uniform(0.0, 0.7))


async def move_to_a_server(deployment: Deployment, path: Path) -> None:
    """From here on ClickHouse with this directory is a server, which the API and another recorder use."""
    await deployment.dismiss("recorder", 40.0)
    await asyncio.to_thread(deployment.clickhouse.stop)
    deployment.clickhouse.path = path
    await asyncio.to_thread(deployment.clickhouse.start)
    await deployment.launch("recorder").until_ready()


async def every_way_of_reading_agrees(run: Scenario) -> None:
    """The promises, and then all that can be asked."""
    found = await run.prove()
    assert len(found.attempts) == len({attempt.id for attempt in found.attempts})
    readings = await asyncio.to_thread(from_clickhouse, run.deployment)
    await run.deployment.roles["api"].until_ready()
    everything = dataclasses.replace(readings, attempts={**readings.attempts, **await from_the_api(run.deployment)})
    assert not list(everything.differences(found)), "\n".join(everything.differences(found))
    run.say(f"the hourly figures leave out {everything.left_out:,} of {len(found.attempts):,} attempts")
    assert everything.figures == (len(found.attempts), everything.failures), "the hourly figures count each attempt once"
