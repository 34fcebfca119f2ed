"""A client of the OMS's published API lists, creates, reads, updates and deletes our endpoints, at both base paths."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.examples.building import require, run
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.service import API_KEY, Service, running_service

pytestmark = [pytest.mark.examples, pytest.mark.timeout(600)]

TARGET = "http://127.0.0.1/hooks"
FILTERS = ['data.channel == "spree"', 'decimal(data.total) >= decimal("100")']


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the client."""
    require("go", "golang-go (1.21 or newer)")
    here = tmp_path_factory.mktemp("admin") / "client"
    shutil.copytree(Path(__file__).parent / "admin_client", here)
    for command in (["go", "build", "-o", "admin_client", "."], ["go", "vet", "."]):
        run(command, here)
    return here / "admin_client"


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with running_service() as running:
        yield running


@pytest.mark.parametrize("base", ["/v1", ""])
async def test_the_documented_operations_work(service: Service, client: Path, base: str) -> None:
    service.attempts.rows = (
        attempt_row(endpoint_id=1),
        attempt_row(id=12, endpoint_id=1, http_status_code=None, failure="timeout"),
    )
    process = await asyncio.create_subprocess_exec(
        str(client),
        f"{service.url.rstrip('/')}{base}",
        TARGET,
        env=os.environ | {"API_KEY": API_KEY},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    seen: dict[str, Any] = json.loads(output)

    assert {name: seen[name] for name in seen if isinstance(seen[name], int)} == {
        "create": 201,
        "create_again": 200,
        "is_same": True,
        "list": 200,
        "read": 200,
        "update": 200,
        "invalid": 422,
        "delete": 204,
        "read_deleted": 404,
        "wrong_key": 401,
    }
    attempt = {"id": 11, "event_name": "shipment_shipped", "http_status_code": 503, "target_url": TARGET}
    attempt |= {"token": None, "idempotency_key": "evt_1"}
    # No answer is null, which this client reads as 0.
    attempts = [attempt, attempt | {"id": 12, "http_status_code": 0}]
    endpoint = {"id": 1, "target_url": TARGET, "events": ["order_completed"], "filters": FILTERS, "attempts": attempts}
    assert (seen["listed"], seen["endpoint"]) == ([endpoint], endpoint)
    assert seen["updated"]["filters"] == [*FILTERS, "data.total_quantity > 1"]
    assert seen["updated"]["events"] == ["order_completed", "order_cancelled"]
    [*_, last] = service.kafka.changes
    assert last.deleted
    kept = service.kafka.changes[-2]
    assert service.vault.open(kept.sealed_token or "") == "t0ken", "a client that cannot read the token does not remove it"
