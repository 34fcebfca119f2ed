"""Roles started before Kafka and ClickHouse: they wait, say what for, and continue on their own."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.broker.factory import open_broker
from pipeline.broker.producer import Producer
from pipeline.devtools.local_broker import TansuBroker
from pipeline.devtools.local_process import free_port
from pipeline.devtools.receiver import Receiver
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from tests.contract.clickhouse_shim import ShimProcess
from tests.faults.processes import RoleProcess
from tests.integration.conftest import event_bytes
from tests.waiting import until

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]  # starts whole pipelines; make test-slow and make test-kafka run it

KEY = {"Authorization": "Bearer a-key"}
PASSWORD = "clickhouse-hunter2"
ROLES = ("api", "fanout", "retry", "recorder")


@dataclass
class Site:
    """The addresses of all parts, and those that are running."""

    broker: TansuBroker
    clickhouse: ShimProcess
    directory: Path
    roles: dict[str, RoleProcess]

    def launch(self, *roles: str, **changed: str) -> None:
        variables = {
            "OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
            "OMS_WEBHOOKS_KAFKA_PARTITIONS": "2",
            "OMS_WEBHOOKS_KAFKA_REPLICATION_FACTOR": "1",
            "OMS_WEBHOOKS_KAFKA_SESSION_TIMEOUT_MS": "6000",
            "OMS_WEBHOOKS_KAFKA_FETCH_MAX_WAIT_MS": "30",
            "OMS_WEBHOOKS_CLICKHOUSE_URL": self.clickhouse.url,
            "OMS_WEBHOOKS_CLICKHOUSE_PASSWORD": PASSWORD,
            "OMS_WEBHOOKS_ENCRYPTION_KEY": Vault.new_key(),
            "OMS_WEBHOOKS_API_KEYS": "a-key",
            "OMS_WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8",
        } | {f"OMS_WEBHOOKS_{name.upper()}": value for name, value in changed.items()}
        for role in roles:
            process = self.roles[role] = RoleProcess(role, variables, self.directory)
            process.start()

    async def get(self, role: str, path: str) -> httpx.Response | None:
        """Return a role's answer; None while it does not listen."""
        self.roles[role].check_alive()
        async with httpx.AsyncClient(base_url=self.roles[role].url, trust_env=False, timeout=30, headers=KEY) as client:
            try:
                return await client.get(path)
            except httpx.TransportError:
                return None

    async def until_problem(self, role: str, check: str, words: str) -> None:
        async def said() -> bool:
            answer = await self.get(role, "/readyz")
            return answer is not None and answer.status_code == 503 and words in answer.json()["problems"].get(check, "")

        await until(said)

    def log(self, role: str) -> list[dict[str, Any]]:
        """Return the lines of a role's log, parsed; all must be ours."""
        lines = [line for line in (self.directory / f"{role}.log").read_text().splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines]

    def loud(self, role: str) -> list[dict[str, Any]]:
        return [entry for entry in self.log(role) if entry["level"] in ("warning", "error")]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Provide ports on which nothing listens yet."""
    site = Site(TansuBroker(), ShimProcess(tmp_path / "clickhouse", PASSWORD), tmp_path, {})
    site.broker.start()
    site.broker.stop()
    site.clickhouse.port = free_port()
    yield site
    for process in site.roles.values():
        process.clean_up()
    site.broker.stop()
    site.clickhouse.stop()


@asynccontextmanager
async def producing(site: Site) -> AsyncIterator[Producer]:
    settings = Settings(_env_file=None, kafka_bootstrap_servers=site.broker.bootstrap_servers)  # type: ignore[call-arg,unused-ignore]
    producer = Producer(open_broker(settings), settings.topics.sources)
    await producer.start()
    yield producer
    await producer.close()


@pytest.mark.slow
async def test_everything_is_started_before_kafka_and_clickhouse(site: Site) -> None:
    """It takes long: four processes start, try again after seconds, and join groups with a session of six."""
    site.launch(*ROLES)
    for role in ROLES:
        await site.until_problem(role, "kafka", "Connection refused")
        for path, status in {"/healthz": 200, "/startupz": 200, "/readyz": 503}.items():
            answer = await site.get(role, path)
            assert answer is not None
            assert answer.status_code == status, (role, path, answer.text)
        assert await site.roles[role].metric("oms_webhooks_dependency_up", dependency="kafka") == 0
        assert await site.roles[role].metric("oms_webhooks_role", role=role) == 1
    for role in ("api", "recorder"):
        assert await site.roles[role].metric("oms_webhooks_dependency_up", dependency="clickhouse") == 0
    for path in ("/api/webhook/endpoints", "/webhooks"):
        refused = await site.get("api", path)
        assert refused is not None
        assert refused.status_code == 503
        assert "is waiting for Kafka, which is not available now" in refused.text

    site.broker.start()
    for role in ("api", "fanout", "retry"):
        await site.roles[role].until_ready()
    await site.until_problem("recorder", "clickhouse", "Connection refused")
    receiver = Receiver("shop")
    target = await receiver.start()
    await the_api_serves_endpoints_without_clickhouse(site, target)
    await the_dashboard_shows_the_rest(site)
    async with producing(site) as producer:
        await producer.send("oms.orders", key=b"R100000001", value=event_bytes("evt-before-clickhouse"))

    async def delivered() -> int:
        return receiver.counts.received

    assert await until(delivered) == 1

    site.clickhouse.start()
    await site.roles["recorder"].until_ready()
    assert await site.roles["api"].metric("oms_webhooks_dependency_up", dependency="kafka") == 1

    async def recorded() -> bool:
        found = await site.get("api", "/api/webhook/attempts?q[event_id_eq]=evt-before-clickhouse")
        return found is not None and found.status_code == 200 and found.json()["total_count"] == 1

    assert await until(recorded)
    await receiver.stop()
    for role in ROLES:
        away = [entry for entry in site.loud(role) if entry["event"] == "a dependency cannot be used"]
        assert sorted(entry["dependency"] for entry in away) == sorted(
            ["kafka", "clickhouse"] if role in ("api", "recorder") else ["kafka"]
        )
        back = [entry["dependency"] for entry in site.log(role) if entry["event"] == "a dependency is back"]
        assert sorted(back) == sorted(entry["dependency"] for entry in away)
        others = [entry for entry in site.loud(role) if not entry["event"].startswith("a dependency")]
        assert not [entry for entry in others if entry["logger"].startswith(("kafka", "clickhouse"))], others
        assert "Traceback" not in (site.directory / f"{role}.log").read_text()


async def the_api_serves_endpoints_without_clickhouse(site: Site, target: str) -> None:
    async with httpx.AsyncClient(base_url=site.roles["api"].url, trust_env=False, timeout=30, headers=KEY) as client:
        wanted = {"endpoint": {"target_url": target, "events": ["order_completed"]}}
        created = await client.post("/api/webhook/endpoints", json=wanted)
        assert created.status_code == 201, created.text
        path = f"/api/webhook/endpoints/{created.json()['id']}"
        assert (await client.put(path, json={"endpoint": {"description": "a shop"}})).status_code == 200
        assert (await client.get(path)).json()["description"] == "a shop"
        assert (await client.get("/api/webhook/endpoints")).json()["count"] == 1
        passing = {"endpoint": {"target_url": f"{target}passing", "events": ["order_completed"]}}
        other = (await client.post("/api/webhook/endpoints", json=passing)).json()["id"]
        assert (await client.delete(f"/api/webhook/endpoints/{other}")).status_code == 204
        assert (await client.post("/api/webhook/keys", json={"key": {"name": "new", "role": "viewer"}})).status_code == 201
        ready = (await client.get("/readyz")).json()
        assert ready["status"] == "ready"
        assert "cannot be reached" in ready["warnings"]["clickhouse"]
        for refused in ("/api/webhook/attempts", "/api/webhook/endpoints?include_attempts=1", f"{path}/stats"):
            answer = await client.get(refused)
            assert answer.status_code == 503, (refused, answer.text)
            assert "ClickHouse at" in answer.json()["error"]


async def the_dashboard_shows_the_rest(site: Site) -> None:
    url = site.roles["api"].url
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30, follow_redirects=True) as browser:
        form = re.search(r'name="csrf" value="([^"]+)"', (await browser.get("/webhooks/login")).text)
        assert form is not None
        fields = {"csrf": form[1], "key": "a-key"}
        assert (await browser.post("/webhooks/login", data=fields, headers={"Origin": url})).status_code == 200
        for path in ("/webhooks", "/webhooks/endpoints", "/webhooks/endpoints/1"):
            page = await browser.get(path)
            assert page.status_code == 200, (path, page.text)
            assert "Statistics are unavailable right now" in page.text
            assert "/webhooks/endpoints/1" in page.text
        assert (await browser.get("/webhooks/keys")).status_code == 200
        search = await browser.get("/webhooks/attempts")
        assert search.status_code == 503
        assert "Attempts cannot be searched right now: ClickHouse at" in search.text


# All roles end in the same way (consumers/roles); each of these is a process with a broker that hangs.
@pytest.mark.parametrize("role", ["fanout", *(pytest.param(role, marks=pytest.mark.slow) for role in ("recorder", "api"))])
async def test_a_waiting_role_can_be_stopped_at_once(site: Site, role: str) -> None:
    site.launch(role)
    await site.until_problem(role, "kafka", "Connection refused")
    assert await site.roles.pop(role).terminate(60) < 20, (
        "it takes a second on an idle machine; kafka-python alone would try for 30"
    )
    assert "Traceback" not in (site.directory / f"{role}.log").read_text()


async def test_a_wrong_clickhouse_password_is_named_and_waited_out(site: Site) -> None:
    site.broker.start()
    site.clickhouse.start()
    site.launch("recorder", clickhouse_password="wrong-hunter2")
    await site.until_problem(
        "recorder", "clickhouse", "wrong user name or password. Check OMS_WEBHOOKS_CLICKHOUSE_USERNAME and OMS_"
    )
    errors = [entry for entry in site.loud("recorder") if entry["level"] == "error"]
    assert [entry["event"] for entry in errors] == ["a dependency cannot be used"]
    assert "hunter2" not in (site.directory / "recorder.log").read_text()
    site.roles["recorder"].check_alive()
