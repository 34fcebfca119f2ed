"""An endpoint may get the events of a key in order, also across failures and a restart."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.devtools.receiver import Behaviour, Receiver
from pipeline.endpoints.vault import Vault
from schemas.topics import parse_delay
from tests.integration.conftest import Pipeline, StartPipeline, event_bytes
from tests.waiting import until

SOON: dict[str, Any] = {"retry_delays": tuple(map(parse_delay, ("200ms", "500ms", "1s", "1s", "1s"))), "circuit_failures": 10_000}


async def publish(pipeline: Pipeline, keys: list[str], first: int, count: int) -> list[tuple[str, str]]:
    made = [(f"evt-{number}", keys[number % len(keys)]) for number in range(first, first + count)]
    # One by one, so that the events of a key are in the order of their numbers.
    for event, key in made:
        await pipeline.publish(event_bytes(event, number=key))
    return made


async def until_acknowledged(receiver: Receiver, made: list[tuple[str, str]]) -> None:
    async def look() -> bool:
        return all(receiver.acknowledgements.get(event) for event, _ in made)

    await until(look)


def inversions(receiver: Receiver) -> list[str]:
    """Return deliveries that arrived after a later one with the same event key."""
    last: dict[str, int] = defaultdict(lambda: -1)
    found = []
    for one in receiver.deliveries:
        key, sequence = one.headers["oms-event-key"], int(one.headers["oms-event-sequence"])
        if sequence < last[key]:
            found.append(one.webhook_id)
        last[key] = max(last[key], sequence)
    return found


@pytest.mark.slow  # two pipelines, and retries; tests/unit/consumers/test_ordered_partition covers the rules
async def test_events_of_a_key_arrive_in_order_across_failures_and_a_restart(start_pipeline: StartPipeline) -> None:
    key = {"encryption_key": SecretStr(Vault.new_key())}
    keys = [f"R{number}" for number in range(4)]
    async with start_pipeline(**SOON, **key) as pipeline:
        receiver = await pipeline.receiver("erp", Behaviour(fail_rate=0.3, seed=3), ordered=True)
        plain = await pipeline.receiver("crm")
        made = await publish(pipeline, keys, 0, 30)
        await until_acknowledged(plain, made)
        # By now it has joined the group of ordered deliveries. If a member leaves while joining, the embedded broker admits no others.
        await until_acknowledged(receiver, made[:1])
        pipeline.receivers.clear()  # they continue, and deliveries waiting for the first one continue with the next process

    async with start_pipeline(**SOON, **key) as pipeline:
        made += await publish(pipeline, keys, 30, 15)
        await until_acknowledged(receiver, made)
        await until_acknowledged(plain, made)
        assert inversions(receiver) == []
        assert receiver.counts.late == 0
    await asyncio.gather(receiver.stop(), plain.stop())


@pytest.mark.slow  # waiting deliveries are reported every five seconds
async def test_waiting_deliveries_are_reported_and_held_by_a_pause(start_pipeline: StartPipeline) -> None:
    async with start_pipeline(**SOON) as pipeline:
        receiver = await pipeline.receiver("erp", ordered=True, active=False)
        made = await publish(pipeline, ["R1"], 0, 5)

        async def told() -> dict[str, Any] | None:
            [endpoint] = (await pipeline.api.get("endpoints")).json()["endpoints"]
            return endpoint if endpoint["in_order"] else None

        endpoint = await until(told)
        assert endpoint is not None
        held = endpoint["in_order"]
        assert (endpoint["ordered"], held["waiting"], held["keys"], held["reason"]) == (True, 5, 1, "endpoint_not_active")
        assert (held["event_id"], held["next_attempt_at"]) == ("evt-0", None)
        answer = await pipeline.api.patch(f"endpoints/{endpoint['id']}", json={"endpoint": {"active": True}})
        assert answer.status_code == 200, answer.text
        await until_acknowledged(receiver, made)
        assert [one.webhook_id for one in receiver.deliveries] == [event for event, _ in made]
