from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from pipeline.core.listen_errors import ListenError
from pipeline.ops import metrics
from pipeline.ops.health import Health
from pipeline.web.server import MAX_BODY_BYTES, WebServer, make_app
from tests.unit.web.service import API_KEY, Service
from tests.waiting import until

NOT_FOUND = {"error": "The resource you were looking for could not be found."}


@pytest.fixture
async def failing() -> AsyncIterator[aiohttp.ClientSession]:
    """An application with a route that raises an unexpected error."""
    app = make_app(health=Health())

    async def fail(_: web.Request) -> web.Response:
        raise RuntimeError("the database password is hunter2")

    app.router.add_get("/fail/{what}", fail)
    server = WebServer(app, "127.0.0.1", 0)
    async with aiohttp.ClientSession(await server.start()) as client:
        yield client
    await server.stop()


async def test_liveness(service: Service) -> None:
    service.health.add("kafka", lambda: "down")
    async with service.anonymous.get("/healthz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})


async def test_readiness_names_what_is_missing(service: Service) -> None:
    problem: list[str | None] = [None]
    service.health.add("clickhouse", lambda: problem[0])
    async with service.anonymous.get("/readyz") as response:
        assert (response.status, await response.json()) == (200, {"status": "ready"})

    problem[0] = "it does not answer"
    async with service.anonymous.get("/readyz") as response:
        expected = {"status": "not ready", "problems": {"clickhouse": "it does not answer"}}
        assert (response.status, await response.json()) == (503, expected)

    problem[0] = None
    service.health.warn("own faults", lambda: "too many open files")
    async with service.anonymous.get("/readyz") as response:
        expected = {"status": "ready", "warnings": {"own faults": "too many open files"}}
        assert (response.status, await response.json()) == (200, expected)


@pytest.mark.parametrize(
    ("accept", "content_type", "last_line"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", None),
        ("text/html,*/*", "text/plain; version=0.0.4; charset=utf-8", None),
        ("application/openmetrics-text; version=1.0.0,*/*;q=0.1", "application/openmetrics-text; version=1.0.0", "# EOF"),
        # as Prometheus 3 sends it
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
            "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
            "text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0",
            "# EOF",
        ),
    ],
)
async def test_metrics_come_in_the_requested_format(
    service: Service, accept: str, content_type: str, last_line: str | None
) -> None:
    async with service.anonymous.get("/metrics", headers={"Accept": accept}) as response:
        text = await response.text()
    assert response.status == 200
    assert response.headers["Content-Type"].startswith(content_type)
    assert "oms_webhooks_build_info" in text
    assert (text.splitlines()[-1] == "# EOF") is (last_line is not None)
    # The parsers of both formats read everything; exemplars occur only in OpenMetrics.
    metrics.ATTEMPT_DURATION.observe(0.2, "delivered", exemplar={"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"})
    async with service.anonymous.get("/metrics", headers={"Accept": accept}) as response:
        text = await response.text()
    parse = openmetrics_families if last_line else text_families
    samples = [sample for family in parse(text) for sample in family.samples]
    assert len(samples) > 100
    assert any(sample.exemplar for sample in samples) is (last_line is not None)


async def test_requests_are_counted_by_route_and_not_by_path(service: Service) -> None:
    def count(route: str, method: str, status: int) -> float:
        labels = {"route": route, "method": method, "status": str(status)}
        return metrics.registry.get_sample_value("oms_webhooks_api_requests_total", labels) or 0.0

    template = "/api/webhook/endpoints/{id}"
    found, unknown, wrong, odd = (
        count(template, "GET", 404),
        count("unmatched", "GET", 404),
        count("unmatched", "POST", 405),
        count("unmatched", "other", 404),
    )
    for path in ("/api/webhook/endpoints/1", "/api/webhook/endpoints/2", "/nowhere/1", "/api/nowhere"):
        assert (await service.client.get(path)).status == 404
    assert (await service.client.post("/healthz")).status == 405
    assert (await service.client.request("PROPFIND", "/teapot")).status == 404

    assert count(template, "GET", 404) == found + 2
    assert count("unmatched", "GET", 404) == unknown + 2
    assert count("unmatched", "POST", 405) == wrong + 1
    assert count("unmatched", "other", 404) == odd + 1
    assert metrics.registry.get_sample_value("oms_webhooks_api_request_seconds_count", {"route": template})
    routes = {sample.labels["route"] for sample in next(iter(metrics.API_REQUESTS.collect())).samples}
    assert not any("nowhere" in route or route.endswith("/1") for route in routes)


@pytest.mark.parametrize("path", ["/nowhere", "/api/nowhere", "/api/webhook/endpoints/1/more", "//api/webhook/attempts"])
async def test_unknown_routes_answer_json(service: Service, path: str) -> None:
    async with service.client.get(service.url + path) as response:
        assert (response.status, await response.json()) == (404, NOT_FOUND)


async def test_a_wrong_method_is_answered_with_the_allowed_ones(service: Service) -> None:
    async with service.client.delete("/api/webhook/endpoints") as response:
        body = await response.json()
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert body == {"error": "DELETE is not supported here. Use GET, HEAD, POST."}


async def test_a_body_that_is_too_large_is_refused(service: Service) -> None:
    for size, status in ((MAX_BODY_BYTES + 1, 413), (8 * MAX_BODY_BYTES, 413), (MAX_BODY_BYTES, 422)):
        async with service.client.post("/api/webhook/endpoints", data=io.BytesIO(b"[" + b" " * (size - 1))) as response:
            body = await response.json()
        assert response.status == status
        if status == 413:
            assert body == {"error": "The request body is too large: at most 1,048,576 bytes are accepted."}


async def test_a_compressed_body_is_not_decompressed(service: Service, logs: pytest.LogCaptureFixture) -> None:
    body = {"endpoint": {"target_url": "http://127.0.0.1/", "events": ["order_completed"]}}
    for data in (gzip.compress(json.dumps(body).encode()), b"no gzip"):
        async with service.client.post("/api/webhook/endpoints", data=data, headers={"Content-Encoding": "gzip"}) as response:
            assert response.status == 415
            assert "gzip" in (await response.json())["error"]
    assert not [record for record in logs.records if record.levelname == "ERROR"]


async def test_unexpected_errors_are_logged_and_not_shown(failing: aiohttp.ClientSession, logs: pytest.LogCaptureFixture) -> None:
    async with failing.get("/fail/a-customer?email=ada@example.com") as response:
        body = await response.json()
    assert (response.status, list(body)) == (500, ["error"])
    assert "hunter2" not in body["error"]
    (entry,) = [json.loads(record.message) for record in logs.records if "a request failed" in record.message]
    assert (entry["level"], entry["route"]) == ("error", "/fail/{what}")
    assert "RuntimeError" in entry["exception"]
    assert "ada@example.com" not in logs.text


async def test_requests_are_logged_at_debug_level_without_their_query(service: Service, logs: pytest.LogCaptureFixture) -> None:
    await service.client.get("/api/webhook/attempts", params={"q[request_body_cont]": "ada@example.com"})
    (entry,) = [json.loads(record.message) for record in logs.records if record.name == "pipeline.web.server"]
    assert entry.pop("duration_ms") >= 0
    named = {"event": "request", "level": "debug", "route": "/api/webhook/attempts", "method": "GET", "status": 200}
    assert entry == named | {"trace_id": None}
    assert "ada" not in logs.text
    assert API_KEY not in logs.text


async def send_raw(service: Service, request: str, *, hang_up: bool = False) -> bytes:
    """Send bytes that no client library would send, and return the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    writer.write(request.encode())
    if hang_up:
        writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer


async def test_garbage_is_not_quoted_in_the_log(service: Service, logs: pytest.LogCaptureFixture) -> None:
    head = "GET /api/webhook/endpoints HTTP/1.1\r\nHost: x\r\n"
    for request in (f"{head}Authorization: Bearer {API_KEY}\0\r\n\r\n", f"Bearer {API_KEY}\r\n\r\n"):
        assert b" 400 Bad Request" in await send_raw(service, request)
    assert "a request could not be parsed" in logs.text
    assert API_KEY not in logs.text


@pytest.mark.parametrize(
    ("body", "hang_up"),
    [
        ("Content-Length: 100\r\n\r\n{}", True),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nnot a length\r\n", False),
    ],
    ids=["short", "chunks"],
)
async def test_an_interrupted_body_is_not_our_error(
    service: Service, logs: pytest.LogCaptureFixture, body: str, hang_up: bool
) -> None:
    head = f"POST /api/webhook/endpoints HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n"
    answer = await send_raw(service, head + body, hang_up=hang_up)
    assert hang_up or b" 400 Bad Request" in answer
    await until(lambda: '"status": 400' in logs.text or "could not be parsed" in logs.text)
    assert not [record.getMessage() for record in logs.records if record.levelname == "ERROR"]
    assert not service.kafka.written


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/nowhere", "/api/webhook/endpoints"])
async def test_browsers_must_not_sniff_types_or_store_answers(service: Service, path: str) -> None:
    for client in (service.client, service.anonymous):
        async with client.get(path) as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"] == "no-store"


async def test_a_role_without_the_api_serves_operations_only() -> None:
    server = WebServer(make_app(health=Health()), "127.0.0.1", 0)
    async with aiohttp.ClientSession(await server.start()) as client:
        statuses = [(await client.get(path)).status for path in ("/healthz", "/readyz", "/metrics", "/api/webhook/endpoints")]
    await server.stop()
    assert statuses == [200, 200, 200, 404]


async def test_a_port_in_use_is_an_error_and_leaves_nothing_behind() -> None:
    first = WebServer(make_app(health=Health()), "127.0.0.1", 0)
    port = int((await first.start()).rpartition(":")[2])
    with pytest.raises(ListenError, match=f"^Port {port} is in use; set OMS_WEBHOOKS_HTTP_PORT.$"):
        await WebServer(make_app(health=Health()), "127.0.0.1", port).start()
    await first.stop()

    again = WebServer(make_app(health=Health()), "127.0.0.1", port)
    assert await again.start() == f"http://127.0.0.1:{port}"
    await again.stop()


async def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(ListenError, match=r"192\.0\.2\.1 is not an address of this machine; set OMS_WEBHOOKS_HTTP_HOST"):
        await WebServer(make_app(health=Health()), "192.0.2.1", 0).start()


async def test_stopping_waits_for_a_request_in_progress(service: Service) -> None:
    app = make_app(health=Health())
    entered = asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        entered.set()
        await asyncio.sleep(0.1)  # aiohttp's time limit for requests in progress uses real time
        return web.Response(text="done")

    app.router.add_get("/slow", slow)
    server = WebServer(app, "127.0.0.1", 0)
    async with aiohttp.ClientSession(await server.start()) as client:
        request = asyncio.create_task(client.get("/slow"))
        await entered.wait()
        await server.stop()
        assert await (await request).text() == "done"


@pytest.mark.parametrize(("method", "ends"), [("GET", "cancelled"), ("POST", "finished")])
async def test_a_disconnect_cancels_a_read_but_not_a_change(method: str, ends: str) -> None:
    app = make_app(health=Health())
    begun, gone, ended = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop().create_future()

    async def work(_: web.Request) -> web.Response:
        begun.set()
        try:
            await gone.wait()
        except asyncio.CancelledError:
            ended.set_result("cancelled")
            raise
        ended.set_result("finished")
        return web.Response()

    app.router.add_route(method, "/work", work)
    server = WebServer(app, "127.0.0.1", 0)
    async with aiohttp.ClientSession(await server.start()) as client, asyncio.timeout(60):
        asking = asyncio.create_task(client.request(method, "/work"))
        await begun.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        if ends == "finished":
            gone.set()
        assert await ended == ends
    await server.stop()
