"""The encryption key is rotated under load as docs/operations.md says: no delivery waits, and the old key is no longer needed."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence

import pytest

from pipeline.endpoints.vault import Vault
from tests.faults.deployment import API_KEY, Deployment, simulated_events
from tests.faults.evidence import expected_pairs
from tests.faults.processes import COMMAND
from tests.faults.receivers import Behaviour
from tests.waiting import until

pytestmark = [pytest.mark.operations, pytest.mark.timeout(400)]

KEY = "OMS_WEBHOOKS_ENCRYPTION_KEY"
_SEALED = b"gAAAA"
"""The start of every text that Vault seals."""


async def replace(deployment: Deployment, role: str, name: str, keys: str) -> None:
    """Restart a role with other keys. The old process must have parked nothing because of its keys."""
    deployment.variables = {**deployment.variables, KEY: keys}
    [former] = [process.name for process in deployment.roles.values() if process.role == role]
    assert await deployment.roles[former].metric("oms_webhooks_parked_total", reason="endpoint_unusable") == 0
    await deployment.dismiss(former, 30)
    await deployment.launch(role, name=name).until_ready()


async def command(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    api = next(process for process in deployment.roles.values() if process.role == "api")
    outside = {name: value for name, value in os.environ.items() if not name.startswith("OMS_WEBHOOKS_")}
    environment = outside | {"OMS_WEBHOOKS_API_URL": api.url, "OMS_WEBHOOKS_API_KEY": API_KEY}
    return await asyncio.to_thread(
        subprocess.run, [COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=100
    )


async def rotate(deployment: Deployment, old: str, new: str) -> None:
    for step, keys in enumerate((f"{old},{new}", f"{new},{old}"), 1):
        for role in ("fanout", "retry", "api"):
            await replace(deployment, role, f"{role}-{step}", keys)
    before = await command(deployment, "endpoints", "reencrypt", "--status")
    assert (before.returncode, "Encrypted with an old key" in before.stdout) == (1, True), before
    made = await command(deployment, "endpoints", "reencrypt")
    assert (made.returncode, "You can remove the other keys from all roles" in made.stdout) == (0, True), made
    for role in ("fanout", "retry", "api"):
        await replace(deployment, role, f"{role}-3", new)


@pytest.fixture
def behaviour() -> Behaviour:
    """Make one endpoint fail at times, so that there are retries too."""
    return Behaviour(path="/flaky", fail_rate=0.05)  # six failures in a row, among hundreds, would lose a notification


async def test_no_delivery_waits_while_the_key_is_rotated(deployment: Deployment) -> None:
    old, new = deployment.variables[KEY], Vault.new_key()
    is_rotated = asyncio.Event()
    load = asyncio.create_task(deployment.publish(simulated_events(400, seed=11), rate=20, until=is_rotated))
    await deployment.until_at_work()

    await rotate(deployment, old, new)
    is_rotated.set()
    await load

    await deployment.publish(simulated_events(20, seed=12), rate=20)
    await until_acknowledged(deployment)
    for process in deployment.roles.values():
        assert await process.metric("oms_webhooks_parked_total", reason="endpoint_unusable") == 0
        if process.role != "recorder":
            assert await process.metric("oms_webhooks_endpoints", state="unusable") == 0
    await asyncio.to_thread(check_deliveries, deployment, deployment.settings.topics.delay_topics)


async def until_acknowledged(deployment: Deployment) -> None:
    """Wait until every notification has arrived."""

    def missing() -> frozenset[tuple[str, str]]:
        return expected_pairs(deployment.events) - deployment.acknowledged()

    await until(lambda: not missing(), lambda: f"{len(missing())} notifications are missing, such as {min(missing())}")


def check_deliveries(deployment: Deployment, topics: Sequence[str]) -> None:
    """Retries that wait for hours need no old key: they contain the event and the endpoint's id, and nothing sealed."""
    waited = list(deployment.kafka.records(topics))
    assert waited, "some attempts failed, so there were retries"
    for record in waited:
        assert _SEALED not in record.value
        assert all(_SEALED not in value for _, value in record.headers)
