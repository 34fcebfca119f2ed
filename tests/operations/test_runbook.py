"""The commands of the runbook, of day two and of Operations, as written, run against the system.

(Those of Kubernetes and of Kafka's tools are not run.) Each block is run by itself, in one directory.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.documented_commands import OF_A_DEPLOYMENT, command_blocks, page_text
from tests.faults.deployment import API_KEY, CLICKHOUSE_PASSWORD, Deployment, simulated_events
from tests.faults.evidence import expected_pairs
from tests.waiting import until

pytestmark = [pytest.mark.operations, pytest.mark.timeout(400)]


@pytest.mark.parametrize(("name", "before", "count"), [("runbook.md", 2, 24), ("day-two.md", 1, 8)])
def test_every_section_has_commands(name: str, before: int, count: int) -> None:
    sections = re.split(r"^## ", page_text(name), flags=re.MULTILINE)[before:]
    assert len(sections) >= count
    assert [section.partition("\n")[0] for section in sections if "```sh\n" not in section] == []


async def key_id(deployment: Deployment) -> str:
    """Create a key that may be revoked."""
    async with deployment.api() as client:
        made = await client.post("/api/webhook/keys", json={"key": {"name": "to be revoked", "role": "viewer"}})
    identifier: str = made.raise_for_status().json()["id"]
    return identifier


async def until_recorded(deployment: Deployment) -> str:
    """Wait until every attempt is in ClickHouse; an e-mail address of an order among them."""
    expected, recorded = len(expected_pairs(deployment.events)), 0
    async with deployment.api() as client:

        async def recorded_orders() -> list[int]:
            nonlocal recorded
            found = (await client.get("/api/webhook/attempts", params={"per_page": "200"})).raise_for_status().json()
            recorded = found["total_count"]
            return [one["id"] for one in found["attempts"] if one["event_name"] == "order_completed" and recorded >= expected]

        orders = await until(recorded_orders, lambda: f"{recorded} of {expected} attempts are recorded")
        body = (await client.get(f"/api/webhook/attempts/{orders[0]}")).raise_for_status().json()["request_body"]
    email: str = json.loads(body)["data"]["email"]
    return email


async def test_the_commands_work_as_written(deployment: Deployment, tmp_path: Path) -> None:
    await deployment.publish(simulated_events(20, seed=9), rate=20)
    email = await until_recorded(deployment)
    endpoint = next(iter(deployment.paths))
    database = deployment.settings.clickhouse_database
    # The runbook says to add -u user:password; here, curl reads it from a file.
    (tmp_path / ".curlrc").write_text("fail-with-body\nnoproxy = *\n")
    address = deployment.settings.clickhouse_url.replace("http://", f"http://default:{CLICKHOUSE_PASSWORD}@")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OMS_WEBHOOKS_")},
        **deployment.variables,
        **{role.upper(): process.url for role, process in deployment.roles.items()},
        "OMS_WEBHOOKS_API_URL": deployment.roles["api"].url,
        "OMS_WEBHOOKS_API_KEY": API_KEY,
        "CLICKHOUSE": f"{address}/?database={database}",
        "ENDPOINT": str(endpoint),
        "KEY_ID": await key_id(deployment),
        "EMAIL": email,
        "SINCE": "2026-01-01T00:00:00Z",
        "CURL_HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    # They need the variables that the pages name, and files of earlier blocks.
    blocks = [block for page in OF_A_DEPLOYMENT for block in command_blocks(page)]
    assert len(blocks) > 15
    for block in blocks:
        shown = await _what_it_shows(block, environment, tmp_path)
        assert shown or "dead_letters" in block or "endpoint_changes" in block, f"nothing is shown by:\n{block}"
    async with httpx.AsyncClient(trust_env=False) as client:
        for process in deployment.roles.values():
            assert (await client.get(f"{process.url}/readyz")).status_code == 200


async def _what_it_shows(block: str, environment: dict[str, str], directory: Path) -> str:
    """Return a block's output, stripped. An empty query is repeated for five seconds, which an audit entry may take to reach ClickHouse."""
    deadline = time.monotonic() + 5
    while True:
        run = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-euo", "pipefail", "-c", block],
            env=environment,
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert run.returncode == 0, f"{block}\n{run.stdout}\n{run.stderr}"
        shown = run.stdout.strip()
        is_query = block.strip().startswith('curl -sS "$CLICKHOUSE"')
        if shown or not is_query or time.monotonic() > deadline:
            return shown
        await asyncio.sleep(0.2)
