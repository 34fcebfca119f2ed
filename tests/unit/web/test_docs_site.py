"""The documentation site below ``/docs``: its own files, by their exact names, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from pipeline.web.docs_site import docs_routes
from pipeline.web.errors import json_errors


async def client(site: Path) -> TestClient[web.Request, web.Application]:
    app = web.Application(middlewares=[json_errors])
    app.add_routes(docs_routes(site))
    started = TestClient(TestServer(app))
    await started.start_server()
    return started


async def test_pages_have_their_own_content_security_policy(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "assets").mkdir(parents=True)
    (site / "index.html").write_text("<h1>OMS webhooks</h1>")
    (site / "assets" / "a.js").write_text("1")
    docs = await client(site)
    for path in ("/docs", "/docs/", "/docs/index.html"):
        answer = await docs.get(path)
        assert (answer.status, await answer.text()) == (200, "<h1>OMS webhooks</h1>")
        assert "object-src 'none'" in answer.headers["Content-Security-Policy"]
    assert (await docs.get("/docs/assets/a.js")).status == 200
    await docs.close()


@pytest.mark.parametrize("path", ["../secret", "%2e%2e/secret", "..%2fsecret", "assets", "index.html%00", "x" * 5_000])
async def test_files_outside_the_site_are_not_found(tmp_path: Path, path: str) -> None:
    site = tmp_path / "site"
    (site / "assets").mkdir(parents=True)
    (site / "index.html").write_text("x")
    (tmp_path / "secret").write_text("s3cret")
    docs = await client(site)
    answer = await docs.get(URL(f"/docs/{path}", encoded=True))
    assert answer.status == 404
    assert "s3cret" not in await answer.text()
    await docs.close()


async def test_an_installation_without_the_site_says_how_to_get_it(tmp_path: Path) -> None:
    docs = await client(tmp_path / "nowhere")
    answer = await docs.get("/docs/index.html")
    assert answer.status == 404
    assert "make docs" in (await answer.json())["error"]
    await docs.close()
