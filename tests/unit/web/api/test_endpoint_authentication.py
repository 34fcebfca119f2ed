"""Setting an endpoint's authentication: what is accepted, stored, shown and refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.endpoints.endpoint import open_endpoint, renewed
from pipeline.endpoints.vault import Vault
from schemas.endpoint import EndpointRecord
from tests.unit.web.endpoint_requests import PATH, change, request, wrapped
from tests.unit.web.service import Service

BASIC = {"type": "basic", "username": "oms", "password": "hunter2-password"}
API_KEY = {"type": "api_key", "header": "X-API-Key", "key": "hunter2-key-of-theirs"}
TOKEN_URL = "http://127.0.0.1/token"
OAUTH = {
    "type": "oauth2_client_credentials",
    "token_url": TOKEN_URL,
    "client_id": "oms",
    "client_secret": "hunter2-client",
    "scopes": ["webhooks"],
}
EACH = [BASIC, API_KEY, OAUTH, {"type": "bearer", "token": "hunter2-token"}]


def without_secret(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in {"password", "key", "client_secret", "token"}}


def shown(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer["authentication"].items() if value is not None}


async def created(service: Service, authentication: dict[str, Any]) -> dict[str, Any]:
    status, answer = await request(
        service,
        "POST",
        **wrapped(target_url="http://127.0.0.1/hooks", events=["order_completed"], authentication=authentication),
    )
    assert status == 201, answer
    return dict(answer)


def secret_of(service: Service, record: EndpointRecord) -> str:
    sealed = record.authentication.sealed_secret if record.authentication else record.sealed_token
    return service.vault.open(sealed or "")


@pytest.mark.parametrize("given", EACH, ids=lambda given: given["type"])
async def test_each_type_is_stored_encrypted_and_shown_without_its_secret(service: Service, given: dict[str, Any]) -> None:
    answer = await created(service, given)
    plain = without_secret(given)
    if "header" in plain:
        plain["header"] = "x-api-key"
    if given is OAUTH:
        plain["client_auth_method"] = "client_secret_basic"
    assert shown(answer) == plain
    assert answer["has_token"] is (given["type"] == "bearer")
    record = service.kafka.changes[-1]
    assert secret_of(service, record).startswith("hunter2")
    assert b"hunter2" not in b"".join(one.value or b"" for one in service.kafka.records)
    assert "hunter2" not in str(answer)

    # Sending back the answer changes nothing.
    status, again = await change(service, authentication=answer["authentication"], description="sent back")
    assert (status, again["authentication"]) == (200, answer["authentication"])
    assert secret_of(service, service.kafka.changes[-1]).startswith("hunter2")

    # Encrypted with a new key, and decrypted with that key alone.
    new = Vault.new_key()
    both = Vault(f"{new},{service.encryption_key}")
    assert not open_endpoint(record, both).is_current
    after = replace(record, **renewed(record, both))
    endpoint = open_endpoint(after, Vault(new))
    assert (endpoint.problem, endpoint.credential) == (None, open_endpoint(record, service.vault).credential)

    await request(service, "DELETE", f"{PATH}/1")
    gone = service.kafka.changes[-1]
    assert (gone.authentication, gone.sealed_token) == (None, None)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("hunter2", 'must be an object such as {"type": "basic"'),
        ({"username": "hunter2"}, "needs a type"),
        ({"type": "digest"}, "unknown type: 'digest'"),
        ({"type": ["basic"]}, "needs a type"),
        ({"type": "basic", "username": "oms"}, "of type basic needs password"),
        ({"type": "basic", "password": "hunter2"}, "needs username"),
        ({"type": "basic", "username": "a:b", "password": "hunter2"}, "username must be text"),
        ({"type": "basic", "username": "a", "password": "hunter2\n"}, "password must be text"),
        ({"type": "basic", "username": "a", "pasword": "hunter2"}, "has no 'pasword'; it has username, password"),
        ({"type": "api_key", "header": "X-API-Key", "key": " hunter2"}, "key must be 1 to 4096"),
        ({"type": "api_key", "header": "X-API-Key", "key": "hunter2\r\nHost: evil"}, "key must be 1 to 4096"),
        *(
            ({"type": "api_key", "header": header, "key": "hunter2"}, "the sender sets it, or it is not for the receiver")
            for header in (
                "webhook-id",
                "Webhook_Signature",
                "Host",
                "content-length",
                "Connection",
                "TE",
                "authorization",
                "proxy",
            )
        ),
        ({"type": "api_key", "header": "X API Key", "key": "hunter2"}, "the name of a header"),
        ({"type": "api_key", "header": "X-API-Key"}, "of type api_key needs key"),
        (OAUTH | {"token_url": "ftp://127.0.0.1/token"}, "authentication.token_url must start with http"),
        (OAUTH | {"token_url": "http://169.254.169.254/latest"}, "169.254.169.254"),
        (OAUTH | {"token_url": "http://10.0.0.1/token"}, "10.0.0.1"),
        (OAUTH | {"scopes": ["two words"]}, "scopes must be a list"),
        (OAUTH | {"client_id": "a\nb"}, "client_id must be"),
        (OAUTH | {"client_auth_method": "private_key_jwt"}, "client_auth_method must be one of"),
        (without_secret(OAUTH), "needs client_secret"),
    ],
)
async def test_invalid_authentication_is_refused_without_echoing_the_secret(service: Service, given: Any, sentence: str) -> None:
    await service.create()
    status, answer = await change(service, authentication=given)
    assert (status, list(answer["errors"])) == (422, ["authentication"]), answer
    assert sentence in answer["errors"]["authentication"][0]
    assert "hunter2" not in str(answer)
    assert len(service.kafka.changes) == 1


async def test_one_type_replaces_another(service: Service) -> None:
    await created(service, BASIC)
    for given in (API_KEY, OAUTH, {"type": "bearer", "token": "t0ken"}, BASIC):
        status, answer = await change(service, authentication=given)
        assert (status, shown(answer)["type"]) == (200, given["type"])
        record = service.kafka.changes[-1]
        assert (record.sealed_token is None) != (record.authentication is None)
    for nothing in (None, {"type": "none"}):
        await change(service, authentication=BASIC)
        assert shown((await change(service, authentication=nothing))[1]) == {"type": "none"}
        assert service.kafka.changes[-1].authentication is None


async def test_token_still_works(service: Service) -> None:
    await created(service, BASIC)
    assert shown((await change(service, token=None))[1])["type"] == "basic"  # there was no token to remove
    status, answer = await change(service, token="hunter2-token")
    assert (status, shown(answer), answer["has_token"]) == (200, {"type": "bearer"}, True)
    # A client that sends back the answer with another token.
    status, answer = await change(service, token="hunter3-token", authentication=answer["authentication"])
    assert (status, secret_of(service, service.kafka.changes[-1])) == (200, "hunter3-token")
    # A client that removes the token.
    status, answer = await change(service, token=None, authentication=answer["authentication"])
    assert (status, shown(answer)) == (200, {"type": "none"})
    # A client that sets a token where there was none.
    status, answer = await change(service, token="hunter4-token", authentication=answer["authentication"])
    assert (status, shown(answer)) == (200, {"type": "bearer"})
    assert (await change(service, token="t", authentication=BASIC))[0] == 422


async def test_a_client_secret_is_not_sent_to_another_token_endpoint(service: Service) -> None:
    await created(service, OAUTH)
    kept = without_secret(OAUTH)
    assert (await change(service, authentication=kept | {"scopes": ["other"]}))[0] == 200
    assert secret_of(service, service.kafka.changes[-1]) == "hunter2-client"
    for moved in ({"token_url": "http://127.0.0.1:9999/token"}, {"client_id": "another"}):
        status, answer = await change(service, authentication=kept | moved)
        assert status == 422
        assert "belongs to another token_url or client_id" in answer["errors"]["authentication"][0]


async def test_a_header_is_not_sent_twice(service: Service) -> None:
    await created(service, API_KEY)
    status, answer = await change(service, headers={"x_api_key": "mine"})
    assert (status, list(answer["errors"])) == (422, ["headers"])
    assert (await change(service, headers={"x-tenant": "acme"}))[0] == 200
    status, answer = await change(service, authentication=API_KEY | {"header": "X-Tenant"})
    assert (status, list(answer["errors"])) == (422, ["authentication"])
    both = {"authentication": {"type": "none"}, "headers": {"x-api-key": "mine"}}
    assert (await change(service, **both))[0] == 200


@pytest.mark.parametrize("given", EACH, ids=lambda given: given["type"])
async def test_a_backup_restores_it(service: Service, given: dict[str, Any]) -> None:
    await created(service, given)
    _, line = (await (await service.client.get("/api/webhook/backups/endpoints")).text()).splitlines()
    assert "hunter2" not in line
    before = open_endpoint(service.kafka.changes[-1], service.vault).credential
    await change(service, authentication={"type": "none"})
    body = {"restore": {"endpoints": [json.loads(line)], "overwrite": True}}
    _, answer = await request(service, "POST", "/api/webhook/backups/endpoints", json=body)
    [restored] = answer["restored"]
    assert restored["step"] == "update"
    assert restored["differences"] == [{"bearer": "token"}.get(given["type"], "authentication")]
    assert open_endpoint(service.kafka.changes[-1], service.vault).credential == before


async def test_an_authentication_type_of_a_newer_release_makes_the_endpoint_unusable(service: Service) -> None:
    await created(service, BASIC)
    record = service.kafka.changes[-1]
    assert record.authentication is not None
    newer = replace(record, authentication=replace(record.authentication, type="hawk"))
    problem = open_endpoint(newer, service.vault).problem
    assert problem == "Its authentication type 'hawk' is unknown to this release: upgrade this process."
