"""What clients may expect of every route: trailing slashes, media types, compression, and 304."""

from __future__ import annotations

import gzip
import json

import pytest

from pipeline.broker.errors import PublishError
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.service import Service

FIELDS = {"target_url": "http://127.0.0.1/hooks", "events": ["order_completed"]}
BODY = json.dumps({"endpoint": FIELDS}).encode()
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("base", ["/api", "/v1/api"])
async def test_a_trailing_slash_is_ignored(service: Service, base: str) -> None:
    path = f"{base}/webhook/endpoints/"
    async with service.client.post(path, data=BODY, allow_redirects=False) as response:
        assert response.status == 201
    for each in (path, f"{path}?per_page=1", f"{path}1/", f"{base}/webhook/attempts/", f"{base}/webhook/attempts/facets/"):
        async with service.client.get(each, allow_redirects=False) as response:
            assert response.status == 200, each
    async with service.anonymous.get(path) as response:
        assert response.status == 401, "it does not bypass the key"
    async with service.client.get(f"{path}/") as response:
        assert response.status == 404
    async with service.client.delete(f"{path}1/") as response:
        assert response.status == 204


async def test_forms_and_compressed_bodies_are_refused_with_the_reason(service: Service) -> None:
    path = "/api/webhook/endpoints"
    form = {"Content-Type": FORM}
    async with service.client.post(path, data=b"endpoint[target_url]=http%3A%2F%2F127.0.0.1", headers=form) as response:
        error = (await response.json())["error"]
        assert (response.status, response.headers["Accept"]) == (415, "application/json")
        assert error == f"The body is a form ({FORM}). Send JSON, with Content-Type: application/json."
    for encoding in ("gzip", "GZIP", "br", "x" * 5000):
        headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
        async with service.client.post(path, data=gzip.compress(BODY), headers=headers, compress=False) as response:
            error = (await response.json())["error"]
            assert (response.status, response.headers["Accept-Encoding"]) == (415, "identity")
            assert error.startswith("The body is compressed (")
            assert len(error) < 200
    assert service.kafka.written == []
    # curl sends JSON as a form unless told otherwise.
    async with service.client.post(path, data=BODY, headers=form) as response:
        assert response.status == 201


@pytest.mark.parametrize(
    ("topic", "method", "path", "body"),
    [
        ("webhooks.endpoints", "POST", "endpoints", {"endpoint": FIELDS}),
        ("webhooks.endpoints", "PATCH", "endpoints/1", {"endpoint": {"active": False}}),
        ("webhooks.endpoints", "DELETE", "endpoints/1", None),
        ("webhooks.api-keys", "POST", "keys", {"key": {"name": "a", "role": "viewer"}}),
        ("webhooks.audit", "POST", "keys", {"key": {"name": "a", "role": "viewer"}}),
        ("webhooks.audit", "POST", "endpoints/1/test", None),
        ("webhooks.audit", "GET", "attempts?q[request_body_cont]=ada", None),
    ],
)
async def test_a_refusal_by_kafka_is_explained(service: Service, topic: str, method: str, path: str, body: object) -> None:
    await service.create("http://127.0.0.1/another")
    service.kafka.errors[topic] = PublishError(f"Kafka does not accept a record for {topic}: no permission")
    async with service.client.request(method, f"/api/webhook/{path}", json=body) as response:
        answer = await response.json()
    assert (response.status, answer["error"]) == (
        503,
        "Kafka refused what this request tried to write, so all or part of the request had no effect. Kafka does not accept a record for "
        f"{topic}: no permission. Trying again will not help until this is fixed.",
    )
    assert service.sender.requests == []


async def test_answers_are_compressed_and_not_resent_when_unchanged(service: Service) -> None:
    service.attempts.rows = tuple(attempt_row(id=number) for number in range(1, 40))
    path = "/api/webhook/attempts"
    async with service.client.get(path, headers={"Accept-Encoding": "gzip"}) as response:
        tag = response.headers["ETag"]
        assert (response.status, response.headers["Content-Encoding"]) == (200, "gzip")
        assert (await response.json())["attempts"][0]["token"] is None
    async with service.client.get(path, headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")
    async with service.client.get(path, headers={"If-None-Match": '"another"'}) as response:
        assert response.status == 200
