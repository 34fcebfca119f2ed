from __future__ import annotations

import hashlib

import pytest
from pydantic import SecretStr
from yarl import URL

from pipeline.web.auth import ApiKeys, Principal
from pipeline.web.errors import ApiError
from schemas.api_key import Access
from tests.unit.web.service import API_KEY, OTHER_KEY, Service

ROUTES = [
    ("GET", "/api/webhook/endpoints"),
    ("GET", "/api/webhook/attempts/1"),
    ("GET", "/api/nowhere"),
    ("TRACE", "/api/webhook/endpoints"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_below_api_needs_a_key(service: Service, method: str, path: str) -> None:
    async with service.anonymous.request(method, path) as response:
        body = await response.json()
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert body == {"error": "This needs an API key. Send it in the header Authorization: Bearer <API key>."}


@pytest.mark.parametrize(
    "path",
    [
        "/api%2Fwebhook/endpoints",
        "/%61pi/webhook/endpoints",
        "/api/./webhook/endpoints",
        "/x/../api/webhook/endpoints",
        "/API/webhook",
    ],
)
async def test_no_spelling_of_a_path_bypasses_the_key(service: Service, path: str) -> None:
    async with service.anonymous.get(URL(service.url + path, encoded=True)) as response:
        assert response.status in (401, 404)


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {API_KEY}x",
        f"Bearer {API_KEY[:-1]}",
        "Bearer \u00e9\u00e9",
        f"Bearer {API_KEY} {API_KEY}",
        f"Bearer {API_KEY.upper()}",
    ],
)
async def test_a_wrong_key_is_refused_and_not_echoed(service: Service, header: str) -> None:
    async with service.anonymous.get("/api/webhook/endpoints", headers={"Authorization": header}) as response:
        body = await response.json()
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert body["error"].startswith("The API key is not valid.")
    assert API_KEY[:-1] not in body["error"]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer   ", "Basic dXNlcjpwYXNz", API_KEY, f"Token {API_KEY}"])
async def test_a_request_without_a_key_is_told_how_to_send_one(service: Service, header: str) -> None:
    async with service.anonymous.get("/api/webhook/endpoints", headers={"Authorization": header}) as response:
        body = await response.json()
    assert response.status == 401
    assert "Authorization: Bearer" in body["error"]


@pytest.mark.parametrize("header", [f"Bearer {API_KEY}", f"bearer {OTHER_KEY}", f"BEARER  {API_KEY} "])
async def test_every_configured_key_works(service: Service, header: str) -> None:
    async with service.anonymous.get("/api/webhook/endpoints", headers={"Authorization": header}) as response:
        assert response.status == 200


def test_the_actor_is_the_start_of_the_keys_digest() -> None:
    keys = ApiKeys([SecretStr("one"), SecretStr("two")])
    assert keys.principal("Bearer two") == Principal(f"api-key:{hashlib.sha256(b'two').hexdigest()[:8]}", Access.ADMIN)
    with pytest.raises(ApiError) as caught:
        keys.principal("Bearer \udcff")
    assert caught.value.status == 401


def test_keys_are_not_kept_in_memory() -> None:
    keys = ApiKeys([SecretStr("a-key")])
    assert "a-key" not in repr(vars(keys))


@pytest.mark.parametrize("keys", [[SecretStr("")], [SecretStr("one"), SecretStr("")]])
def test_an_empty_key_is_refused(keys: list[SecretStr]) -> None:
    with pytest.raises(ValueError, match="OMS_WEBHOOKS_API_KEYS"):
        ApiKeys(keys)
