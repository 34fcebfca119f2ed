"""A failing endpoint: its circuit opens and closes, it is disabled, its owner is notified, and the API enables it again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.core.signing import new_secret
from pipeline.devtools.receiver import Behaviour, Receiver
from tests.integration.conftest import Pipeline, StartPipeline, event_bytes
from tests.waiting import until

GONE = Behaviour(fail_rate=1.0, status=410)
FAILING = Behaviour(fail_rate=1.0, status=500)
WORKING = Behaviour()


@asynccontextmanager
async def operated(start_pipeline: StartPipeline, **settings: Any) -> AsyncIterator[tuple[Pipeline, Receiver]]:
    """Provide a pipeline and the receiver of its operational events."""
    owner = Receiver("owner", secret=(secret := new_secret()))
    url = await owner.start()
    try:
        async with start_pipeline(operational_url=f"{url}owner", operational_secret=SecretStr(secret), **settings) as pipeline:
            yield pipeline, owner
    finally:
        await owner.stop()


async def shown(pipeline: Pipeline) -> dict[str, Any]:
    [endpoint] = (await pipeline.api.get("endpoints")).json()["endpoints"]
    assert isinstance(endpoint, dict)
    return endpoint


async def until_shown(pipeline: Pipeline, **wanted: object) -> dict[str, Any]:
    """Wait until the API shows the endpoint in this state."""

    async def look() -> dict[str, Any] | None:
        endpoint = await shown(pipeline)
        return endpoint if wanted.items() <= endpoint.items() else None

    found: dict[str, Any] | None = await until(look)
    assert found is not None
    return found


def bodies(owner: Receiver) -> list[dict[str, Any]]:
    return [json.loads(received.body) for received in owner.deliveries if received.outcome == "acknowledged"]


@pytest.mark.slow  # starts a whole pipeline; make test-slow and make test-kafka run it
async def test_an_endpoint_that_fails_for_too_long_is_disabled(start_pipeline: StartPipeline) -> None:
    async with operated(start_pipeline, disable_after_days=0.4 / 86_400) as (pipeline, owner):
        await pipeline.receiver("erp", FAILING)
        await pipeline.publish(event_bytes("evt-long"))

        endpoint = await until_shown(pipeline, state="disabled")

        assert endpoint["disabled_reason"].startswith("The endpoint has been failing since ")
        assert endpoint["failing_since"] < endpoint["disabled_at"]

        async def told() -> list[dict[str, Any]]:
            return [body for body in bodies(owner) if body["event_name"] == "endpoint.disabled"]

        assert (await until(told))[0]["data"]["reason"] == "failing"


@pytest.mark.slow  # starts a whole pipeline; make test-slow and make test-kafka run it
async def test_a_circuit_opens_and_closes_and_nothing_is_lost(start_pipeline: StartPipeline) -> None:
    events = [f"evt-{number}" for number in range(20)]
    async with operated(start_pipeline, circuit_failures=3, circuit_open_seconds=1.0, circuit_open_max_seconds=2.0) as (
        pipeline,
        _,
    ):
        receiver = await pipeline.receiver("erp", FAILING)
        await asyncio.gather(*(pipeline.publish(event_bytes(event)) for event in events))
        failing = await until_shown(pipeline, state="active", circuit="open")
        assert failing["failing_since"] is not None

        receiver.behaviour = WORKING
        await until_shown(pipeline, circuit="closed", failing_since=None)

        async def arrived() -> bool:
            return all(receiver.acknowledgements.get(event) for event in events)

        await until(arrived)
        found = await until(lambda: pipeline.attempts(outcome_eq="delivered"))
        assert {each["event_id"] for each in found} <= set(events)


@pytest.mark.slow
async def test_a_gone_receiver_of_operational_events_starts_no_loop(start_pipeline: StartPipeline) -> None:
    async with operated(start_pipeline) as (pipeline, owner):
        owner.behaviour = GONE
        await pipeline.receiver("erp", GONE)
        await pipeline.publish(event_bytes("evt-loop"))

        async def exhausted() -> list[dict[str, Any]]:
            return await pipeline.attempts(endpoint_id_eq=0, outcome_eq="exhausted")

        [last] = await until(exhausted)
        assert (last["attempt"], last["http_status_code"]) == (6, 410)
        assert len({received.webhook_id for received in owner.deliveries}) == 1


@pytest.mark.slow  # starts a whole pipeline; make test-slow and make test-kafka run it
async def test_a_rate_limit_spreads_a_burst(start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:
        receiver = await pipeline.receiver("erp", max_per_second=20)
        events = [f"evt-{number}" for number in range(40)]
        await asyncio.gather(*(pipeline.publish(event_bytes(event)) for event in events))

        async def arrived() -> bool:
            return all(receiver.acknowledgements.get(event) for event in events)

        await until(arrived)
        times = [received.received_at for received in receiver.deliveries]
        # The fan-out and the retry share one process here, and so one limit. On a busy machine the first requests are late; without a
        # limit all arrive at once.
        assert max(times) - min(times) > 39 / 20 / 2
