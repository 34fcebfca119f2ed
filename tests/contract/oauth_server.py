"""A token endpoint of Authlib's authorization server, on loopback, and a receiver that asks it whether a token is valid."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from authlib.oauth2.rfc6749 import AuthorizationServer, ClientCredentialsGrant, ClientMixin, OAuth2Request
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator

CLIENT_ID, CLIENT_SECRET = "oms:webhooks", "cl1ent s3cret/+%"


class _Client(ClientMixin):  # type: ignore[misc]  # Authlib has no types
    def get_client_id(self) -> str:
        return CLIENT_ID

    def get_default_redirect_uri(self) -> str:
        return ""

    def get_allowed_scope(self, scope: str) -> str:
        return " ".join(one for one in (scope or "").split() if one in {"webhooks", "orders"})

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return False

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(client_secret, CLIENT_SECRET)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return endpoint == "token" and method in {"client_secret_basic", "client_secret_post"}

    def check_response_type(self, response_type: str) -> bool:
        return False

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class _Grant(ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")


class _Request(OAuth2Request):  # type: ignore[misc]
    def __init__(self, request: web.Request, form: dict[str, str]) -> None:
        super().__init__(request.method, f"https://{request.host}{request.path}", headers=request.headers)
        self.payload = BasicOAuth2Payload(form)
        self._form = form

    @property
    def form(self) -> dict[str, str]:
        return self._form


@dataclass
class OAuthServer:
    """The tokens that it granted, and how long they are valid. ``status``: what the token endpoint answers instead of a token."""

    url: str = ""
    granted: list[dict[str, Any]] = field(default_factory=list)
    valid: dict[str, float] = field(default_factory=dict)
    """Tokens with their expiry times."""
    lifetime: int = 3600
    status: int | None = None
    delivered: list[str] = field(default_factory=list)
    refused: int = 0


class _Authlib(AuthorizationServer):  # type: ignore[misc]
    def __init__(self, state: OAuthServer) -> None:
        super().__init__(scopes_supported=["webhooks", "orders"])
        self._state = state
        lifetime = BearerTokenGenerator(lambda **_: secrets.token_urlsafe(24), expires_generator=lambda *_: state.lifetime)
        self.register_token_generator("default", lifetime)
        self.register_grant(_Grant)

    def query_client(self, client_id: str) -> _Client | None:
        return _Client() if client_id == CLIENT_ID else None

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        self._state.granted.append(token)
        self._state.valid[token["access_token"]] = time.monotonic() + token["expires_in"]

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nothing listens."""

    def create_oauth2_request(self, request: _Request) -> _Request:
        return request

    def handle_response(self, status: int, body: Any, headers: Any) -> tuple[int, Any, Any]:
        return status, body, headers


@asynccontextmanager
async def oauth_server() -> AsyncIterator[OAuthServer]:
    """Serve ``/token`` and ``/hook`` until the block ends."""
    state = OAuthServer()
    server = _Authlib(state)

    async def token(request: web.Request) -> web.Response:
        if state.status is not None:
            return web.Response(status=state.status, text=f"out of order, {request.headers.get('Authorization', '')}")
        form = {name: str(value) for name, value in (await request.post()).items()}
        status, body, _ = server.create_token_response(_Request(request, form))
        return web.Response(status=status, text=json.dumps(body), content_type="application/json")

    async def hook(request: web.Request) -> web.Response:
        await request.read()
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if state.valid.get(bearer, 0.0) <= time.monotonic():
            state.refused += 1
            return web.Response(status=401, text=f"no such token: {bearer}")
        state.delivered.append(request.headers["webhook-id"])
        return web.Response(status=204)

    application = web.Application()
    application.add_routes([web.post("/token", token), web.post("/hook", hook)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    state.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield state
    finally:
        await runner.cleanup()
