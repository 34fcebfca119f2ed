"""The authorization matrix of the dashboard, built from the page table: every page, role and method.

Each role takes a second, because it makes hundreds of requests.
"""

from __future__ import annotations

import itertools
from typing import cast

import pytest

from pipeline.web.dashboard.page import DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.page_table import dashboard_pages
from pipeline.web.services import Api
from schemas.api_key import Access
from tests.unit.web.api.test_resend import detail
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import Service
from tests.unit.web.test_republishing import letter
from tests.unit.web.test_resend_runs import run_entry

PAGES = dashboard_pages(cast("PageRenderer", None), cast("Api", None), dict)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# The rules again, written by hand, so that nobody adds a page without deciding who may open it.
EXPECTED: dict[tuple[str, str], Access | None] = {
    ("GET", "/webhooks/login"): None,
    ("POST", "/webhooks/login"): None,
    ("POST", "/webhooks/logout"): Access.VIEWER,
    ("GET", "/webhooks/static/{name}"): None,
    ("GET", "/webhooks/"): Access.VIEWER,
    ("GET", "/webhooks"): Access.VIEWER,
    ("GET", "/webhooks/live"): Access.VIEWER,
    ("GET", "/webhooks/endpoints"): Access.VIEWER,
    ("POST", "/webhooks/endpoints"): Access.ADMIN,
    ("POST", "/webhooks/endpoints/several/change"): Access.OPERATOR,
    ("GET", "/webhooks/endpoints/new"): Access.ADMIN,
    ("POST", "/webhooks/endpoints/new/preview"): Access.ADMIN,
    ("POST", "/webhooks/endpoints/{id}/preview"): Access.ADMIN,
    ("GET", "/webhooks/endpoints/{id}"): Access.VIEWER,
    ("POST", "/webhooks/endpoints/{id}/test"): Access.OPERATOR,
    ("GET", "/webhooks/endpoints/{id}/edit"): Access.ADMIN,
    ("POST", "/webhooks/endpoints/{id}/edit"): Access.ADMIN,
    ("GET", "/webhooks/endpoints/{id}/pause"): Access.ADMIN,
    ("POST", "/webhooks/endpoints/{id}/pause"): Access.ADMIN,
    ("GET", "/webhooks/endpoints/{id}/drop"): Access.ADMIN,
    ("POST", "/webhooks/endpoints/{id}/drop"): Access.ADMIN,
    ("POST", "/webhooks/endpoints/{id}/resume"): Access.ADMIN,
    ("POST", "/webhooks/endpoints/{id}/verify"): Access.ADMIN,
    ("GET", "/webhooks/endpoints/{id}/rotate"): Access.ADMIN,
    ("GET", "/webhooks/endpoints/{id}/rotate_key_pair"): Access.ADMIN,
    ("POST", "/webhooks/endpoints/{id}/rotate_key_pair"): Access.ADMIN,
    ("POST", "/webhooks/endpoints/{id}/rotate"): Access.ADMIN,
    ("GET", "/webhooks/endpoints/{id}/delete"): Access.ADMIN,
    ("POST", "/webhooks/endpoints/{id}/delete"): Access.ADMIN,
    ("POST", "/webhooks/endpoints/{id}/headers"): Access.ADMIN,
    ("GET", "/webhooks/attempts"): Access.VIEWER,
    ("GET", "/webhooks/attempts/live"): Access.VIEWER,
    ("GET", "/webhooks/attempts/export.csv"): Access.VIEWER,
    ("GET", "/webhooks/attempts/export.json"): Access.VIEWER,
    ("GET", "/webhooks/attempts/{id}"): Access.VIEWER,
    ("GET", "/webhooks/attempts/{id}/resend"): Access.OPERATOR,
    ("POST", "/webhooks/attempts/{id}/resend"): Access.OPERATOR,
    ("GET", "/webhooks/orders/{number}"): Access.VIEWER,
    ("GET", "/webhooks/shipments/{number}"): Access.VIEWER,
    ("GET", "/webhooks/subscriptions/{number}"): Access.VIEWER,
    ("GET", "/webhooks/stock-items/{number}"): Access.VIEWER,
    ("POST", "/webhooks/orders/{number}/resend"): Access.OPERATOR,
    ("POST", "/webhooks/shipments/{number}/resend"): Access.OPERATOR,
    ("POST", "/webhooks/subscriptions/{number}/resend"): Access.OPERATOR,
    ("POST", "/webhooks/stock-items/{number}/resend"): Access.OPERATOR,
    ("GET", "/webhooks/go"): Access.VIEWER,
    ("GET", "/webhooks/time-zone"): Access.VIEWER,
    ("POST", "/webhooks/time-zone"): Access.VIEWER,
    ("GET", "/webhooks/resends"): Access.OPERATOR,
    ("POST", "/webhooks/resends"): Access.OPERATOR,
    ("GET", "/webhooks/resends/new"): Access.OPERATOR,
    ("GET", "/webhooks/resends/{id}"): Access.OPERATOR,
    ("GET", "/webhooks/resends/{id}/progress"): Access.OPERATOR,
    ("POST", "/webhooks/resends/{id}/cancel"): Access.OPERATOR,
    ("GET", "/webhooks/dead-letters"): Access.VIEWER,
    ("GET", "/webhooks/dead-letters/{id}"): Access.OPERATOR,
    ("POST", "/webhooks/dead-letters/{id}/check"): Access.OPERATOR,
    ("POST", "/webhooks/dead-letters/{id}/republish"): Access.OPERATOR,
    ("POST", "/webhooks/dead-letters/{id}/dismiss"): Access.OPERATOR,
    ("GET", "/webhooks/event-types"): Access.VIEWER,
    ("GET", "/webhooks/keys"): Access.ADMIN,
    ("POST", "/webhooks/keys"): Access.ADMIN,
    ("GET", "/webhooks/keys/{id}/revoke"): Access.ADMIN,
    ("POST", "/webhooks/keys/{id}/revoke"): Access.ADMIN,
}
LOGOUT = ("/webhooks/logout", "POST")
# Last, because a visitor who logs out has no role afterwards.
REQUESTS = sorted(itertools.product({path for _, path in EXPECTED}, METHODS), key=lambda one: (one == LOGOUT, one))


def test_every_page_has_the_expected_rule() -> None:
    assert {page.key: page.access for page in PAGES} == EXPECTED
    assert len(PAGES) == len(EXPECTED)


def test_a_page_cannot_be_declared_without_a_rule() -> None:
    with pytest.raises(TypeError):
        DashboardPage("GET", "/x", None)  # type: ignore[call-arg, arg-type]


@pytest.mark.parametrize("role", [None, *Access], ids=str)
async def test_every_page_role_and_method(service: Service, visitor: Visitor, role: Access | None) -> None:
    token = ""
    if role is not None:
        token = dict((await visitor.log_in(await service.key(role))).form("/webhooks/logout").fields)["csrf"]
    for path, method in REQUESTS:
        rule = EXPECTED.get(("GET" if method == "HEAD" else method, path), "no page")
        seen = await visitor.go(
            path.replace("{id}", "123").replace("{name}", "app.css").replace("{number}", "R1"),
            method,
            follow=False,
            data=f"csrf={token}" if method == "POST" else None,
            headers={"Content-Type": "application/x-www-form-urlencoded"} if method == "POST" else None,
        )
        where = (method, path, role, seen.status, seen.html[:2000])
        to_login = seen.status == 303 and seen.headers["Location"].startswith("/webhooks/login")
        assert "default-src 'none'" in seen.headers["Content-Security-Policy"], where
        if rule is None:
            assert not to_login, where
        elif role is None:
            assert to_login, where
        elif rule == "no page":
            assert seen.status == 405, where
        elif not role.covers(cast("Access", rule)):
            assert seen.status == 403, where
            needed = f"This needs a key with the {cast('Access', rule).value} role. Your key has the {role.value} role."
            assert method == "HEAD" or needed in seen.text, where
        else:
            # 404 and 422 mean that the handler ran and found nothing to do.
            assert seen.status in (200, 303, 404, 422), where
    assert not service.kafka.changes


@pytest.mark.parametrize(
    ("role", "shown", "hidden"),
    [
        (Access.VIEWER, ["Overview", "Endpoints"], ["API keys", "New endpoint", "Send test event", "Pause", "Rotate"]),
        (Access.OPERATOR, ["Send test event"], ["API keys", "New endpoint", "Pause", "Rotate", "Set header"]),
        (Access.ADMIN, ["API keys", "New endpoint", "Send test event", "Pause", "Rotate", "Set header"], []),
    ],
)
async def test_pages_offer_only_what_the_role_may_do(
    service: Service, visitor: Visitor, role: Access, shown: list[str], hidden: list[str]
) -> None:
    identifier = await service.create()
    await visitor.log_in(await service.key(role))
    text = (await visitor.go("/webhooks/endpoints")).text + (await visitor.go(f"/webhooks/endpoints/{identifier}")).text
    assert [name for name in shown if name not in text] == []
    assert [name for name in hidden if name in text] == []


async def test_every_form_that_posts_has_a_token(service: Service, admin: Visitor) -> None:
    identifier = await service.create(headers={"X-Tenant": "acme"})
    key = service.ring.valid()[0].id if service.ring.valid() else None
    if key is None:
        await service.key(Access.VIEWER)
        key = service.ring.valid()[0].id
    service.attempts.details[identifier] = detail()
    service.reports.letters = [letter(identifier)]
    service.kafka.write_elsewhere(run_entry("00000000000000aa"))
    for page in PAGES:
        if page.method == "GET" and "static" not in page.path:
            path = page.key[1].replace("/keys/{id}", f"/keys/{key}").replace("/resends/{id}", "/resends/00000000000000aa")
            seen = await admin.go(path.replace("{id}", str(identifier)).replace("{number}", "R1"))
            assert seen.status == 200, page.path
            for form in seen.forms:
                assert form.method == "get" or dict(form.fields)["csrf"], (page.path, form)
