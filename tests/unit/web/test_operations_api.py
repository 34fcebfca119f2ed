"""Statistics, event types, dead letters, and the API's own reference."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from jsonschema_rs import Draft202012Validator

from pipeline.store.errors import StoreBudgetError, StoreUnavailableError
from pipeline.store.reports.endpoint_days import LastFailure
from pipeline.store.reports.recent import DeadLetterDetail, DeadLetterSummary, EndpointStats, IntervalCounts
from pipeline.web.api.route_table import API_ROUTES
from schemas.audit import AuditAction
from schemas.event import EventType
from tests.unit.web.endpoint_requests import NOT_FOUND, PATH, request
from tests.unit.web.service import NOW, Service

LETTERS = "/api/webhook/dead_letters"


async def test_an_endpoints_statistics_of_the_last_day(service: Service) -> None:
    await service.create()
    hour = timedelta(hours=1)
    service.reports.stats = EndpointStats(
        buckets=(IntervalCounts(NOW - hour, 3, 1), IntervalCounts(NOW, 0, 0)),
        discarded=2,
        duration_ms=(1.0, 2.5, 3.00049),
        last_failure=LastFailure(11, NOW, None, "timeout", "No answer."),
    )
    assert await request(service, "GET", f"{PATH}/1/stats") == (
        200,
        {
            "endpoint_id": 1,
            "since": "2026-03-01T15:04:00.512Z",
            "until": "2026-03-02T15:04:00.512Z",
            "attempts": 4,
            "succeeded": 3,
            "failed": 1,
            "discarded": 2,
            "success_rate": 0.75,
            "duration_ms": {"p50": 1.0, "p95": 2.5, "p99": 3.0},
            "last_failure": {
                "attempt_id": 11,
                "created_at": "2026-03-02T15:04:00.512Z",
                "http_status_code": None,
                "failure": "timeout",
                "error": "No answer.",
            },
            "buckets": [
                {"start": "2026-03-02T14:04:00.512Z", "succeeded": 3, "failed": 1},
                {"start": "2026-03-02T15:04:00.512Z", "succeeded": 0, "failed": 0},
            ],
        },
    )
    assert await request(service, "GET", f"{PATH}/2/stats") == (404, NOT_FOUND)


async def test_an_endpoint_without_attempts_has_no_success_rate(service: Service) -> None:
    await service.create()
    _, stats = await request(service, "GET", f"{PATH}/1/stats")
    assert (stats["attempts"], stats["success_rate"], stats["duration_ms"], stats["last_failure"]) == (0, None, None, None)
    for error, status in ((StoreUnavailableError("gone"), 503), (StoreBudgetError("too much"), 422)):
        service.attempts.error = error
        assert (await request(service, "GET", f"{PATH}/1/stats"))[0] == status


async def test_event_types_have_samples_that_match_their_schemas(service: Service) -> None:
    status, body = await request(service, "GET", "/api/webhook/event_types")
    assert status == 200
    assert [one["name"] for one in body["event_types"]] == [event.value for event in EventType]
    for one in body["event_types"]:
        validator = Draft202012Validator(one["json_schema"])
        validator.validate(one["sample"])
        assert not validator.is_valid(one["sample"] | {"event_name": "another"})
        assert not validator.is_valid({name: value for name, value in one["sample"].items() if name != "data"})
        assert one["sample"]["event_name"] == one["name"]
        assert one["description"].endswith(".")


def letter(identifier: int, key: bytes | None, value: bytes | None) -> DeadLetterDetail:
    summary = DeadLetterSummary(identifier, "not_json", "No JSON.", "oms.orders", 1, 2, NOW, len(value or b""))
    return DeadLetterDetail(summary, key, value, (("trace", b"\xfe"), ("x", b"1")))


async def test_dead_letters_are_listed_without_their_bytes(service: Service) -> None:
    service.reports.letters = [letter(5, b"R1", b"{secret")]
    status, body = await request(service, "GET", LETTERS, params={"q[reason_eq]": " not_json ", "q[x]": "1", "q[topic_eq]": ""})
    assert status == 200
    assert body == {
        "dead_letters": [
            {
                "id": 5,
                "reason": "not_json",
                "detail": "No JSON.",
                "topic": "oms.orders",
                "partition": 1,
                "offset": 2,
                "failed_at": "2026-03-02T15:04:00.512Z",
                "size": 7,
                "repaired_at": None,
                "repaired_by": None,
                "dismissed": False,
            }
        ],
        "count": 1,
        "total_count": 1,
        "current_page": 1,
        "pages": 1,
        "per_page": 25,
        "ignored_filters": ["q[x]: dead letters have no such filter; they have q[reason_eq], q[topic_eq] and q[repaired_eq]"],
    }
    assert service.reports.asked == [("not_json", None)]
    assert (await request(service, "GET", LETTERS, params={"q[x]": "1", "strict": "1"}))[0] == 422
    assert service.kafka.audits == []


async def test_an_invalid_boolean_filter_matches_no_dead_letter(service: Service) -> None:
    service.reports.letters = [letter(5, b"R1", b"{secret")]
    status, body = await request(service, "GET", LETTERS, params={"q[repaired_eq]": "maybe"})
    assert (status, body["dead_letters"], body["total_count"]) == (200, [], 0)
    assert body["ignored_filters"] == ["q[repaired_eq]: it is true or false, not maybe"]


async def test_reading_the_bytes_of_a_dead_letter_is_audited(service: Service) -> None:
    service.reports.letters = [letter(5, None, b"\xff"), letter(6, b"R1", None)]
    status, body = await request(service, "GET", f"{LETTERS}/5")
    assert (status, body["key"], body["value"]) == (200, None, {"content": "/w==", "encoding": "base64"})
    assert body["headers"] == [
        {"name": "trace", "value": {"content": "/g==", "encoding": "base64"}},
        {"name": "x", "value": {"content": "1", "encoding": "text"}},
    ]
    _, body = await request(service, "GET", f"{LETTERS}/6")
    assert (body["key"], body["value"]) == ({"content": "R1", "encoding": "text"}, None)
    assert await request(service, "GET", f"{LETTERS}/7") == (404, NOT_FOUND)
    assert [(entry.action, entry.subject) for entry in service.kafka.audits] == [
        (AuditAction.VIEW_DEAD_LETTER, "dead letter 5"),
        (AuditAction.VIEW_DEAD_LETTER, "dead letter 6"),
    ]


async def test_the_reference_is_public_and_loads_nothing_from_elsewhere(service: Service) -> None:
    async with service.anonymous.get("/api/webhook/openapi.json") as response:
        document = await response.json()
    async with service.anonymous.get("/api/webhook/reference") as response:
        page, policy = await response.text(), response.headers["Content-Security-Policy"]
    assert response.content_type == "text/html"
    assert not [mark for mark in ("<script", "src=", 'href="http', 'href="/', "url(", "@import") if mark in page]
    assert "style-src 'sha256-" in policy
    for path, operations in document["paths"].items():
        assert f"<code>{path}</code>" in page
        for operation in operations.values():
            assert f'id="{operation["operationId"]}"' in page


async def test_the_document_describes_every_route_and_has_no_dangling_references(service: Service) -> None:
    async with service.anonymous.get("/api/webhook/openapi.json") as response:
        document = await response.json()
    assert document["openapi"] == "3.1.0"
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert len(operations) == len(API_ROUTES)
    text = json.dumps(document)
    names = document["components"]["schemas"]
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.partition('"')[0] in names
    for operation in operations:
        assert operation["summary"]
        public = operation["security"] == []
        assert {"401", "403", "429"} <= set(operation["responses"]) or public


@pytest.mark.parametrize("path", [f"{LETTERS}/x", f"{LETTERS}/{'9' * 30}", f"{PATH}/x/stats", f"{PATH}/x/test"])
async def test_invalid_ids_are_not_found(service: Service, path: str) -> None:
    method = "POST" if path.endswith("test") else "GET"
    assert await request(service, method, path) == (404, NOT_FOUND)
