"""Deliveries for a paused endpoint are held, survive restarts, and are sent when it is resumed."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.devtools.receiver import Behaviour, Receiver
from pipeline.endpoints.vault import Vault
from schemas.topics import parse_delay
from tests.integration.conftest import Pipeline, StartPipeline, event_bytes
from tests.waiting import until

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

    found: dict[str, Any] | None = await until(look)
    assert found is not None
    return found


async def until_acknowledged(receiver: Receiver, events: list[str]) -> None:
    async def look() -> bool:
        return all(receiver.acknowledgements.get(event) for event in events)

    await until(look)


async def publish(pipeline: Pipeline, events: list[str]) -> None:
    await asyncio.gather(*(pipeline.publish(event_bytes(event)) for event in events))


@pytest.mark.slow  # two starts; holding and resuming is in test_path, restarts are in tests/unit/consumers/test_held_partition.py
async def test_a_pause_holds_the_backlog_and_new_deliveries_and_resuming_sends_them(start_pipeline: StartPipeline) -> None:
    due = [f"evt-due-{number}" for number in range(60)]
    new = [f"evt-new-{number}" for number in range(30)]
    late = [f"evt-late-{number}" for number in range(10)]
    key = {"encryption_key": SecretStr(Vault.new_key())}
    async with start_pipeline(**PATIENT, **key) as pipeline:
        receiver = await pipeline.receiver("erp", FAILING)
        await publish(pipeline, due)

        async def all_failed() -> bool:
            return len({each.webhook_id for each in receiver.deliveries}) == len(due)

        await until(all_failed)
        endpoint = await endpoint_of(pipeline)
        await set_active(pipeline, endpoint["id"], active=False)
        await publish(pipeline, new)
        held = await until_held(pipeline, len(due) + len(new))
        assert (held["state"], held["held_since"] is not None) == ("paused", True)
        assert await pipeline.attempts(outcome_eq="discarded") == []
        pipeline.receivers.clear()  # it continues

    # Everything is restarted, which resumes no endpoint.
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


@pytest.mark.slow  # a pipeline of its own; tests/unit/consumers/test_held_partition covers the rule
async def test_held_deliveries_expire_and_are_recorded(start_pipeline: StartPipeline) -> None:
    async with start_pipeline(**PATIENT, hold_days=6 / 86_400) as pipeline:
        receiver = await pipeline.receiver("erp", active=False)
        endpoint = await endpoint_of(pipeline)
        await publish(pipeline, ["evt-old-1", "evt-old-2"])
        await until_held(pipeline, 2)

        async def expired() -> list[dict[str, Any]]:
            found = await pipeline.attempts(outcome_eq="expired")
            return found if len(found) == 2 else []

        records = await until(expired)
        assert {each["event_id"] for each in records} == {"evt-old-1", "evt-old-2"}
        assert {(each["state"], each["attempt"], each["http_status_code"]) for each in records} == {("failed", 1, None)}
        assert "the endpoint was not resumed in that time" in records[0]["error"]
        await until_held(pipeline, 0)
        # It has expired: resuming brings nothing back, and new deliveries are sent.
        await set_active(pipeline, endpoint["id"], active=True)
        await publish(pipeline, ["evt-young"])
        await until_acknowledged(receiver, ["evt-young"])
        assert {each.webhook_id for each in receiver.deliveries} == {"evt-young"}


@pytest.mark.slow
async def test_a_drop_is_exact_and_reports_the_number(start_pipeline: StartPipeline) -> None:
    async with start_pipeline(**PATIENT) as pipeline:
        receiver = await pipeline.receiver("erp", active=False)
        endpoint = await endpoint_of(pipeline)
        path = f"endpoints/{endpoint['id']}/held/drop"
        await publish(pipeline, [f"evt-{number}" for number in range(12)])
        await until_held(pipeline, 12)

        wrong = await pipeline.api.post(path, json={"count": 11})
        assert (wrong.status_code, wrong.json()["held_count"]) == (409, 12)
        assert (await endpoint_of(pipeline))["held_count"] == 12
        assert await pipeline.attempts(outcome_eq="discarded") == []

        right = await pipeline.api.post(path, json={"count": 12})
        assert (right.status_code, right.json()) == (200, {"dropped": 12})
        assert (await endpoint_of(pipeline))["held_count"] == 0
        await publish(pipeline, ["evt-after"])

        async def discarded() -> list[dict[str, Any]]:
            found = await pipeline.attempts(outcome_eq="discarded")
            return found if len(found) == 12 else []

        records = await until(discarded)
        assert "dropped by " in records[0]["error"]
        await until_held(pipeline, 1)
        await set_active(pipeline, endpoint["id"], active=True)
        await until_acknowledged(receiver, ["evt-after"])
        assert {each.webhook_id for each in receiver.deliveries} == {"evt-after"}
        assert len(await pipeline.attempts(outcome_eq="discarded")) == 12


@pytest.mark.slow
async def test_deleting_an_endpoint_discards_only_its_held_deliveries(start_pipeline: StartPipeline) -> None:
    async with start_pipeline(**PATIENT) as pipeline:
        await pipeline.receiver("gone", active=False)
        gone = await endpoint_of(pipeline)
        await pipeline.receiver("stays", active=False)
        await publish(pipeline, [f"evt-{number}" for number in range(5)])

        async def held() -> list[int]:
            endpoints = (await pipeline.api.get("endpoints")).json()["endpoints"]
            return [one["held_count"] for one in endpoints]

        async def all_held() -> bool:
            return await held() == [5, 5]

        await until(all_held)
        assert (await pipeline.api.delete(f"endpoints/{gone['id']}")).status_code == 204

        async def discarded() -> list[dict[str, Any]]:
            found = await pipeline.attempts(outcome_eq="discarded")
            return found if len(found) == 5 else []

        records = await until(discarded)
        assert {each["endpoint_id"] for each in records} == {gone["id"]}
        assert await held() == [5]


@pytest.mark.slow
async def test_held_deliveries_are_sent_at_the_rate_limit_until_a_second_pause(
    start_pipeline: StartPipeline,
) -> None:
    events = [f"evt-{number}" for number in range(60)]
    async with start_pipeline(**PATIENT) as pipeline:
        receiver = await pipeline.receiver("erp", active=False, max_per_second=10)
        endpoint = await endpoint_of(pipeline)
        await publish(pipeline, events)
        await until_held(pipeline, len(events))
        await set_active(pipeline, endpoint["id"], active=True)

        async def some() -> bool:
            return len(receiver.acknowledgements) >= 5

        await until(some)
        await set_active(pipeline, endpoint["id"], active=False)
        sent = len(receiver.acknowledgements)

        async def the_rest_is_held() -> bool:
            left = len(events) - len(receiver.acknowledgements)
            held: int = (await endpoint_of(pipeline))["held_count"]
            return 0 < left == held

        await until(the_rest_is_held)
        assert sent <= len(receiver.acknowledgements) < len(events)
        await set_active(pipeline, endpoint["id"], active=True)
        await until_acknowledged(receiver, events)
        assert set(receiver.acknowledgements.values()) == {1}
        await until_held(pipeline, 0)


@pytest.mark.slow  # the rate needs time to grow; 50,000 deliveries, on a clock that jumps, are in tests/unit/delivery/test_recovery
async def test_held_deliveries_are_sent_at_a_growing_rate(start_pipeline: StartPipeline) -> None:
    events = [f"evt-{number}" for number in range(100)]  # as many requests as a receiver remembers
    delays = tuple(map(parse_delay, ("500ms", "1s", "2s")))
    async with start_pipeline(retry_delays=delays, ramp_start_per_second=10.0, ramp_double_seconds=2.0) as pipeline:
        receiver = await pipeline.receiver("erp", active=False)
        endpoint = await endpoint_of(pipeline)
        await publish(pipeline, events)
        await until_held(pipeline, len(events))
        await set_active(pipeline, endpoint["id"], active=True)
        await until_acknowledged(receiver, events)

        arrived = sorted(one.received_at for one in receiver.deliveries)
        seconds = Counter(int(at - arrived[0]) for at in arrived)
        print("what the receiver saw, by second:", dict(seconds))
        assert set(receiver.acknowledgements.values()) == {1}
        # At this rate 20 in two seconds, or twice as many if the machine stalls. A flood would be all of them in the first.
        assert seconds[0] + seconds[1] <= 40
