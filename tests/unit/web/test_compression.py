"""What goes over the wire: gzip if the client accepts it, and 304 if the client already has the answer."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from pipeline.web.compression import gzipped, takes_gzip
from pipeline.web.dashboard.csrf import is_token, masked
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.dashboard.visitor import visiting
from tests.unit.web.endpoint_requests import wrapped
from tests.unit.web.service import Service

ATTEMPTS = "/api/webhook/attempts"
GZIP = {"Accept-Encoding": "gzip, deflate, br"}


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("gzip, deflate, br", True),
        ("GZIP;q=1.0", True),
        ("*", True),
        ("br, *;q=0.1", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("x-gzip-like", False),
    ],
)
def test_which_clients_accept_gzip(accepted: str, expected: bool) -> None:
    assert takes_gzip(accepted) is expected


def test_the_compressed_length_varies() -> None:
    body = b"a page with a secret in it" * 100
    found = [gzipped(body) for _ in range(50)]
    assert {gzip.decompress(one) for one in found} == {body}
    assert len({len(one) for one in found}) > 5


def test_form_tokens_are_masked_differently_each_time() -> None:
    token = "4cVTB1Gt-5kAxv0pgI2PqsBWh8J_Hb"
    found = {masked(token) for _ in range(20)}
    assert len(found) == 20
    assert all(is_token(one, token) for one in found)
    assert is_token(token, token), "tokens of pages made before the update stay valid"
    for wrong in ("", masked(token + "x"), masked("x" + token[1:]), masked(token)[:-4], "\ud800", "ä" * 50):
        assert not is_token(wrong, token), wrong
    assert not is_token(masked(""), token)


async def test_json_above_a_kilobyte_is_compressed(service: Service) -> None:
    service.attempts.rows = tuple(attempt_row(id=number) for number in range(50))
    async with service.client.get(ATTEMPTS, headers=GZIP, auto_decompress=False) as response:
        raw = await response.read()
        assert (response.headers["Content-Encoding"], response.headers["Vary"]) == ("gzip", "Accept-Encoding")
        assert int(response.headers["Content-Length"]) == len(raw)
    async with service.client.get(ATTEMPTS, headers={"Accept-Encoding": "identity"}) as response:
        plain = await response.read()
        assert "Content-Encoding" not in response.headers
        assert response.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(raw) == plain
    assert len(raw) * 8 < len(plain)
    async with service.client.get("/api/webhook/attempts/99", headers=GZIP) as response:
        assert (response.status, "Content-Encoding" in response.headers) == (404, False)


@pytest.mark.parametrize("path", [ATTEMPTS, f"/v1{ATTEMPTS}"])
async def test_unchanged_reads_of_the_api_are_answered_with_304(service: Service, path: str) -> None:
    service.attempts.rows = (attempt_row(),)
    async with service.client.get(path) as response:
        tag = response.headers["ETag"]
        assert tag.startswith('W/"')
    async with service.client.get(path, headers={"If-None-Match": f'"other", {tag}'}) as response:
        assert (response.status, await response.read(), response.headers["ETag"]) == (304, b"", tag)
        assert response.headers["Cache-Control"] == "no-store"
    service.attempts.rows = (attempt_row(id=12),)
    async with service.client.get(path, headers={"If-None-Match": tag}) as response:
        assert (response.status, (await response.json())["count"]) == (200, 1)
    async with service.anonymous.get(path, headers={"If-None-Match": "*"}) as response:
        assert response.status == 401


@pytest.mark.parametrize("base", ["/api", "/v1/api"])
async def test_an_endpoints_version_is_for_changes_and_not_for_304(service: Service, base: str) -> None:
    path = f"{base}/webhook/endpoints/{await service.create(description='long enough to be compressed ' * 30)}"
    async with service.client.get(path, headers=GZIP | {"If-None-Match": '"1"'}) as response:
        assert (response.status, response.headers["ETag"]) == (200, '"1"'), "its health may have changed"
        assert response.headers["Content-Encoding"] == "gzip"
        tag = response.headers["ETag"]
    async with service.client.patch(path, headers={"If-Match": tag}, **wrapped(active=False)) as response:
        assert (response.status, response.headers["ETag"]) == (200, '"2"')


async def test_the_guide_and_static_files_are_compressed_and_cached(service: Service) -> None:
    async with service.anonymous.get("/webhooks/login") as response:
        name = re.search(r"/webhooks/static/components\.\w+\.css", await response.text())
    assert name is not None
    for path in ("/webhooks/guide", name[0]):
        async with service.anonymous.get(path, headers=GZIP) as response:
            assert (response.status, response.headers["Content-Encoding"]) == (200, "gzip"), path
            tag, policy = response.headers["ETag"], response.headers["Content-Security-Policy"]
        async with service.anonymous.get(path, headers={"If-None-Match": tag}) as response:
            assert (response.status, await response.read()) == (304, b"")
            assert response.headers["Content-Security-Policy"] == policy


async def test_pages_are_compressed_and_differ_each_time(service: Service) -> None:
    tokens = set()
    async with visiting(service) as admin:
        await admin.log_in()
        for _ in range(3):
            seen = await admin.go("/webhooks/endpoints", headers=GZIP)
            assert seen.headers["Content-Encoding"] == "gzip"
            assert "ETag" not in seen.headers
            tokens.add(dict(seen.form("/webhooks/logout").fields)["csrf"])
    assert len(tokens) == 3


async def test_the_live_part_of_the_overview_is_small(service: Service) -> None:
    for number in range(40):
        await service.create(f"http://127.0.0.1/hooks/{number}", description=f"The receiver of number {number}")
    async with visiting(service) as admin:
        await admin.log_in()
        async with admin.browser.get("/webhooks/live", headers=GZIP, auto_decompress=False) as response:
            assert len(await response.read()) < 10_000
            assert response.headers["Content-Encoding"] == "gzip"


async def test_compressed_answers_still_report_ignored_filters(service: Service) -> None:
    service.attempts.rows = tuple(attempt_row(id=number) for number in range(50))
    async with service.client.get(f"{ATTEMPTS}?colour=red", headers=GZIP) as response:
        assert "colour" in json.dumps((await response.json())["ignored_filters"])
