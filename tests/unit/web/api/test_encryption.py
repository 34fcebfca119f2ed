"""Encrypting endpoints with a new key: how many remain, in batches, and by two clients at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.endpoints.vault import Vault
from schemas.own_records import members_of
from tests.unit.web.endpoint_requests import PATH, request, wrapped
from tests.unit.web.service import Service

ENCRYPTION = "/api/webhook/encryption"


def rotate(service: Service) -> str:
    """Restart the process with a new key before the old one, and return the new key."""
    new = Vault.new_key()
    service.restart_with(f"{new},{service.encryption_key}")
    return new


def state(endpoints: int, remaining: int, reencrypted: int = 0, unusable: int = 0, keys: int = 2) -> dict[str, int]:
    return {
        "keys": keys,
        "endpoints": endpoints,
        "remaining": remaining,
        "unusable": unusable,
        "reencrypted": reencrypted,
    }


async def test_endpoints_are_reencrypted_and_otherwise_unchanged(service: Service) -> None:
    await service.create("http://127.0.0.1/1", token="t0ken", headers={"X-Tenant": "acme"})
    await service.create("http://127.0.0.1/2")
    assert await request(service, "GET", ENCRYPTION) == (200, state(2, 0, keys=1))
    before = service.kafka.changes[-2:]
    new = rotate(service)
    assert await request(service, "GET", ENCRYPTION) == (200, state(2, 2))

    assert await request(service, "POST", ENCRYPTION) == (200, state(2, 0, reencrypted=2))

    after, opened = service.kafka.changes[-2:], Vault(new)
    for one, other in zip(before, after, strict=True):
        assert (other.change, other.version, other.changed_by[:8]) == ("reencrypt", one.version + 1, "api-key:")
        assert [opened.open(secret.sealed) for secret in other.secrets] == [
            service.vault.open(secret.sealed) for secret in one.secrets
        ]
        sealed = {"secrets", "sealed_token", "sealed_headers", "version", "change", "changed_by", "updated_at"}
        assert {name: value for name, value in members_of(other).items() if name not in sealed} == {
            name: value for name, value in members_of(one).items() if name not in sealed
        }
    assert opened.open(after[0].sealed_token or "") == "t0ken"
    assert opened.open(after[0].sealed_headers["x-tenant"]) == "acme"
    written = len(service.kafka.changes)
    assert await request(service, "POST", ENCRYPTION) == (200, state(2, 0))
    assert len(service.kafka.changes) == written, "there was nothing to do"


async def test_it_resumes_after_an_interruption_and_two_clients_do_no_harm(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.web.api.encryption._AT_ONCE", 2)
    for number in range(5):
        await service.create(f"http://127.0.0.1/{number}")
    rotate(service)
    assert await request(service, "POST", ENCRYPTION) == (200, state(5, 3, reencrypted=2))

    answers = await asyncio.gather(*(request(service, "POST", ENCRYPTION) for _ in range(2)))

    sealed = sum(body["reencrypted"] for _, body in answers)
    assert sealed in {2, 3}, "the second takes those that the first has not begun"
    assert (await request(service, "POST", ENCRYPTION))[1] == state(5, 0, reencrypted=3 - sealed)
    assert [one.version for one in service.kafka.changes[5:]] == [2] * 5, "each endpoint is encrypted once"


async def test_endpoints_that_no_key_decrypts_are_reported_and_left_alone(service: Service) -> None:
    await service.create()
    service.restart_with(f"{Vault.new_key()},{Vault.new_key()}")

    assert await request(service, "POST", ENCRYPTION) == (200, state(1, 0, unusable=1))
    assert len(service.kafka.changes) == 1


async def test_an_endpoint_deleted_meanwhile_is_skipped(service: Service) -> None:
    await service.create()
    rotate(service)
    deleted: Any = request(service, "DELETE", f"{PATH}/1")
    _, (status, body) = await asyncio.gather(deleted, request(service, "POST", ENCRYPTION))

    assert (status, body["remaining"]) == (200, 0)
    assert service.kafka.changes[-1].deleted


async def test_a_concurrent_change_is_kept(service: Service) -> None:
    await service.create()
    rotate(service)
    await asyncio.gather(
        request(service, "PATCH", f"{PATH}/1", **wrapped(description="new")), request(service, "POST", ENCRYPTION)
    )
    _, shown = await request(service, "GET", f"{PATH}/1")
    assert (shown["description"], shown["version"]) == ("new", 3)
    assert (await request(service, "GET", ENCRYPTION))[1]["remaining"] == 0
