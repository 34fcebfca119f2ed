"""The documented shapes of the OMS's published API, strictly typed. Answers match them below both base paths."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.endpoint_requests import request, wrapped
from tests.unit.web.service import Service


class PublishedAttempt(BaseModel):
    """``http_status_code`` is null only if there was no answer."""

    model_config = ConfigDict(strict=True, extra="ignore")

    id: int
    event_name: str
    http_status_code: int | None
    target_url: str
    token: str | None
    idempotency_key: str | None


class PublishedEndpoint(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    id: int
    target_url: str
    events: list[str]
    filters: list[str]
    attempts: list[PublishedAttempt]


@pytest.mark.parametrize("base", ["", "/v1"])
async def test_answers_have_the_published_shapes(service: Service, base: str) -> None:
    path = f"{base}/api/webhook/endpoints"
    service.attempts.rows = (
        attempt_row(endpoint_id=1),
        attempt_row(id=12, endpoint_id=1, http_status_code=None, failure="timeout"),
    )
    fields = {"target_url": "http://127.0.0.1/hooks", "events": ["order_completed"], "filters": {"channel": "spree"}}

    status, created = await request(service, "POST", path, **wrapped(**fields))
    assert (status, created["filters"]) == (201, ['data.channel == "spree"'])
    status, again = await request(service, "POST", path, **wrapped(**fields))
    assert (status, again["id"]) == (200, created["id"])

    status, page = await request(service, "GET", f"{path}?include_attempts=true&attempts_count=5&page=1&per_page=10")
    [listed] = page["endpoints"]
    status, one = await request(service, "GET", f"{path}/1?include_attempts=true")
    assert listed == one
    read = PublishedEndpoint.model_validate(one)
    assert [(each.http_status_code, each.token, each.idempotency_key) for each in read.attempts] == [
        (503, None, "evt_1"),
        (None, None, "evt_1"),
    ]
    assert "token" not in one, "a client that sends back null would remove it"

    status, changed = await request(service, "PUT", f"{path}/1", **wrapped(target_url=fields["target_url"], filters=[]))
    assert (status, changed["filters"], changed["events"]) == (200, [], ["order_completed"])
    assert (await request(service, "DELETE", f"{path}/1"))[0] == 204
    assert (await request(service, "GET", f"{path}/1"))[0] == 404


async def test_the_other_base_path_needs_the_same_keys(service: Service) -> None:
    path = "/v1/api/webhook/endpoints"
    async with service.anonymous.get(path) as response:
        body: dict[str, Any] = await response.json()
        assert (response.status, list(body)) == (401, ["error"])
    async with service.anonymous.get("/v1/api/webhook/openapi.json") as response:
        document = await response.json()
        assert (response.status, [server["url"] for server in document["servers"]]) == (200, ["/", "/v1"])
    async with service.anonymous.get("/v1/webhooks") as response:
        assert response.status == 404
