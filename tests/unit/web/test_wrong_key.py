"""An API process whose encryption key differs from that of the others shows everything and encrypts nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.endpoints.vault import Vault
from schemas.codec import to_json
from tests.unit.web.dashboard.visitor import visiting
from tests.unit.web.endpoint_requests import PATH, request, wrapped
from tests.unit.web.service import Service

WHY = "Nothing was changed: The only endpoint is encrypted with a different encryption_key than this process has. Set OMS_WEBHOOKS_ENCRYPTION_KEY to "


@pytest.fixture
async def endpoint(service: Service) -> int:
    """An endpoint that other processes can decrypt, and this one cannot."""
    identifier = await service.create(token="t0ken", headers={"X-A": "b"})
    service.restart_with(Vault.new_key())
    return identifier


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", wrapped(target_url="http://127.0.0.1/other", events=["order_completed"])),
        ("PATCH", "/1", wrapped(description="x")),
        ("PATCH", "/1", wrapped(token="new")),
        ("POST", "/1/rotate_secret", {}),
    ],
)
async def test_nothing_is_encrypted_with_a_wrong_key(service: Service, endpoint: int, method: str, path: str, body: Any) -> None:
    written = len(service.kafka.written)

    status, answer = await request(service, method, PATH + path, **body)

    assert (status, answer["error"][: len(WHY)]) == (503, WHY)
    assert len(service.kafka.written) == written, "not even an id was claimed"


async def test_a_backup_is_not_restored_with_a_wrong_key(service: Service, endpoint: int) -> None:
    line = json.loads(to_json(service.kafka.changes[-1]))
    path = "/api/webhook/backups/endpoints"
    status, answer = await request(service, "POST", path, json={"restore": {"endpoints": [line]}})
    assert (status, answer["error"][: len(WHY)]) == (503, WHY)
    assert (await request(service, "POST", path, json={"restore": {"endpoints": [line], "dry_run": True}}))[0] == 200


async def test_everything_is_shown_and_pages_explain_the_problem(service: Service, endpoint: int) -> None:
    status, shown = await request(service, "GET", f"{PATH}/{endpoint}")
    assert (status, shown["problem"].partition(";")[0]) == (200, "Its secrets were encrypted with another encryption_key")
    assert (await request(service, "GET"))[1]["endpoints"] == [shown]
    async with visiting(service) as visitor:
        assert "encrypted with a different encryption_key" not in (await visitor.go("/webhooks/login")).text
        await visitor.log_in()
        for page in ("/webhooks/keys", f"/webhooks/endpoints/{endpoint}"):
            seen = await visitor.go(page)
            assert (
                "Nothing can be delivered or changed. The only endpoint is encrypted with a different encryption_key" in seen.text
            )
        assert "unusable" in seen.text
        assert "Nothing can be sent to this endpoint, so its deliveries are on hold. Its secrets were encrypted" in seen.text


async def test_after_losing_the_key_one_can_delete_and_register_again(service: Service, endpoint: int) -> None:
    assert (await request(service, "DELETE", f"{PATH}/{endpoint}"))[0] == 204
    assert await service.create() != endpoint


async def test_one_undecryptable_endpoint_does_not_prevent_changes_to_the_others(service: Service, endpoint: int) -> None:
    service.restart_with(service.encryption_key)
    other = await service.create("http://127.0.0.1/other")
    foreign = replace(service.kafka.changes[0], sealed_token=Vault(Vault.new_key()).seal("x"), version=5)
    await service.kafka.registry.write(service.kafka, foreign)

    assert (await request(service, "PATCH", f"{PATH}/{other}", **wrapped(token="new")))[0] == 200
    assert (await request(service, "GET", f"{PATH}/{endpoint}"))[1]["problem"] is not None
    assert (await request(service, "GET", f"{PATH}/{other}"))[1]["problem"] is None
