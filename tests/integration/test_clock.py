"""A machine whose clock is an hour fast, with a broker whose clock is right: no attempt is early."""

from __future__ import annotations

import time

import pytest

from pipeline.devtools.receiver import Behaviour
from schemas.topics import parse_delay
from tests.integration.conftest import StartPipeline, event_bytes
from tests.waiting import until


@pytest.mark.apache  # the embedded broker stores the timestamps that it gets
@pytest.mark.parametrize("ahead", [3600.0, -3600.0], ids=["fast", "slow"])
async def test_a_wrong_clock_does_not_change_the_schedule(
    start_pipeline: StartPipeline, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    async with start_pipeline(retry_delays=tuple(map(parse_delay, ("2s", "50m", "50m")))) as pipeline:
        await pipeline.receiver("failing", Behaviour(fail_rate=1.0))
        started = real()
        await pipeline.publish(event_bytes("evt-clock"))

        async def attempted_twice(event_id: str) -> bool:
            return len(await pipeline.attempts(event_id_eq=event_id)) >= 2

        await until(lambda: attempted_twice("evt-clock"))
        assert real() - started >= 2
        # With a fast clock, a third attempt would have been made before the second one of a later event, which takes two seconds.
        await pipeline.publish(event_bytes("evt-later"))
        await until(lambda: attempted_twice("evt-later"))
        assert len(await pipeline.attempts(event_id_eq="evt-clock")) == 2
