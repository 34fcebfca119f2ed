"""What a supervisor's probes see while a role starts, works, and loses its dependencies."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from consumers.run import Role
from pipeline.devtools.receiver import Behaviour
from pipeline.endpoints.vault import Vault
from pipeline.ops import metrics
from tests.contract.clickhouse_shim import ShimProcess
from tests.faults.processes import RoleProcess
from tests.integration.conftest import StartPipeline, event_bytes
from tests.waiting import until

pytestmark = pytest.mark.slow  # starts whole pipelines; make test-slow and make test-kafka run it


@pytest.fixture
def silent_kafka() -> Iterator[str]:
    """Run a broker that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def stuck_api(silent_kafka: str, tmp_path: Path) -> Iterator[RoleProcess]:
    """Run an API whose start cannot finish."""
    variables = {
        "OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS": silent_kafka,
        "OMS_WEBHOOKS_ENCRYPTION_KEY": Vault.new_key(),
        "OMS_WEBHOOKS_API_KEYS": "a-key",
        "OMS_WEBHOOKS_CLICKHOUSE_PATH": str(tmp_path / "clickhouse"),
    }
    api = RoleProcess("api", variables, tmp_path)
    api.start()
    yield api
    api.clean_up()


async def test_a_starting_role_is_alive_and_not_ready(stuck_api: RoleProcess) -> None:
    async with httpx.AsyncClient(base_url=stuck_api.url, trust_env=False, timeout=60) as client:

        async def statuses() -> dict[str, int] | None:
            stuck_api.check_alive()
            try:
                return {path: (await client.get(path)).status_code for path in ("healthz", "startupz", "readyz", "metrics")}
            except httpx.TransportError:
                return None

        async def waits() -> bool:
            problems: dict[str, str] = (await client.get("readyz")).json()["problems"]
            said = problems.get("startup"), problems.get("kafka", "")
            return said[0] == "starting: waiting for Kafka" and "does not answer within 3 s" in said[1]

        await until(statuses)
        await until(waits)
        assert await statuses() == {"healthz": 200, "startupz": 200, "readyz": 503, "metrics": 200}
        assert (await client.get("startupz")).json() == {"status": "waiting", "waiting_for": "Kafka"}
        assert (await client.get("api/webhook/endpoints")).status_code == 401
        refused = await client.get("api/webhook/endpoints", headers={"Authorization": "Bearer a-key"})
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert refused.json()["error"].startswith("The service is starting and is waiting for Kafka, which is not available now")


async def test_a_starting_role_can_be_stopped(stuck_api: RoleProcess) -> None:
    async with httpx.AsyncClient(base_url=stuck_api.url, trust_env=False, timeout=60) as client:

        async def alive() -> bool:
            stuck_api.check_alive()
            try:
                return (await client.get("healthz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(alive)
    took = await stuck_api.terminate(45)
    assert took < 20, "it takes a second or two on an idle machine; kafka-python alone would try for 30"


async def test_the_recorder_is_not_ready_without_clickhouse(
    start_pipeline: StartPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.ops.dependency_probes.EVERY_SECONDS", 0.1)
    shim = ShimProcess(tmp_path, "")
    shim.start()
    try:
        async with start_pipeline([Role.RECORDER], clickhouse_url=shim.url) as pipeline:

            async def problems() -> dict[str, str]:
                response = await pipeline.api.get(f"{pipeline.running.url}/readyz")
                return dict(response.json().get("problems", {}))

            async def ready() -> bool:
                return not await problems()

            async def about_clickhouse() -> str | None:
                return (await problems()).get("clickhouse")

            await until(ready)
            assert metrics.DEPENDENCY_UP.labels("clickhouse")._value.get() == 1
            shim.stop()
            assert "cannot be reached" in str(await until(about_clickhouse))
            assert metrics.DEPENDENCY_UP.labels("clickhouse")._value.get() == 0
            assert (await pipeline.api.get(f"{pipeline.running.url}/healthz")).status_code == 200
            shim.start()
            await until(ready)
    finally:
        shim.stop()


async def test_metrics_show_waiting_events_and_forget_stopped_groups(start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:

        async def samples(name: str) -> list[Any]:
            await pipeline.api.get(f"{pipeline.running.url}/metrics")
            return [
                sample
                for family in metrics.registry.collect()
                for sample in family.samples
                if sample.name == name
                and sample.labels.get("group", pipeline.settings.topics.prefix).startswith(pipeline.settings.topics.prefix)
            ]

        await pipeline.receiver("slow", Behaviour(delay=3.0))
        await pipeline.publish(event_bytes("evt-waits"))

        async def oldest_event() -> bool:
            return any(sample.value > 0.5 for sample in await samples("oms_webhooks_oldest_unfinished_seconds"))

        assert await until(oldest_event)

        async def nothing_waits() -> bool:
            return not any(sample.value for sample in await samples("oms_webhooks_oldest_unfinished_seconds"))

        assert await until(nothing_waits)
        assert [sample.value for sample in await samples("oms_webhooks_dependency_up")] == [1, 1]
        assert await samples("oms_webhooks_consumer_lag_records")
        ready = {sample.labels["check"]: sample.value for sample in await samples("oms_webhooks_ready")}
        assert ready["startup"] == ready["fanout"] == ready["recorder"] == 1
    assert not _left(pipeline.settings.topics.prefix)


def _left(prefix: str) -> list[str]:
    return [
        sample.name
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name in {"oms_webhooks_consumer_lag_records", "oms_webhooks_oldest_unfinished_seconds"}
        and sample.labels["group"].startswith(prefix)
    ]
