"""Each authentication with a real server of its kind, and the sender that delivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import encode_basic_auth, web
from msgspec.structs import replace

from pipeline.delivery.access_tokens import AccessTokens
from pipeline.endpoints.endpoint import Endpoint, open_endpoint
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.client import Sender
from schemas.attempt import Attempt
from schemas.authentication import AuthenticationRecord
from schemas.endpoint import EndpointRecord, SealedSecret
from tests.contract.http_endpoint import LOOPBACK, PATIENT
from tests.contract.oauth_server import CLIENT_ID, CLIENT_SECRET, OAuthServer, oauth_server
from tests.unit.delivery.delivery_case import SECRET, VAULT, Scene
from tests.unit.sample_events import NOW

pytestmark = pytest.mark.usefixtures("each_wire")


def endpoint_at(url: str, authentication: AuthenticationRecord) -> Endpoint:
    record = EndpointRecord(
        id=7,
        target_url=url,
        events=("order_completed",),
        secrets=(SealedSecret(sealed=VAULT.seal(SECRET)),),
        authentication=authentication,
        created_at=NOW,
        updated_at=NOW,
    )
    endpoint = open_endpoint(record, VAULT)
    assert endpoint.problem is None
    return endpoint


class Line:
    """A delivery service that sends real requests."""

    def __init__(self, sender: Sender) -> None:
        self.scene = Scene()
        self.scene.delivery_service.sender = sender
        self.seconds = 0.0
        self.scene.delivery_service.access_tokens = AccessTokens(sender, lambda: self.seconds)

    async def deliver(self, endpoint: Endpoint) -> Attempt:
        await self.scene.deliver(endpoint)
        return self.scene.attempts()[-1]


@asynccontextmanager
async def line(guard: AddressGuard = LOOPBACK) -> AsyncIterator[Line]:
    async with Sender(PATIENT, guard) as sender:
        yield Line(sender)


@asynccontextmanager
async def receiver(credentials: dict[str, str], echo: list[str]) -> AsyncIterator[str]:
    """Acknowledges requests with the credentials (a header and its value); shows others what they sent."""

    async def hook(request: web.Request) -> web.Response:
        await request.read()
        echo.append(request.headers["webhook-id"])
        if all(request.headers.get(name) == value for name, value in credentials.items()):
            return web.Response(status=204)
        return web.json_response(dict(request.headers), status=403)

    application = web.Application()
    application.router.add_post("/hook", hook)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("password", ["hunter2-pässword", "hunter2-password"])
async def test_basic(password: str) -> None:
    expected = {"Authorization": encode_basic_auth("ömš", password, "utf-8")}
    async with receiver(expected, []) as url, line() as sent:
        right = AuthenticationRecord(type="basic", username="ömš", sealed_secret=VAULT.seal(password))
        attempt = await sent.deliver(endpoint_at(url, right))
        assert (attempt.http_status_code, "authorization" in attempt.request_headers) == (204, False)
        wrong = replace(right, sealed_secret=VAULT.seal("hunter3-password"))
        attempt = await sent.deliver(endpoint_at(url, wrong))
        assert attempt.http_status_code == 403
        assert "[redacted]" in attempt.response_body
        sent_value = encode_basic_auth("ömš", "hunter3-password", "utf-8")
        assert sent_value.split()[1] not in attempt.response_body


async def test_api_key() -> None:
    async with receiver({"X-API-Key": "hunter2-key"}, []) as url, line() as sent:
        right = AuthenticationRecord(type="api_key", header="x-api-key", sealed_secret=VAULT.seal("hunter2-key"))
        attempt = await sent.deliver(endpoint_at(url, right))
        assert attempt.http_status_code == 204
        assert attempt.request_headers["x-api-key"] == "[redacted]"
        attempt = await sent.deliver(endpoint_at(url, replace(right, sealed_secret=VAULT.seal("hunter3-key"))))
        assert attempt.http_status_code == 403
        assert "hunter3" not in repr(attempt)


def oauth(server: OAuthServer, **changes: Any) -> Endpoint:
    record = AuthenticationRecord(
        type="oauth2_client_credentials",
        sealed_secret=VAULT.seal(changes.pop("secret", CLIENT_SECRET)),
        token_url=f"{server.url}/token",
        client_id=CLIENT_ID,
        scopes=("webhooks",),
    )
    return endpoint_at(f"{server.url}/hook", replace(record, **changes))


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_oauth_fetches_one_token_for_many_deliveries(method: str) -> None:
    async with oauth_server() as server, line() as sent:
        endpoint = oauth(server, client_auth_method=method)
        await asyncio.gather(*(sent.deliver(endpoint) for _ in range(8)))
        assert len(server.delivered) == 8
        assert [token["scope"] for token in server.granted] == ["webhooks"]


async def test_oauth_renews_expiring_and_revoked_tokens() -> None:
    async with oauth_server() as server, line() as sent:
        endpoint = oauth(server)
        await sent.deliver(endpoint)
        sent.seconds += 3545
        async with asyncio.timeout(30):
            while len(server.granted) < 2:
                assert (await sent.deliver(endpoint)).http_status_code == 204
            if (asking := sent.scene.delivery_service.access_tokens._clients[7].asking) is not None:
                await asking
        assert server.refused == 0
        server.valid.clear()
        attempt = await sent.deliver(endpoint)
        assert (attempt.http_status_code, server.refused, len(server.granted)) == (204, 1, 3)


async def test_a_failed_oauth_request_is_reported_and_leaks_nothing() -> None:
    async with oauth_server() as server, line() as sent:
        attempt = await sent.deliver(oauth(server, secret="wr0ng-client-secret"))
        assert (attempt.failure, attempt.http_status_code) == ("token_endpoint", None)
        assert attempt.error == "The token endpoint returned 401 (invalid_client)."
        attempt = await sent.deliver(oauth(server, scopes=("admin",)))
        assert attempt.error == "The token endpoint returned 400 (invalid_scope)."
        server.status = 503
        attempt = await sent.deliver(oauth(server, audience="other"))
        assert attempt.error == "The token endpoint returned 503 (Service Unavailable)."
        assert "s3cret" not in repr(attempt)
        server.status = None
        assert (await sent.deliver(oauth(server, audience="other"))).http_status_code == 204


async def test_the_guard_covers_token_endpoints() -> None:
    async with oauth_server() as server, line(AddressGuard()) as sent:
        attempt = await sent.deliver(oauth(server))
        assert attempt.failure == "token_endpoint"
        assert "loopback address" in (attempt.error or "")
        assert not server.granted


async def test_an_unreachable_token_endpoint_is_named() -> None:
    async with line() as sent:
        async with oauth_server() as server:
            endpoint = oauth(server)
        attempt = await sent.deliver(endpoint)
        assert attempt.failure == "token_endpoint"
        assert (attempt.error or "").startswith("The token endpoint returned no usable response. 127.0.0.1:")
        assert "refused" in (attempt.error or "")
