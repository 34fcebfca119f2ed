"""Authentication fields of the form: one type applies, secrets are never shown, and an empty secret stays unchanged."""

from __future__ import annotations

import pytest

from pipeline.endpoints.endpoint import open_endpoint
from tests.unit.web.dashboard.test_endpoint_forms import FIELDS, LIST, NEW, register
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import Service

BASIC = {"authentication": "basic", "auth_username": "oms", "auth_password": "hunter2-password"}
OAUTH = {
    "authentication": "oauth2_client_credentials",
    "auth_token_url": "http://127.0.0.1/token",
    "auth_client_id": "oms",
    "auth_client_secret": "hunter2-client",
    "auth_scopes": "webhooks orders",
    "auth_client_auth_method": "client_secret_post",
}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (BASIC, "HTTP Basic, username oms"),
        ({"authentication": "api_key", "auth_header": "X-API-Key", "auth_key": "hunter2-key"}, "API key in x-api-key"),
        (OAUTH, "client oms at http://127.0.0.1/token"),
    ],
)
async def test_each_type_is_set_and_kept_and_its_secret_never_shown(
    service: Service, admin: Visitor, fields: dict[str, str], words: str
) -> None:
    page = await register(admin, **fields)
    first = open_endpoint(service.kafka.changes[-1], service.vault).credential
    assert first is not None
    seen = await admin.go(page)
    assert words in seen.text
    assert "hunter2" not in seen.html
    assert "hunter2" not in (await admin.go(f"{page}/edit")).html
    await admin.send(f"{page}/edit", {"description": "changed"})
    assert service.kafka.changes[-1].description == "changed"
    assert open_endpoint(service.kafka.changes[-1], service.vault).credential == first
    await admin.go(f"{page}/edit")
    await admin.send(f"{page}/edit", {"authentication": "none"})
    assert open_endpoint(service.kafka.changes[-1], service.vault).credential is None


async def test_errors_are_shown_at_the_field_without_the_secret(service: Service, admin: Visitor) -> None:
    await admin.go(NEW)
    seen = await admin.send(LIST, FIELDS | BASIC | {"auth_username": "a:b"})
    assert seen.status == 422
    assert 'id="authentication-errors"' in seen.html
    assert ("auth_username", "a:b") in seen.form(LIST).fields
    assert "hunter2" not in seen.html
    seen = await admin.send(LIST, FIELDS | {"authentication": "kerberos"})
    assert "unknown type" in seen.text
    assert not service.kafka.changes


async def test_a_token_is_kept_and_can_be_replaced_or_removed(service: Service, admin: Visitor) -> None:
    page = await register(admin, token="first-token")
    for fields, token in (
        ({"description": "x"}, "first-token"),
        ({"token": "second-token"}, "second-token"),
        ({"remove_token": "on"}, None),
    ):
        await admin.go(f"{page}/edit")
        await admin.send(f"{page}/edit", fields)
        assert open_endpoint(service.kafka.changes[-1], service.vault).token == token
