"""Key pairs, the JWKS, rotations with an overlap, and the second signature header."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec.structs import replace

from pipeline.core.exchange import Request
from pipeline.delivery.delivery import Delivery
from pipeline.delivery.signed_request import signed_request
from pipeline.endpoints.endpoint import Endpoint, open_endpoint, renewed
from pipeline.endpoints.vault import Vault
from tests.unit.sample_events import META
from tests.unit.web.endpoint_requests import PATH, change, request
from tests.unit.web.service import NOW, Service

BODY = b'{"id":"evt_1"}'
BOTH = ["v1", "v1a"]
JWKS = "/.well-known/jwks.json"


async def rotate(service: Service, what: str, hours: object = None) -> tuple[int, Any]:
    body = {} if hours is None else {"json": {"rotation": {"overlap_hours": hours}}}
    return await request(service, "POST", f"{PATH}/1/{what}", **body)


def endpoint_of(service: Service) -> Endpoint:
    return open_endpoint(service.kafka.changes[-1], service.vault)


def sent(service: Service, hours: float = 0) -> Request:
    return signed_request(Delivery(META, BODY, endpoint_of(service)), None, NOW + timedelta(hours=hours)).request


def versions(sent_request: Request) -> list[str]:
    return [one.partition(",")[0] for one in sent_request.headers["webhook-signature"].split(" ")]


async def public_jwks(service: Service, query: str = "") -> list[dict[str, str]]:
    async with service.anonymous.get(f"{JWKS}{query}") as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "application/jwk-set+json"
        return list(json.loads(await response.read())["keys"])


def check(sent_request: Request, key: dict[str, str]) -> None:
    """Verify one of the signatures of version v1a as a receiver does. Raises if none is valid."""
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    headers = sent_request.headers
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + sent_request.body
    failed = 0
    given = [one.removeprefix("v1a,") for one in headers["webhook-signature"].split(" ") if one.startswith("v1a,")]
    for signature in given:
        try:
            public.verify(base64.b64decode(signature), message)
        except InvalidSignature:
            failed += 1
    assert failed < len(given), "no signature is valid"


async def test_a_key_pair_is_created_shown_by_its_public_key_and_removed(service: Service) -> None:
    await service.create()
    assert versions(sent(service)) == ["v1"]
    assert await public_jwks(service, "?endpoint_id=1") == []
    status, answer = await change(service, signature_versions=BOTH)
    assert (status, answer["signature_versions"]) == (200, BOTH)
    [shown] = answer["public_keys"]
    assert (shown["key"][:5], shown["expires_at"]) == ("whpk_", None)
    assert versions(sent(service)) == BOTH
    [key] = await public_jwks(service, "?endpoint_id=1")
    assert key["kid"] == shown["kid"]
    check(sent(service), key)
    # It is kept when the endpoint is changed, and when the answer is sent back.
    status, again = await change(service, signature_versions=BOTH, description="x")
    assert again["public_keys"] == answer["public_keys"]
    assert (await change(service, signature_versions=["v1"]))[1]["public_keys"] == []
    assert await public_jwks(service, "?endpoint_id=1") == []
    assert versions(sent(service)) == ["v1"]


async def test_the_jwks_has_all_public_keys_and_none_for_unknown_endpoints(service: Service) -> None:
    for number in (1, 2):
        await service.create(f"http://127.0.0.1/{number}")
    await change(service, signature_versions=BOTH)
    assert len(await public_jwks(service)) == 1
    for query in (
        "?endpoint_id=3",
        "?endpoint_id=99",
        "?endpoint_id=x",
        "?endpoint_id=-1",
        "?endpoint_id=" + "9" * 50,
        "?endpoint_id=",
    ):
        assert await public_jwks(service, query) == []


@pytest.mark.parametrize("hours", [0, 1, 168])
async def test_a_key_pair_is_rotated_with_an_overlap(service: Service, hours: int) -> None:
    await service.create()
    assert (await rotate(service, "rotate_key_pair"))[0] == 409
    await change(service, signature_versions=BOTH)
    [old] = await public_jwks(service, "?endpoint_id=1")
    status, answer = await rotate(service, "rotate_key_pair", hours)
    assert status == 200
    keys = await public_jwks(service, "?endpoint_id=1")
    assert len(keys) == len(answer["public_keys"]) == (2 if hours else 1)
    check(sent(service), keys[0])
    if hours:
        check(sent(service), old)
        assert versions(sent(service, hours)) == BOTH
        service.now[0] += timedelta(hours=hours)
        assert await public_jwks(service, "?endpoint_id=1") == [keys[0]]
    else:
        with pytest.raises(AssertionError):
            check(sent(service), old)


@pytest.mark.parametrize(("hours", "before", "after"), [(0, 1, 1), (1, 2, 1), (None, 2, 1), (168, 2, 1)])
async def test_a_secret_is_rotated_with_an_overlap(service: Service, hours: int | None, before: int, after: int) -> None:
    await service.create()
    assert (await rotate(service, "rotate_secret", hours))[0] == 200
    end = 24 if hours is None else hours
    assert len(versions(sent(service, end - 0.01))) == before
    assert len(versions(sent(service, end))) == after


async def test_an_empty_object_means_the_same_as_no_body(service: Service) -> None:
    await service.create()
    assert (await request(service, "POST", f"{PATH}/1/rotate_secret", json={}))[0] == 200
    assert len(versions(sent(service, 24 - 0.01))) == 2
    assert len(versions(sent(service, 24))) == 1


@pytest.mark.parametrize("hours", [-1, 169, 1.5, True, "24", None, [1]])
async def test_an_invalid_overlap_is_refused(service: Service, hours: object) -> None:
    await service.create()
    for what in ("rotate_secret", "rotate_key_pair"):
        status, answer = await request(service, "POST", f"{PATH}/1/{what}", json={"rotation": {"overlap_hours": hours}})
        assert (status, list(answer["errors"])) == (422, ["overlap_hours"])
    assert len(service.kafka.changes) == 1


async def test_a_rotation_without_overlap_ends_earlier_overlaps(service: Service) -> None:
    await service.create()
    await rotate(service, "rotate_secret", 168)
    await rotate(service, "rotate_secret", 24)
    assert len(versions(sent(service))) == 3
    await rotate(service, "rotate_secret", 0)
    assert len(versions(sent(service))) == 1


@pytest.mark.parametrize(("encoding", "prefix"), [("hex", "sha256="), ("base64", "")])
@pytest.mark.parametrize("secret", [None, "a secret of theirs"])
async def test_the_second_signature_header(service: Service, encoding: str, prefix: str, secret: str | None) -> None:
    await service.create()
    header = {"name": "X-Hub-Signature-256", "encoding": encoding, "prefix": prefix, "secret": secret}
    status, answer = await change(service, signature_header=header)
    shown = {"name": "x-hub-signature-256", "encoding": encoding, "prefix": prefix, "has_secret": secret is not None}
    assert (status, answer["signature_header"]) == (200, shown)
    assert "a secret of theirs" not in str(answer)
    key = secret or service.vault.open(service.kafka.changes[-1].secrets[0].sealed)
    digest = hmac.digest(key.encode(), BODY, hashlib.sha256)
    expected = prefix + (digest.hex() if encoding == "hex" else base64.b64encode(digest).decode())
    assert sent(service).headers["x-hub-signature-256"] == expected
    # Sending back the answer keeps it.
    await change(service, signature_header=answer["signature_header"], description="x")
    assert sent(service).headers["x-hub-signature-256"] == expected
    assert (await change(service, signature_header=None))[1]["signature_header"] is None
    assert "x-hub-signature-256" not in sent(service).headers


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"signature_versions": ["v1a"]}, "must be ["),
        ({"signature_versions": ["v1", "v2"]}, "must be ["),
        ({"signature_versions": "v1"}, "must be ["),
        ({"signature_versions": [["v1"]]}, "must be ["),
        ({"signature_header": "X-Signature"}, "must be an object"),
        ({"signature_header": {"encoding": "hex"}}, "must be an object"),
        ({"signature_header": {"name": "webhook-signature"}}, "the sender sets it"),
        ({"signature_header": {"name": "X Y"}}, "the name of a header"),
        ({"signature_header": {"name": "X-Y", "encoding": "hex16"}}, "hex or base64"),
        ({"signature_header": {"name": "X-Y", "prefix": "a b"}}, "prefix must be"),
        ({"signature_header": {"name": "X-Y", "secret": "hunter2\n"}}, "secret must be 8"),
        ({"signature_header": {"name": "X-Y", "key": "x"}}, "has no 'key'"),
        ({"signature_header": {"name": "X-Y"}, "headers": {"x_y": "1"}}, "is set twice"),
    ],
)
async def test_invalid_signature_settings_are_refused(service: Service, fields: dict[str, Any], sentence: str) -> None:
    await service.create()
    status, answer = await change(service, **fields)
    assert status == 422
    assert sentence in next(iter(answer["errors"].values()))[0]
    assert "hunter2" not in str(answer)


async def test_signature_keys_are_reencrypted_backed_up_and_deleted(service: Service) -> None:
    await service.create()
    await change(service, signature_versions=BOTH, signature_header={"name": "X-Y", "secret": "a secret of theirs"})
    record = service.kafka.changes[-1]
    new = Vault.new_key()
    both = Vault(f"{new},{service.encryption_key}")
    assert not open_endpoint(record, both).is_current
    after = open_endpoint(replace(record, **renewed(record, both)), Vault(new))
    assert after.problem is None

    before = sent(service).headers["x-y"]
    _, line = (await (await service.client.get("/api/webhook/backups/endpoints")).text()).splitlines()
    await change(service, signature_versions=["v1"], signature_header=None)
    body = {"restore": {"endpoints": [json.loads(line)], "overwrite": True}}
    _, answer = await request(service, "POST", "/api/webhook/backups/endpoints", json=body)
    assert answer["restored"][0]["differences"] == ["key_pairs", "signature_header"], answer
    assert sent(service).headers["x-y"] == before
    assert service.kafka.changes[-1].key_pairs == record.key_pairs

    await request(service, "DELETE", f"{PATH}/1")
    gone = service.kafka.changes[-1]
    assert (gone.key_pairs, gone.signature_header) == ((), None)
