"""Processes with the right encryption key, with another one, and with an endpoint sealed with a foreign key."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr

from pipeline.endpoints.vault import Vault
from tests.integration.conftest import Pipeline, StartPipeline, event_bytes
from tests.waiting import until

pytestmark = pytest.mark.slow  # starts whole pipelines; make test-slow and make test-kafka run it


@pytest.mark.slow
async def test_a_wrong_key_is_reported_and_one_endpoint_sealed_otherwise_stops_nothing(start_pipeline: StartPipeline) -> None:
    right, wrong = SecretStr(Vault.new_key()), SecretStr(Vault.new_key())
    async with start_pipeline(encryption_key=right) as pipeline:
        await pipeline.register("http://127.0.0.1:9/foreign")
        await until(lambda: is_ready(pipeline))
    async with start_pipeline(encryption_key=wrong) as pipeline:
        checks = await until(lambda: joined(pipeline))
        assert list(checks) == ["endpoints"], "everything else is ready"
        assert checks["endpoints"].startswith(
            "The only endpoint is encrypted with a different encryption_key than this process has."
        )
        refused = await pipeline.api.post(
            "endpoints", json={"endpoint": {"target_url": "http://127.0.0.1:9/x", "events": ["order_completed"]}}
        )
        assert (refused.status_code, refused.json()["error"][:21]) == (503, "Nothing was changed: ")
        (shown,) = (await pipeline.api.get("endpoints")).json()["endpoints"]
        assert "another encryption_key" in shown["problem"]
    async with start_pipeline(encryption_key=SecretStr(f"{wrong.get_secret_value()},{right.get_secret_value()}")) as pipeline:
        await until(lambda: is_ready(pipeline))
        await pipeline.register("http://127.0.0.1:9/mine")  # encrypted with the first key
    async with start_pipeline(encryption_key=wrong) as pipeline:
        await until(lambda: is_ready(pipeline))
        metrics = (await pipeline.api.get(pipeline.api.base_url.copy_with(path="/metrics"))).text
        assert 'oms_webhooks_endpoints{state="unusable"} 1.0' in metrics
        await pipeline.register("http://127.0.0.1:9/another")
        await pipeline.publish(event_bytes("evt-1"))
        found = await until(lambda: pipeline.attempts(event_id_eq="evt-1"))
        assert shown["id"] not in {one["endpoint_id"] for one in found}, "its deliveries wait"


async def ready(pipeline: Pipeline) -> httpx.Response:
    return await pipeline.api.get(pipeline.api.base_url.copy_with(path="/readyz"))


async def is_ready(pipeline: Pipeline) -> bool:
    return (await ready(pipeline)).status_code == 200


async def joined(pipeline: Pipeline) -> dict[str, str]:
    """Return what is not ready once the groups are joined."""
    problems: dict[str, str] = (await ready(pipeline)).json().get("problems", {})
    return {} if problems.keys() & {"fanout", "retry", "held", "ordered", "recorder"} else problems
