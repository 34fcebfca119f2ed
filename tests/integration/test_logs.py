"""The debug log of a whole run: JSON, one line per attempt with its ids, and no secret, whatever fails."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
from aiohttp import web

from pipeline.broker.factory import open_broker
from pipeline.broker.producer import Producer
from pipeline.core.signing import new_secret
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from tests.faults.processes import RoleProcess
from tests.integration.conftest import event_bytes
from tests.waiting import until

pytestmark = pytest.mark.slow

TRACE_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT: Final = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
EMAIL: Final = "zaphod.beeblebrox@example.com"


def _word() -> str:
    return f"s3cret{secrets.token_hex(12)}"


@dataclass(slots=True)
class Run:
    """A process with all roles, its secrets, and its log."""

    process: RoleProcess
    log: Path
    api: httpx.AsyncClient
    producer: Producer
    settings: Settings
    secrets: dict[str, str]
    """By kind: none of these may be in the log."""

    async def make(self, path: str, body: dict[str, Any], *shown: str) -> dict[str, Any]:
        """Send a POST, and keep the members of the answer that are shown once."""
        response = await self.api.post(path, json=body)
        assert response.is_success, response.text
        answer: dict[str, Any] = response.json()
        self.secrets |= {f"{path} {name}": answer[name] for name in shown}
        return answer

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]

    def about(self, event: str) -> list[dict[str, Any]]:
        """Return the lines with this message."""
        return [line for line in self.lines() if line["event"] == event]

    def traced(self, event_id: str) -> list[dict[str, Any]]:
        """Return an event's attempts, without the resend: it belongs to no trace, and may come after the end of the test."""
        return [line for line in self.about("attempt") if line["event_id"] == event_id and line["trace_id"]]


@pytest.fixture
async def run(bootstrap_servers: str, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Run]:
    kept = {"api key": _word(), "encryption key": Vault.new_key(), "operational secret": new_secret(), "operational url": _word()}
    variables = {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": topic_prefix,
        "KAFKA_PARTITIONS": "2",
        "KAFKA_REPLICATION_FACTOR": "1",
        "KAFKA_FETCH_MAX_WAIT_MS": "30",
        "RETRY_DELAYS": "100ms,100ms",
        "RECORDER_BATCH_SECONDS": "0.2",
        "ALLOWED_NETWORKS": "127.0.0.0/8",
        "LOG_LEVEL": "debug",
        "API_KEYS": kept["api key"],
        "ENCRYPTION_KEY": kept["encryption key"],
        "OPERATIONAL_URL": f"http://127.0.0.1:9/{kept['operational url']}",
        "OPERATIONAL_SECRET": kept["operational secret"],
        "DRAIN_SECONDS": "5",
        "KAFKA_STATIC_MEMBERS": "false",
    }
    environment = {f"OMS_WEBHOOKS_{name}": value for name, value in variables.items()} | {"TMPDIR": str(tmp_path)}
    process = RoleProcess("all", environment, tmp_path)
    settings = Settings(
        _env_file=None, kafka_bootstrap_servers=bootstrap_servers, kafka_topic_prefix=topic_prefix, kafka_fetch_max_wait_ms=30
    )
    process.start()
    try:
        await process.until_ready()
        producer = Producer(open_broker(settings), settings.topics.sources)
        await producer.start()
        async with httpx.AsyncClient(
            base_url=f"{process.url}/api/webhook/", headers={"Authorization": f"Bearer {kept['api key']}"}, trust_env=False
        ) as api:
            yield Run(process, tmp_path / "all.log", api, producer, settings, kept)
        await producer.close()
    finally:
        process.clean_up()


@pytest.fixture
async def echo() -> AsyncIterator[str]:
    """Run a receiver that refuses everything, and echoes headers and body."""

    async def refuse(request: web.Request) -> web.Response:
        told = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
        return web.Response(
            status=500, text=f"{told}\n{await request.text()}", headers={"X-Echo": request.headers["Authorization"]}
        )

    app = web.Application()
    app.router.add_post("/{path:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.timeout(300)
async def test_a_run_at_debug_logs_every_attempt_and_no_secret(run: Run, echo: str) -> None:
    endpoint = await _an_endpoint_full_of_secrets(run, echo)
    await _what_the_api_refuses(run)
    await _deliveries_that_fail(run, endpoint)
    await run.process.terminate(40)

    made = run.traced("evt-logged")
    assert [line["attempt"] for line in made] == [1, 2, 3]
    for line in made:
        assert (line["level"], line["endpoint_id"], line["trace_id"], line["status"]) == ("debug", endpoint, TRACE_ID, 500)
    assert run.about("dead letter")
    assert {line["route"] for line in run.about("request")} >= {"/api/webhook/endpoints", "/api/webhook/endpoints/{id}/test"}
    text = run.log.read_text(encoding="utf-8")
    unwritten = [line for line in text.splitlines() if line.strip() and not line.startswith("{")]
    assert not any("Traceback" in line for line in unwritten), text[-4000:]
    found = [what for what, secret in run.secrets.items() if secret in text]
    assert found == [], "secrets in the log"
    assert len(run.secrets) > 12


async def _an_endpoint_full_of_secrets(run: Run, echo: str) -> int:
    """Create an endpoint full of secrets; it gets a new signing secret and a test delivery."""
    kept = {name: _word() for name in ("path", "query", "token", "custom header", "description")}
    run.secrets |= {f"endpoint {name}": secret for name, secret in kept.items()}
    created = await run.make(
        "endpoints",
        {
            "endpoint": {
                "target_url": f"{echo}/{kept['path']}?key={kept['query']}",
                "events": ["order_completed"],
                "token": kept["token"],
                "headers": {"x-api-key": kept["custom header"]},
                "description": kept["description"],
            }
        },
        "secret",
    )
    endpoint: int = created["id"]
    await run.make(f"endpoints/{endpoint}/rotate_secret", {}, "secret")
    await run.make(f"endpoints/{endpoint}/test", {"test": {}})
    await run.make("keys", {"key": {"name": "Ada", "role": "viewer"}}, "key")
    return endpoint


async def _what_the_api_refuses(run: Run) -> None:
    """Send a wrong key, a search for a customer, invalid input, and something that is not HTTP."""
    run.secrets |= {name: _word() for name in ("wrong key", "key in the query", "bad input", "no http", "a path")}
    kept = run.secrets
    wrong = await run.api.get("endpoints", headers={"Authorization": f"Bearer {kept['wrong key']}"})
    assert wrong.status_code == 401
    await run.api.get("attempts", params={"q[request_body_cont]": EMAIL, "api_key": kept["key in the query"]})
    refused = await run.api.post(
        "endpoints", json={"endpoint": {"target_url": kept["bad input"], "token": f"{kept['bad input']} x"}}
    )
    assert refused.status_code == 422
    assert (await run.api.get(f"nothing/{kept['a path']}")).status_code == 404
    url = urlsplit(run.process.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(f"GET /{kept['no http']} HTTP/1.1\r\nAuthorization: Bearer {kept['no http']}\r\nbroken\r\n\r\n".encode())
    assert b" 400 " in await reader.readline()
    writer.close()


async def _deliveries_that_fail(run: Run, endpoint: int) -> None:
    """Publish an order with a guest token and a customer, to an endpoint that echoes its requests; and invalid events."""
    run.secrets |= {name: _word() for name in ("guest token", "unusable event", "unusable id", "trace state")}
    run.secrets["customer"] = EMAIL
    kept = run.secrets
    orders = run.settings.topics.orders
    headers = [("traceparent", PARENT.encode()), ("tracestate", b"rojo=" + kept["trace state"].encode())]
    good = event_bytes("evt-logged", token=kept["guest token"], email=EMAIL)
    bad = [kept["unusable event"].encode(), event_bytes(f"{kept['unusable id']} with a space", email=EMAIL)]
    await run.producer.send(orders, key=b"R1", value=good, headers=headers)
    for value in bad:
        await run.producer.send(orders, key=b"R1", value=value, headers=headers)

    async def all_made() -> bool:
        return len(run.traced("evt-logged")) == 3 and len(run.about("dead letter")) == len(bad)

    async def last_attempt() -> dict[str, Any] | None:
        """Wait until its body is recorded too: a resend needs it."""
        filters = {"q[event_id_eq]": "evt-logged", "q[attempt_eq]": "3"}
        found: list[dict[str, Any]] = (await run.api.get("attempts", params=filters)).json()["attempts"]
        detail: dict[str, Any] = (await run.api.get(f"attempts/{found[0]['id']}")).json() if found else {}
        return detail if detail.get("request_body") else None

    await until(all_made)
    last = await until(last_attempt)
    assert last is not None
    assert (await run.api.post(f"attempts/{last['id']}/resend")).status_code == 202
    assert (await run.api.delete(f"endpoints/{endpoint}")).status_code == 204
