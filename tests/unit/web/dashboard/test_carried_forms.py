"""Form input is not lost if the session has ended or changed."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import urlencode

import pytest

from pipeline.web.dashboard.carried_forms import CarriedForm
from pipeline.web.dashboard.endpoint_fields import FIELDS
from tests.unit.sample_events import NOW
from tests.unit.web.dashboard.visitor import Seen, Visitor
from tests.unit.web.service import API_KEY, Service

OURS = {"Sec-Fetch-Site": "same-origin"}


async def submitted_after_expiry(service: Service, visitor: Visitor, **headers: str) -> Seen:
    """Somebody fills in a long form, and sends it after the session has expired."""
    await visitor.log_in()
    await visitor.go("/webhooks/endpoints/new")
    assert visitor.seen is not None
    pairs = [
        (name, value)
        for name, value in visitor.seen.form("/webhooks/endpoints").fields
        if name not in ("description", "target_url", "token")
    ]
    pairs += [
        ("target_url", "http://127.0.0.1/typed"),
        ("description", "<b>Typed</b> for an hour"),
        ("events", "order_completed"),
    ]
    service.now[0] += timedelta(hours=13)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    return await visitor.go(
        "/webhooks/endpoints", "POST", data=urlencode([*pairs, ("token", "a-typed-token")]), headers=form | headers
    )


async def test_form_input_survives_the_end_of_the_session(service: Service, visitor: Visitor) -> None:
    seen = await submitted_after_expiry(service, visitor, **OURS)
    assert (seen.status, "Your session has ended." in seen.text) == (401, True)
    assert "Typed" not in seen.html, "encrypted, because somebody else may see the login page"
    assert "a-typed-token" not in seen.html
    seen = await visitor.send("/webhooks/login", {"key": "wrong"})
    assert (seen.status, "Your session has ended." in seen.text) == (401, True)

    seen = await visitor.send("/webhooks/login", {"key": API_KEY})
    assert (seen.status, "has not been processed yet" in seen.text) == (200, True)
    assert "&lt;b&gt;Typed&lt;/b&gt; for an hour" in seen.html
    assert "a-typed-token" not in seen.text
    assert not service.kafka.changes
    seen = await visitor.send("/webhooks/endpoints")
    assert "The endpoint is registered." in seen.text
    assert service.kafka.changes[-1].description == "<b>Typed</b> for an hour"
    assert service.kafka.changes[-1].sealed_token is not None


@pytest.mark.parametrize(
    "field", [name for name in FIELDS if re.search("password|key|secret|token$", name) and "remove" not in name]
)
def test_no_secret_of_an_endpoint_is_shown(field: str) -> None:
    form = CarriedForm("/webhooks/endpoints", ((field, "hunter2"), ("description", "shown")), NOW)
    assert form.shown == [("description", "shown")]


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}]
)
async def test_input_from_another_site_is_not_carried(service: Service, visitor: Visitor, headers: dict[str, str]) -> None:
    seen = await submitted_after_expiry(service, visitor, **headers)
    assert (seen.status, "Your session has ended." in seen.text, "Log in" in seen.text) == (200, False, True)


async def test_a_carried_form_is_encrypted_and_expires(service: Service, visitor: Visitor) -> None:
    seen = await submitted_after_expiry(service, visitor, **OURS)
    sealed = dict(seen.form("/webhooks/login").fields)["carried"]
    seen = await visitor.send("/webhooks/login", {"key": API_KEY, "carried": sealed[:-8] + "AAAAAAAA"})
    assert "has not been processed yet" not in seen.text
    service.now[0] += timedelta(hours=2)
    await visitor.go("/webhooks/endpoints")
    await visitor.send("/webhooks/logout")
    seen = await visitor.send("/webhooks/login", {"key": API_KEY, "carried": sealed})
    assert "has not been processed yet" not in seen.text


async def test_input_that_is_too_long_is_not_carried(service: Service, visitor: Visitor) -> None:
    form = OURS | {"Content-Type": "application/x-www-form-urlencoded"}
    seen = await visitor.go("/webhooks/endpoints", "POST", data=urlencode({"description": "x" * 300_000}), headers=form)
    assert (seen.status, "Your session has ended." in seen.text) == (200, False)


async def test_a_page_older_than_the_login_asks_before_it_sends(service: Service, admin: Visitor) -> None:
    form = OURS | {"Content-Type": "application/x-www-form-urlencoded"}
    pairs = [
        ("csrf", "of-the-session-before"),
        ("target_url", "http://127.0.0.1/typed"),
        ("events", "order_completed"),
        ("active", "on"),
    ]
    seen = await admin.go("/webhooks/endpoints", "POST", data=urlencode(pairs), headers=form)
    assert (seen.status, "has not been processed yet" in seen.text, len(service.kafka.changes)) == (200, True, 0)
    await admin.send("/webhooks/endpoints")
    assert service.kafka.changes[-1].target_url == "http://127.0.0.1/typed"


async def test_a_logout_after_the_session_has_expired_carries_no_form(service: Service, visitor: Visitor) -> None:
    seen = await visitor.log_in()
    service.now[0] += timedelta(hours=13)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    data = urlencode(seen.form("/webhooks/logout").fields)
    seen = await visitor.go("/webhooks/logout", "POST", data=data, headers=form | OURS)
    assert (seen.path, seen.status, "input is kept" in seen.text) == ("/webhooks/login", 200, False)
