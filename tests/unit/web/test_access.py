"""The authorization matrix, built from the route table: every route, role and method. A route without a rule fails."""

from __future__ import annotations

import itertools
from typing import Any, cast

import aiohttp
import pytest

from pipeline.web.api.route_table import API_ROUTES
from pipeline.web.routes import Route
from pipeline.web.services import Api
from schemas.api_key import Access
from tests.unit.web.service import API_KEY, Service

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ROLES: tuple[Access | None, ...] = (None, *Access)

# The rules again, written by hand, so that nobody adds a route without deciding who may use it.
EXPECTED: dict[tuple[str, str], Access | None] = {
    ("GET", "/api/webhook/endpoints"): Access.VIEWER,
    ("POST", "/api/webhook/endpoints"): Access.ADMIN,
    ("GET", "/api/webhook/endpoints/{id}"): Access.VIEWER,
    ("PUT", "/api/webhook/endpoints/{id}"): Access.ADMIN,
    ("PATCH", "/api/webhook/endpoints/{id}"): Access.ADMIN,
    ("DELETE", "/api/webhook/endpoints/{id}"): Access.ADMIN,
    ("POST", "/api/webhook/endpoints/{id}/rotate_secret"): Access.ADMIN,
    ("POST", "/api/webhook/endpoints/{id}/rotate_key_pair"): Access.ADMIN,
    ("POST", "/api/webhook/endpoints/{id}/verify"): Access.ADMIN,
    ("POST", "/api/webhook/endpoints/{id}/test"): Access.OPERATOR,
    ("POST", "/api/webhook/endpoints/{id}/held/drop"): Access.ADMIN,
    ("GET", "/api/webhook/endpoints/{id}/stats"): Access.VIEWER,
    ("GET", "/api/webhook/attempts"): Access.VIEWER,
    ("GET", "/api/webhook/attempts/facets"): Access.VIEWER,
    ("GET", "/api/webhook/attempts/live"): Access.VIEWER,
    ("GET", "/api/webhook/attempts/histogram"): Access.VIEWER,
    ("GET", "/api/webhook/attempts/{id}"): Access.VIEWER,
    ("GET", "/api/webhook/attempts/export.csv"): Access.VIEWER,
    ("GET", "/api/webhook/attempts/export.json"): Access.VIEWER,
    ("GET", "/api/webhook/resends"): Access.OPERATOR,
    ("POST", "/api/webhook/resends"): Access.OPERATOR,
    ("GET", "/api/webhook/resends/preview"): Access.OPERATOR,
    ("GET", "/api/webhook/resends/{id}"): Access.OPERATOR,
    ("POST", "/api/webhook/resends/{id}/cancel"): Access.OPERATOR,
    ("POST", "/api/webhook/dead_letters/{id}/republish"): Access.OPERATOR,
    ("POST", "/api/webhook/dead_letters/{id}/dismiss"): Access.OPERATOR,
    ("POST", "/api/webhook/sql"): Access.ADMIN,
    ("POST", "/api/webhook/attempts/{id}/resend"): Access.OPERATOR,
    ("GET", "/api/webhook/event_types"): Access.VIEWER,
    ("GET", "/api/webhook/event_types/{id}"): Access.VIEWER,
    ("POST", "/api/webhook/event_types"): Access.ADMIN,
    ("PUT", "/api/webhook/event_types/{id}"): Access.ADMIN,
    ("DELETE", "/api/webhook/event_types/{id}"): Access.ADMIN,
    ("GET", "/api/webhook/dead_letters"): Access.VIEWER,
    ("GET", "/api/webhook/dead_letters/{id}"): Access.OPERATOR,
    ("GET", "/api/webhook/keys"): Access.ADMIN,
    ("POST", "/api/webhook/keys"): Access.ADMIN,
    ("DELETE", "/api/webhook/keys/{id}"): Access.ADMIN,
    ("GET", "/api/webhook/encryption"): Access.ADMIN,
    ("POST", "/api/webhook/encryption"): Access.ADMIN,
    ("GET", "/api/webhook/backups/endpoints"): Access.ADMIN,
    ("POST", "/api/webhook/backups/endpoints"): Access.ADMIN,
    ("POST", "/api/webhook/endpoints/preview"): Access.ADMIN,
    ("POST", "/api/webhook/replays/preview"): Access.ADMIN,
    ("POST", "/api/webhook/replays"): Access.ADMIN,
    ("POST", "/api/webhook/erasures/preview"): Access.ADMIN,
    ("POST", "/api/webhook/erasures"): Access.ADMIN,
    ("GET", "/api/webhook/openapi.json"): None,
    ("GET", "/api/webhook/reference"): None,
}


def test_every_route_has_the_expected_rule() -> None:
    assert {route.key: route.access for route in API_ROUTES} == EXPECTED
    assert len(API_ROUTES) == len(EXPECTED)


def test_the_application_has_no_other_routes() -> None:
    # The application is built from Route.definitions() alone. A route added in another way has no rule and answers 500.
    made = [one for route in API_ROUTES for one in route.definitions(cast("Api", None))]
    paths = [(one.method, f"/api{one.path.replace('{id:(?!preview/?$)[^/]+}', '{id}')}") for one in made]
    assert set(paths) == {(method, path + end) for method, path in EXPECTED for end in ("", "/")}


async def ask(service: Service, headers: dict[str, str], method: str, path: str) -> tuple[int, Any]:
    async with service.anonymous.request(method, path, headers=headers) as response:
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
        is_json = response.content_type == "application/json" and method != "HEAD"
        return response.status, await response.json() if is_json else None


PUBLIC = {key for key, access in EXPECTED.items() if access is None}
PATHS = sorted({path for _, path in EXPECTED})


@pytest.mark.parametrize("role", ROLES, ids=str)
async def test_every_route_role_and_method(service: Service, role: Access | None) -> None:
    headers = {"Authorization": f"Bearer {await service.key(role)}"} if role else {}
    for path, method in itertools.product(PATHS, METHODS):
        rule = EXPECTED.get(("GET" if method == "HEAD" else method, path), "no route")
        status, body = await ask(service, headers, method, path.replace("{id}", "123"))
        where = (method, path, role, status)
        if rule is None:
            assert status == 200, where
        elif role is None:
            assert status == (405 if ("GET", path) in PUBLIC else 401), where
        elif rule == "no route":
            assert status == 405, where
        elif not role.covers(cast("Access", rule)):
            assert status == 403, where
            assert body is None or body == {
                "error": f"This needs a key with the {cast('Access', rule).value} role. Your key has the {role.value} role."
            }
        else:
            # 404 and 422 mean that the handler ran and found nothing to do.
            assert status in (200, 404, 406, 422), where
    assert not service.kafka.changes


async def test_the_key_from_the_settings_may_do_everything(service: Service) -> None:
    async with service.client.get("/api/webhook/keys") as response:
        assert response.status == 200


async def test_a_route_without_a_rule_answers_an_error(logs: pytest.LogCaptureFixture) -> None:
    from aiohttp import web  # noqa: PLC0415

    from pipeline.web.auth import ApiKeys, authorize  # noqa: PLC0415
    from pipeline.web.errors import json_errors  # noqa: PLC0415
    from pipeline.web.login_throttle import LoginThrottle  # noqa: PLC0415
    from pipeline.web.server import WebServer  # noqa: PLC0415

    async def secret(_: web.Request) -> web.Response:
        return web.Response(text="secret")

    app = web.Application(middlewares=[json_errors, authorize(ApiKeys(), {}, LoginThrottle())])
    app.router.add_get("/secret", secret)
    server = WebServer(app, "127.0.0.1", 0)
    async with aiohttp.ClientSession(await server.start()) as client, client.get("/secret") as response:
        assert response.status == 500
        assert "secret" not in await response.text()
    await server.stop()


@pytest.mark.parametrize(
    ("left", "right", "covers"), [(a, b, i >= j) for i, a in enumerate(Access) for j, b in enumerate(Access)]
)
def test_each_role_includes_the_roles_before_it(left: Access, right: Access, covers: bool) -> None:
    assert left.covers(right) is covers


def test_a_route_cannot_be_declared_without_a_rule() -> None:
    with pytest.raises(TypeError):
        Route("GET", "/x", None, summary="", answers={})  # type: ignore[call-arg, arg-type]


async def test_guessing_keys_is_throttled(service: Service) -> None:
    async def guess(key: str) -> tuple[int, str | None]:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with service.anonymous.get("/api/webhook/endpoints", headers=headers) as response:
            return response.status, response.headers.get("Retry-After")

    # Requests without a key do not count as guesses.
    assert [(await guess(""))[0] for _ in range(25)] == [401] * 25
    assert [(await guess(f"wrong-{number}"))[0] for number in range(20)] == [401] * 20
    status, wait = await guess("wrong")
    assert (status, 0 < int(wait or 0) <= 60) == (429, True)
    # While throttled, a correct key gets the same answer as a wrong one.
    assert (await guess(API_KEY))[0] == 429
    # Paths that need no key are served.
    async with service.anonymous.get("/api/webhook/openapi.json") as response:
        assert response.status == 200
