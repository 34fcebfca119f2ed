"""A machine whose clock is an hour fast, in front of a broker whose clock is right: no attempt comes early."""

from __future__ import annotations

import asyncio
import time

import pytest

from pipeline.devtools.receiver import Behaviour
from schemas.topics import parse_delay
from tests.integration.conftest import StartPipeline, event_bytes
from tests.waiting import until


@pytest.mark.apache  # the embedded broker writes down the times that it is given
@pytest.mark.parametrize("ahead", [3600.0, -3600.0], ids=["fast", "slow"])
async def test_a_schedule_does_not_run_off_by_a_clock_that_is_wrong(
    start_pipeline: StartPipeline, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    async with start_pipeline(retry_delays=tuple(map(parse_delay, ("2s", "50m", "50m")))) as pipeline:
        await pipeline.receiver("failing", Behaviour(fail_rate=1.0))
        started = real()
        await pipeline.publish(event_bytes("evt-clock"))

        async def two() -> bool:
            return len(await pipeline.attempts()) >= 2

        await until(two)
        assert real() - started >= 2
        await asyncio.sleep(5)  # in which a third attempt would have come, by a clock that is fast
        assert len(await pipeline.attempts()) == 2
