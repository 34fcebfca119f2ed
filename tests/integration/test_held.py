"""What is due for an endpoint that is paused is held, survives restarts, and goes out when it is resumed."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import SecretStr

from pipeline.endpoints.vault import Vault
from pipeline.playground.receiver import Behaviour, Receiver
from schemas.topics import parse_delay
from tests.integration.conftest import Pipeline, StartPipeline, event_bytes, eventually

FAILING = Behaviour(fail_rate=1.0, status=500)
WORKING = Behaviour()
PATIENT: dict[str, Any] = {"retry_delays": tuple(map(parse_delay, ("3s", "3s", "3s"))), "circuit_failures": 10_000}


async def endpoint_of(pipeline: Pipeline) -> dict[str, Any]:
    [endpoint] = (await pipeline.api.get("endpoints")).json()["endpoints"]
    assert isinstance(endpoint, dict)
    return endpoint


async def set_active(pipeline: Pipeline, endpoint_id: int, active: bool) -> dict[str, Any]:
    answer = await pipeline.api.patch(f"endpoints/{endpoint_id}", json={"endpoint": {"active": active}})
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


async def until_held(pipeline: Pipeline, count: int) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        endpoint = await endpoint_of(pipeline)
        return endpoint if endpoint["held_count"] == count else None

    found = await eventually(look, 40)
    assert found is not None
    return found


async def until_acknowledged(receiver: Receiver, events: list[str]) -> None:
    async def look() -> bool:
        return all(receiver.acknowledgements.get(event) for event in events)

    await eventually(look, 60)


async def publish(pipeline: Pipeline, events: list[str]) -> None:
    await asyncio.gather(*(pipeline.publish(event_bytes(event)) for event in events))


async def test_a_pause_holds_the_backlog_and_what_comes_and_resuming_sends_it_all(start_pipeline: StartPipeline) -> None:
    due = [f"evt-due-{number}" for number in range(60)]
    new = [f"evt-new-{number}" for number in range(30)]
    late = [f"evt-late-{number}" for number in range(10)]
    key = {"encryption_key": SecretStr(Vault.new_key()), "clickhouse_path": None}
    async with start_pipeline(**PATIENT, **key) as pipeline:
        receiver = await pipeline.receiver("erp", FAILING)
        await publish(pipeline, due)

        async def all_failed() -> bool:
            return len({each.webhook_id for each in receiver.deliveries}) == len(due)

        await eventually(all_failed, 40)
        endpoint = await endpoint_of(pipeline)
        await set_active(pipeline, endpoint["id"], active=False)
        await publish(pipeline, new)
        held = await until_held(pipeline, len(due) + len(new))
        assert (held["state"], held["held_since"] is not None) == ("paused", True)
        assert await pipeline.attempts(outcome_eq="discarded") == []
        pipeline.receivers.clear()  # it goes on

    # All of it is restarted, and nobody is resumed by that.
    async with start_pipeline(**PATIENT, **key) as pipeline:
        receiver.behaviour = WORKING
        made = len(receiver.deliveries)
        await publish(pipeline, late)
        await until_held(pipeline, len(due) + len(new) + len(late))
        assert len(receiver.deliveries) == made
        await set_active(pipeline, endpoint["id"], active=True)
        await until_acknowledged(receiver, due + new + late)
        await until_held(pipeline, 0)
        assert {receiver.acknowledgements[event] for event in due + new + late} == {1}
    await receiver.stop()
