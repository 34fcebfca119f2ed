"""The broker goes down and comes back, in order and after ``kill -9``: acknowledged records are there, and everything continues."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from pipeline.devtools.local_broker import ApacheKafkaBroker
from tests.faults.evidence import Fault
from tests.faults.scenario import Scenario, Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]


async def test_everything_continues_when_the_broker_comes_back(stage: Stage, own_broker: ApacheKafkaBroker) -> None:
    async with stage.play("broker outage", bootstrap_servers=own_broker.bootstrap_servers) as run:
        ways: list[tuple[str, Callable[[], None]]] = [("SIGTERM", own_broker.stop), ("kill -9", own_broker.kill)]
        run.chance.shuffle(ways)
        for way, end in ways:
            async with run.under_load(waves=len(ways)):
                await run.deployment.until_at_work()
                await asyncio.sleep(run.chance.uniform(1.0, 3.0))
                await outage(run, own_broker, way, end)
        await run.prove()


async def outage(run: Scenario, broker: ApacheKafkaBroker, way: str, end: Callable[[], None]) -> None:
    """Stop the broker, restart it, and record what was in flight."""
    roles = ("fanout", "retry")
    in_hand = {role: await run.deployment.roles[role].metric("oms_webhooks_outstanding_records") or 0.0 for role in roles}
    committed = {role: await run.deployment.committed(role) for role in roles}
    at = time.time()
    await asyncio.to_thread(end)
    run.say(f"the broker is gone ({way}), for {run.scale.broker_outage_seconds:.0f} s")
    await asyncio.sleep(run.scale.broker_outage_seconds)
    await asyncio.to_thread(broker.start)
    until = time.time()
    run.say("the broker is back")
    for role in roles:
        run.faults.append(Fault(f"broker {way}", role, at, committed[role], in_hand[role], until))
