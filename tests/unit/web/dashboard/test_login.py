"""Logging in and out, sessions, CSRF and headers."""

from __future__ import annotations

import json
from datetime import timedelta
from urllib.parse import unquote

import pytest

from pipeline.web.auth import digest, key_id
from pipeline.web.dashboard.page_renderer import is_own_page
from schemas.api_key import Access
from tests.unit.web.dashboard.visitor import Visitor, visiting
from tests.unit.web.service import API_KEY, NOW, OTHER_KEY, TOPICS, Service

HOME = "/webhooks/endpoints"


async def test_an_anonymous_visitor_is_sent_to_the_login_and_back(visitor: Visitor) -> None:
    seen = await visitor.go("/webhooks/endpoints?q[target_url_cont]=a%20b")
    assert (seen.status, seen.path.partition("?")[0]) == (200, "/webhooks/login")

    seen = await visitor.send("/webhooks/login", {"key": f" {API_KEY} "})
    assert (seen.status, unquote(seen.path)) == (200, "/webhooks/endpoints?q[target_url_cont]=a b")


async def test_the_root_redirects_to_the_dashboard(visitor: Visitor) -> None:
    seen = await visitor.go("/", follow=False)
    assert (seen.status, seen.headers["Location"]) == (303, "/webhooks")


async def test_a_wrong_key_opens_nothing(visitor: Visitor) -> None:
    seen = await visitor.log_in("wrong")
    assert (seen.status, seen.path) == (401, "/webhooks/login")
    assert "This API key is not valid" in seen.text
    assert "wrong" not in [value for _, value in seen.form("/webhooks/login").fields]
    assert (await visitor.go(HOME)).path.startswith("/webhooks/login")
    assert (await visitor.log_in("")).status == 422


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/webhooks\\@evil.example",
        "/webhooks.evil.example/",
        "/api/webhook/keys",
        "javascript:alert(1)",
        "/webhooks/\r\nSet-Cookie: a=b",
        "/webhooks/" + "a" * 3000,
        "",
    ],
)
def test_a_login_never_redirects_to_another_site(wanted: str) -> None:
    assert not is_own_page(wanted)


@pytest.mark.parametrize("wanted", ["/webhooks", "/webhooks?a=b", "/webhooks/attempts?q[order_number_eq]=R1"])
def test_a_login_redirects_to_one_of_our_pages(wanted: str) -> None:
    assert is_own_page(wanted)


async def test_the_login_does_not_follow_the_text_of_a_link(visitor: Visitor) -> None:
    await visitor.go("/webhooks/login?next=//evil.example/")
    seen = await visitor.send("/webhooks/login", {"key": API_KEY}, follow=False)
    assert (seen.status, seen.headers["Location"]) == (303, "/webhooks")


async def test_cookie_attributes(visitor: Visitor) -> None:
    await visitor.go("/webhooks/login")
    seen = await visitor.send("/webhooks/login", {"key": API_KEY}, follow=False)
    cookie = seen.headers["Set-Cookie"]
    assert cookie.startswith("oms_webhooks_session=")
    assert {"HttpOnly", "Path=/webhooks", "SameSite=Lax", "Max-Age=43200"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert API_KEY not in cookie


@pytest.mark.parametrize("header", [{"X-Forwarded-Proto": "https, http"}, {"Origin": "https://webhooks.example.com"}])
async def test_the_cookie_is_secure_behind_tls(visitor: Visitor, header: dict[str, str]) -> None:
    seen = await visitor.go("/webhooks/login", headers=header)
    assert "Secure" in seen.headers["Set-Cookie"].split("; ")


async def test_a_login_starts_a_new_session(visitor: Visitor) -> None:
    before = (await visitor.go("/webhooks/login")).form("/webhooks/login").fields
    after = (await visitor.log_in()).form("/webhooks/logout").fields
    assert dict(before)["csrf"] != dict(after)["csrf"]


async def test_logout(admin: Visitor) -> None:
    seen = await admin.send("/webhooks/logout")
    assert (seen.path, "You are logged out." in seen.text) == ("/webhooks/login", True)
    assert (await admin.go(HOME)).path.startswith("/webhooks/login")
    assert "You are logged out." not in (await admin.go("/webhooks/login")).text


def cookie_of(visitor: Visitor) -> dict[str, str]:
    """The cookie as somebody who copied it would send it."""
    (session,) = [cookie for cookie in visitor.browser.cookie_jar if cookie.key == "oms_webhooks_session"]
    return {"Cookie": f"{session.key}={session.value}"}


async def opens(service: Service, cookie: dict[str, str]) -> bool:
    """Whether a copied cookie opens a page in another browser."""
    async with visiting(service) as thief:
        return (await thief.go(HOME, headers=cookie)).path == HOME


async def test_a_copied_cookie_is_useless_after_the_logout(service: Service, admin: Visitor) -> None:
    copied = cookie_of(admin)
    async with visiting(service) as other:
        await other.log_in()
        assert await opens(service, copied)

        await admin.send("/webhooks/logout")

        assert not await opens(service, copied)
        assert (await other.go(HOME)).path == HOME  # another session of the same key continues
    (written,) = service.kafka.to(TOPICS.ended_sessions)
    assert dict((await admin.log_in()).form("/webhooks/logout").fields)["csrf"].encode() not in (written.key or b"")


async def test_a_login_during_a_session_ends_that_session(service: Service, admin: Visitor) -> None:
    copied, form = cookie_of(admin), admin.seen
    assert form is not None
    csrf = dict(form.form("/webhooks/logout").fields)["csrf"]

    await admin.post("/webhooks/login", [("csrf", csrf), ("key", OTHER_KEY)])

    assert (await admin.go(HOME)).path == HOME
    assert not await opens(service, copied)


async def test_a_logout_that_kafka_does_not_confirm_is_reported(service: Service, admin: Visitor) -> None:
    copied = cookie_of(admin)
    service.kafka.is_down = True

    seen = await admin.send("/webhooks/logout")

    assert "This browser is logged out. Kafka did not confirm the logout" in seen.text
    assert (await admin.go(HOME)).path.startswith("/webhooks/login")
    assert not await opens(service, copied)  # it has ended here, but other processes do not know


async def test_nobody_is_let_in_before_ended_sessions_have_been_read(service: Service, admin: Visitor) -> None:
    service.ended.table.is_caught_up = False
    seen = await admin.go(HOME)
    assert (seen.status, "The service is starting" in seen.text) == (503, True)


async def test_a_cookie_of_the_previous_release_is_valid_until_its_logout(service: Service, visitor: Visitor) -> None:
    until = (NOW + timedelta(hours=1)).isoformat()
    content = json.dumps({"csrf": "0123456789abcdef", "until": until, "key_id": key_id(digest(API_KEY))})
    old = {"Cookie": f"oms_webhooks_session={service.vault.derived('dashboard cookies').seal(content)}"}
    assert await opens(service, old)

    headers = old | {"Content-Type": "application/x-www-form-urlencoded"}
    await visitor.go("/webhooks/logout", "POST", data="csrf=0123456789abcdef", headers=headers)

    assert not await opens(service, old)


async def test_a_session_ends_when_its_key_is_revoked(service: Service, visitor: Visitor) -> None:
    key = await service.key(Access.VIEWER)
    assert (await visitor.log_in(key)).status == 200
    (record,) = service.ring.valid()

    await service.ring.revoke(service.kafka, record, revoked_by="a test", at=NOW)

    assert (await visitor.go(HOME)).path.startswith("/webhooks/login")


async def test_a_session_expires(service: Service, admin: Visitor) -> None:
    service.now[0] = NOW + timedelta(hours=11, minutes=59)
    assert (await admin.go(HOME)).path == HOME
    service.now[0] = NOW + timedelta(hours=12, seconds=1)
    assert (await admin.go(HOME)).path.startswith("/webhooks/login")


@pytest.mark.parametrize("cookie", ["", "nonsense", "gAAAAABh", "\N{LATIN SMALL LETTER U WITH DIAERESIS}"])
async def test_a_forged_cookie_is_ignored(visitor: Visitor, cookie: str) -> None:
    headers = {"Cookie": f"oms_webhooks_session={cookie}; oms_webhooks_notices={cookie}"}
    seen = await visitor.go(HOME, headers=headers)
    assert seen.path.startswith("/webhooks/login")


async def test_an_endpoints_encrypted_secret_is_not_a_session(service: Service, visitor: Visitor) -> None:
    sealed = service.vault.seal('{"csrf":"a","until":"2999-01-01T00:00:00Z","key_id":"a"}')
    seen = await visitor.go(HOME, headers={"Cookie": f"oms_webhooks_session={sealed}"})
    assert seen.path.startswith("/webhooks/login")


@pytest.mark.parametrize("token", [None, "", "wrong"])
async def test_a_form_from_another_site_does_nothing(service: Service, admin: Visitor, token: str | None) -> None:
    pairs = [] if token is None else [("csrf", token)]
    seen = await admin.post("/webhooks/logout", pairs)
    assert (seen.status, "This form has expired" in seen.text) == (403, True)
    assert (await admin.go(HOME)).path == HOME


async def test_another_site_cannot_log_anybody_in(service: Service, visitor: Visitor) -> None:
    seen = await visitor.post("/webhooks/login", [("key", API_KEY)])
    assert seen.status == 403
    async with visiting(service) as other:
        await other.go("/webhooks/login")
        assert other.seen is not None
        pairs = other.seen.form("/webhooks/login").fields
    assert (await visitor.post("/webhooks/login", [*pairs, ("key", API_KEY)])).status == 403


async def test_forms_must_be_urlencoded(admin: Visitor) -> None:
    for content_type, status in (("text/plain", 415), ("multipart/form-data; boundary=a", 415), ("application/json", 415)):
        seen = await admin.go("/webhooks/logout", "POST", data=b"csrf=a", headers={"Content-Type": content_type})
        assert seen.status == status
    bad = {"Content-Type": "application/x-www-form-urlencoded; charset=nonsense"}
    assert (await admin.go("/webhooks/logout", "POST", data=b"csrf=a", headers=bad)).status == 400
    bad = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await admin.go("/webhooks/logout", "POST", data=b"csrf=\xff", headers=bad)).status == 400


async def test_guessing_keys_is_throttled(visitor: Visitor) -> None:
    statuses = [(await visitor.log_in(f"wrong-{number}")).status for number in range(20)]
    assert statuses == [401] * 20
    seen = await visitor.log_in()
    assert (seen.status, 0 < int(seen.headers["Retry-After"]) <= 60) == (429, True)
    assert "Try again in" in seen.text
    assert (await visitor.go(HOME)).path.startswith("/webhooks/login")


async def test_every_answer_has_security_headers(admin: Visitor) -> None:
    pages = [await admin.go(path) for path in (HOME, "/webhooks/nowhere", "/webhooks/endpoints?q[x]=1")]
    pages.append(await admin.go("/webhooks/", follow=False))
    for seen in pages:
        policy = seen.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert seen.headers["X-Content-Type-Options"] == "nosniff"
        assert seen.headers["X-Frame-Options"] == "DENY"
        assert seen.headers["Cache-Control"] == "no-store"
        assert seen.headers["Referrer-Policy"] == "same-origin"


async def test_static_files_are_cached(visitor: Visitor) -> None:
    html = (await visitor.go("/webhooks/login")).html
    path = html.partition('<link rel="stylesheet" href="')[2].partition('"')[0]
    seen = await visitor.go(path)
    assert (seen.status, seen.headers["Content-Type"]) == (200, "text/css; charset=utf-8")
    assert seen.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    again = await visitor.go(path, headers={"If-None-Match": seen.headers["ETag"]})
    assert (again.status, again.html) == (304, "")
    assert (await visitor.go("/webhooks/static/app.css")).status == 404


async def test_pages_are_unavailable_until_the_service_has_started(service: Service, visitor: Visitor) -> None:
    service.health.starting = True
    seen = await visitor.go("/webhooks/login")
    assert (seen.status, "The service is starting" in seen.text) == (503, True)
