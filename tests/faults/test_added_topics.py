"""Event types with their own topics are added, and all fan-outs die at once while they learn of them: every event is still read."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from pipeline.broker.factory import open_broker
from pipeline.broker.producer import Producer
from tests.faults.deployment import Deployment, deployed
from tests.faults.receivers import Behaviour
from tests.faults.scale import Scale
from tests.waiting import until

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = {"short": 2, "full": 6}
EVENTS = 20
FANOUTS = ("fanout", "fanout-2")
SECONDS = 90.0
"""A static member that died before joining with a topic notices after 15 s."""


async def test_a_fan_out_that_dies_while_a_topic_is_added_still_reads_it(
    tmp_path: Path, bootstrap_servers: str, topic_prefix: str, scale: Scale
) -> None:
    chance = random.Random(17)
    async with deployed(
        tmp_path, bootstrap_servers, topic_prefix, roles=("api", "fanout", "retry"), behaviour=Behaviour(), endpoints=()
    ) as deployment:
        await deployment.launch("fanout", FANOUTS[1]).until_ready()
        names: list[str] = []
        for number in range(ROUNDS[scale.form]):
            names.append(f"event_{number}")
            await _add(deployment, names)
            await asyncio.sleep(chance.choice((0.0, 0.05, 0.2, 0.5, 1.0)))
            for name in FANOUTS:
                deployment.roles[name].kill()
            before = await _publish(deployment, number, "before")
            for name in FANOUTS:
                deployment.roles[name].start()
            wanted = before | await _publish(deployment, number, "after")
            await _until_acknowledged(deployment, wanted, number)


async def _until_acknowledged(deployment: Deployment, wanted: set[str], number: int) -> None:
    async def all_are() -> bool:
        return wanted <= {event for event, _ in await asyncio.to_thread(deployment.acknowledged)}

    await until(all_are, lambda: f"round {number}: {deployment.roles['fanout'].log_end()}", seconds=SECONDS)


async def _add(deployment: Deployment, names: list[str]) -> None:
    """Add the last of these event types, and subscribe one endpoint to all of them."""
    entry = {"name": names[-1], "topic": f"oms.{names[-1]}", "description": "It happened.", "schema": {}, "sample": {}}
    async with deployment.api() as client:
        added = await client.post("/api/webhook/event_types", json={"event_type": entry})
        assert added.status_code == 201, added.text
        endpoint = {"target_url": f"{deployment.receivers.url}/added", "events": names}
        if len(names) == 1:
            made = await client.post("/api/webhook/endpoints", json={"endpoint": endpoint})
            deployment.paths[made.json()["id"]] = "/added"
        else:
            (known,) = deployment.paths
            made = await client.patch(f"/api/webhook/endpoints/{known}", json={"endpoint": endpoint})
        assert made.is_success, made.text


async def _publish(deployment: Deployment, number: int, wave: str) -> set[str]:
    topic = f"{deployment.settings.topics.prefix}oms.event_{number}"
    producer = Producer(open_broker(deployment.settings), [topic])
    await producer.start()
    ids = [f"{number}-{wave}-{each}" for each in range(EVENTS)]
    try:
        for one in ids:
            event = {"id": one, "event_name": f"event_{number}", "occurred_at": "2026-03-02T15:04:00Z", "data": {}}
            await producer.send(topic, key=one.encode(), value=json.dumps(event).encode())
    finally:
        await producer.close()
    return set(ids)
