"""The runbook's commands, as they are written, against the running system. (Those of Kubernetes and of Kafka's tools are not run.)"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.deploy.files import ROOT
from tests.faults.deployment import API_KEY, CLICKHOUSE_PASSWORD, Deployment, simulated_events

pytestmark = [pytest.mark.operations, pytest.mark.timeout(400)]


def commands() -> list[str]:
    """The blocks that are marked ``sh``, each with what is needed from the ones before: nothing."""
    return re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / "runbook.md").read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_every_alert_comes_with_commands() -> None:
    sections = re.split(r"^## ", (ROOT / "docs" / "runbook.md").read_text("utf-8"), flags=re.MULTILINE)[2:]
    assert len(sections) == 14
    assert [section.partition("\n")[0] for section in sections if "```sh\n" not in section] == []


async def test_the_commands_work_as_written(deployment: Deployment, tmp_path: Path) -> None:
    await deployment.publish(simulated_events(20, seed=9), rate=20)
    await deployment.roles["recorder"].until_above_zero("oms_webhooks_recorded_rows_total")
    endpoint = next(iter(deployment.paths))
    database = deployment.settings.clickhouse_database
    # The runbook says: add -u user:password. curl reads it from a file here.
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
        "CURL_HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    blocks = commands()
    assert len(blocks) > 15
    for block in blocks:
        run = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-euo", "pipefail", "-c", block],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert run.returncode == 0, f"{block}\n{run.stdout}\n{run.stderr}"
        assert run.stdout.strip() or "dead_letters" in block or "endpoint_changes" in block, f"nothing is shown by:\n{block}"
    async with httpx.AsyncClient(trust_env=False) as client:
        for process in deployment.roles.values():
            assert (await client.get(f"{process.url}/readyz")).status_code == 200
