"""Loopback and private targets are refused by default, at registration and again when dialling."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consumers.run import Role
from pipeline.devtools.receiver import Receiver
from tests.integration.conftest import StartPipeline, event_bytes
from tests.waiting import until

pytestmark = pytest.mark.slow  # starts whole pipelines; make test-slow and make test-kafka run it

TARGETS = (
    "http://127.0.0.1:9/",
    "http://localhost/",
    "http://[::1]/",
    "http://10.1.2.3/",
    "http://169.254.169.254/",
    "http://2130706433/",
)


async def test_registration_refuses_with_a_clear_error(start_pipeline: StartPipeline) -> None:
    async with start_pipeline(roles=[Role.API], allowed_networks=()) as pipeline:
        for target in TARGETS:
            response = await pipeline.api.post(
                "endpoints", json={"endpoint": {"target_url": target, "events": ["order_completed"]}}
            )
            assert response.status_code == 422, target
            assert "address" in response.json()["errors"]["target_url"][0]


async def test_dialling_refuses_forbidden_addresses(start_pipeline: StartPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a name's address changed after registration: nothing is dialled, and the attempt says why."""
    receiver = Receiver("inside")
    url = await receiver.start()

    async def unchecked(*_: Any, **__: Any) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr("pipeline.web.endpoint_values.check_target_url", unchecked)
    async with start_pipeline(allowed_networks=()) as pipeline:
        await pipeline.register(url)
        await pipeline.publish(event_bytes("evt-inside"))
        attempts = await until(lambda: pipeline.attempts(event_id_eq="evt-inside"))
    await receiver.stop()
    assert receiver.counts.received == 0
    assert {each["failure"] for each in attempts} == {"blocked_address"}
    assert "127.0.0.1" in attempts[0]["error"]
    assert "loopback" in attempts[0]["error"]
