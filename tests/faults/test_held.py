"""``kill -9`` of the retry while it releases held deliveries: nothing is lost, and few are sent twice."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from consumers.held_partition import CHUNK
from tests.faults.deployment import Deployment
from tests.faults.receivers import Behaviour
from tests.faults.scenario import Stage
from tests.waiting import until

RATE = 5
"""Requests per second and endpoint while the retry is killed: few enough that the release does not end before the last kill."""

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]


async def test_a_killed_release_loses_nothing(stage: Stage) -> None:
    # No endpoint fails: duplicates come only from the kills.
    async with stage.play("held", behaviour=Behaviour()) as run:
        deployment = run.deployment
        await change(deployment, active=False)
        await deployment.publish(run.take(run.scale.events), run.scale.events_a_second)
        expected = sum(len(event.wanted_by) for event in deployment.events)
        await until_held(deployment, expected)
        run.say(f"{expected:,} deliveries are held")
        retry = deployment.roles["retry"]
        retry.kill()
        retry.start()
        await retry.until_ready()
        assert deployment.acknowledged() == set(), "a restart resumes no endpoint"
        await until_held(deployment, expected)

        # Slow enough to be killed during the release, more than once.
        await change(deployment, active=True, max_per_second=RATE)
        kills = 0
        while kills < max(2, run.scale.kills // 3) and await held_now(deployment) > expected // 10:
            await retry.until_above_zero("oms_webhooks_released_deliveries_total")
            await asyncio.sleep(run.chance.uniform(0.0, 1.0))
            retry.kill()
            kills += 1
            retry.start()
        assert kills > 1, "the release ended too soon"
        await change(deployment, max_per_second=None)
        await until_held(deployment, 0)
        await deployment.settle(run.scale.settle_seconds)
        deployment.receivers.ledger.read_on()
        times = Counter((request.event_id, request.path) for request in deployment.receivers.ledger.requests)
        again = sum(count - 1 for count in times.values())
        run.say(f"{kills} kills during the release: {again:,} of {expected:,} went out twice")
        assert len(times) == expected
        # Released but not yet written down, for each partition; in progress in the retry; and fetched since.
        in_hand = deployment.settings.max_outstanding_records
        assert again <= kills * (CHUNK * deployment.settings.kafka_partitions + in_hand)


async def change(deployment: Deployment, **values: object) -> None:
    async with deployment.api() as client:
        for endpoint_id in deployment.paths:
            changed = await client.patch(f"/api/webhook/endpoints/{endpoint_id}", json={"endpoint": values})
            assert changed.status_code == 200, changed.text


async def held_now(deployment: Deployment) -> int:
    async with deployment.api() as client:
        listed = (await client.get("/api/webhook/endpoints", params={"per_page": "200"})).raise_for_status().json()
    return sum(endpoint["held_count"] for endpoint in listed["endpoints"])


async def until_held(deployment: Deployment, count: int) -> None:
    held = 0

    async def are_held() -> bool:
        nonlocal held
        held = await held_now(deployment)
        return held == count

    await until(are_held, lambda: f"{held:,} deliveries are held, not {count:,}", seconds=240)
