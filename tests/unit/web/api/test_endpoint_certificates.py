"""An endpoint's client certificate: what is accepted, stored, shown, monitored and refused."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key
from msgspec.structs import replace

from pipeline.endpoints.endpoint import open_endpoint, renewed
from pipeline.endpoints.vault import Vault
from pipeline.ops import metrics
from tests.unit.web.endpoint_requests import PATH, change, request
from tests.unit.web.service import NOW, Service

AUTHORITY = trustme.CA()
HTTPS = "https://127.0.0.1/hooks"
EARLIER = NOW + dt.timedelta(days=10)


def pem(name: str = "oms.example.com", not_after: dt.datetime | None = None) -> dict[str, str]:
    issued = AUTHORITY.issue_cert(name, not_after=not_after, not_before=NOW - dt.timedelta(days=30))
    chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
    return {"certificate": chain.decode(), "private_key": issued.private_key_pem.bytes().decode()}


GIVEN = pem(not_after=NOW + dt.timedelta(days=100))


def expiry() -> float | None:
    return metrics.registry.get_sample_value(
        "oms_webhooks_certificate_expiry_timestamp_seconds", {"certificate": "endpoint-client"}
    )


async def test_it_is_stored_encrypted_shown_without_its_key_and_monitored(service: Service) -> None:
    await service.create(HTTPS)
    status, answer = await change(service, client_certificate=GIVEN)
    assert status == 200, answer
    shown = answer["client_certificate"]
    assert sorted(shown) == ["expires_at", "fingerprint", "subject"]
    assert shown["expires_at"].startswith("2026-06-10T15:04:00")
    assert expiry() == pytest.approx((NOW + dt.timedelta(days=100)).timestamp(), abs=1)
    written = b"".join(record.value or b"" for record in service.kafka.records)
    assert b"PRIVATE KEY" not in written
    record = service.kafka.changes[-1]
    identity = open_endpoint(record, service.vault).identity
    assert identity is not None
    assert identity.private_key == GIVEN["private_key"]
    assert "PRIVATE" not in repr(open_endpoint(record, service.vault))

    # Sending back the answer keeps it, another certificate replaces it, and the first expiry is monitored.
    assert (await change(service, client_certificate=shown, description="x"))[1]["client_certificate"] == shown
    await change(service, client_certificate=pem(not_after=EARLIER))
    assert expiry() == pytest.approx(EARLIER.timestamp(), abs=1)

    new = Vault.new_key()
    both = Vault(f"{new},{service.encryption_key}")
    assert not open_endpoint(record, both).is_current
    after = open_endpoint(replace(record, **renewed(record, both)), Vault(new))
    assert (after.problem, after.identity) == (None, identity)

    status, answer = await change(service, client_certificate=None)
    assert (status, answer["client_certificate"], expiry()) == (200, None, None)


async def test_a_backup_restores_it_and_a_deletion_removes_it(service: Service) -> None:
    await service.create(HTTPS)
    await change(service, client_certificate=GIVEN)
    _, line = (await (await service.client.get("/api/webhook/backups/endpoints")).text()).splitlines()
    assert "PRIVATE" not in line
    await change(service, client_certificate=None)
    body = {"restore": {"endpoints": [json.loads(line)], "overwrite": True}}
    _, answer = await request(service, "POST", "/api/webhook/backups/endpoints", json=body)
    assert answer["restored"][0]["differences"] == ["client_certificate"], answer
    assert open_endpoint(service.kafka.changes[-1], service.vault).identity is not None
    await request(service, "DELETE", f"{PATH}/1")
    assert service.kafka.changes[-1].client_certificate is None
    assert expiry() is None


def encrypted(key: str) -> str:
    loaded = load_pem_private_key(key.encode(), None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2")).decode()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("PEM", "must be an object"),
        ({"certificate": GIVEN["certificate"]}, "needs certificate and private_key"),
        ({}, "needs certificate and private_key"),
        (GIVEN | {"passphrase": "hunter2"}, "has no 'passphrase'"),
        (GIVEN | {"certificate": "hunter2"}, "certificate must be PEM"),
        (GIVEN | {"private_key": "hunter2"}, "must be a private key in PEM"),
        (GIVEN | {"private_key": encrypted(GIVEN["private_key"])}, "is encrypted"),
        (GIVEN | {"private_key": pem()["private_key"]}, "is not the key of the first certificate"),
        (GIVEN | {"certificate": "x" * 40_000}, "at most 32,768 characters"),
        (GIVEN | {"certificate": GIVEN["certificate"] * 11}, "at most 10"),
        (pem(not_after=NOW - dt.timedelta(days=1)), "expired on 2026-03-01"),
    ],
)
async def test_invalid_certificates_are_refused(service: Service, given: Any, sentence: str) -> None:
    await service.create(HTTPS)
    status, answer = await change(service, client_certificate=given)
    assert (status, list(answer["errors"])) == (422, ["client_certificate"]), answer
    assert sentence in answer["errors"]["client_certificate"][0]
    assert "hunter2" not in str(answer)
    assert "PRIVATE" not in str(answer)


async def test_it_needs_tls(service: Service) -> None:
    await service.create("http://127.0.0.1/hooks")
    status, answer = await change(service, client_certificate=GIVEN)
    assert (status, list(answer["errors"])) == (422, ["client_certificate"])
    assert (await change(service, client_certificate=GIVEN, target_url=HTTPS))[0] == 200
    status, answer = await change(service, target_url="http://127.0.0.1/hooks")
    assert (status, list(answer["errors"])) == (422, ["target_url"])
