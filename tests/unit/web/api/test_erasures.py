"""POST …/erasures: a preview, then an audit entry that does not name the person, then ClickHouse until nothing is found."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.store.erase import PersonData, Subject
from pipeline.store.errors import StoreBudgetError, StoreRejectedError, StoreUnavailableError
from schemas.audit import AuditAction
from tests.unit.web.endpoint_requests import INVALID, request
from tests.unit.web.service import Service

ERASURES = "/api/webhook/erasures"
PREVIEW = f"{ERASURES}/preview"
TRACES = PersonData(events=("evt_1", "evt_2"), attempts=(64, 128, 192), dead_letters=(5,), orders=("R1", "R2"))
COUNTS = {"events": 2, "attempts": 3, "dead_letters": 1, "orders": ["R1", "R2"]}
NOTHING = {"events": 0, "attempts": 0, "dead_letters": 0, "orders": []}


def of(**fields: object) -> dict[str, Any]:
    return {"json": {"erasure": fields}}


async def test_a_preview_counts_and_changes_nothing(service: Service) -> None:
    service.eraser.found = [TRACES]
    status, body = await request(service, "POST", PREVIEW, **of(email=" Ada@example.com "))

    kept = {one["topic"]: one["days"] for one in body.pop("kept_elsewhere")}
    assert (status, body) == (200, COUNTS)
    assert (kept["oms.orders"], kept["webhooks.dispatches"], kept["webhooks.dead-letters"]) == (7, 7, 30)
    assert kept["webhooks.delay.0s"] == 8
    assert (kept["webhooks.held"], kept["webhooks.ordered"]) == (22, 22), "they keep bodies longer than most"
    assert "webhooks.endpoints" not in kept
    assert service.eraser.asked == [Subject(email="Ada@example.com")]
    assert service.eraser.started == []
    [entry] = service.kafka.audits
    assert (entry.action, entry.subject, entry.detail) == (AuditAction.SEARCH_BODIES, "erasure", "preview by email address")


async def test_an_erasure_is_audited_without_naming_the_person(service: Service, logs: pytest.LogCaptureFixture) -> None:
    service.eraser.found, service.eraser.looks = [TRACES], 3
    status, body = await request(service, "POST", ERASURES, **of(email="ada@example.com"))

    identifier = body.pop("id")
    del body["kept_elsewhere"]
    assert (status, body) == (200, COUNTS | {"left": NOTHING})
    assert (service.eraser.started, service.eraser.looks) == ([TRACES], 0)
    assert service.eraser.asked[1] == Subject(email="ada@example.com", orders=("R1", "R2")), "it searches once more"
    [entry] = service.kafka.audits
    assert (entry.action, entry.subject) == (AuditAction.ERASE, f"erasure {identifier}")
    assert entry.detail == "by email address: 2 events, 3 attempts, 1 dead letter"
    assert "ada" not in repr(entry)
    assert "R1" not in repr(entry)
    assert "ada@" not in logs.text


async def test_data_that_arrived_meanwhile_is_reported(service: Service) -> None:
    late = PersonData(attempts=(256,), orders=("R1",))
    service.eraser.found = [TRACES, late]
    _, body = await request(service, "POST", ERASURES, **of(order_number="R1"))
    assert body["left"] == {"events": 0, "attempts": 1, "dead_letters": 0, "orders": ["R1"]}
    assert service.kafka.audits[0].detail.startswith("by order number: ")


async def test_nothing_is_erased_if_the_audit_entry_cannot_be_written(service: Service) -> None:
    service.eraser.found = [TRACES]
    service.kafka.is_down = True
    assert (await request(service, "POST", ERASURES, **of(order_number="R1")))[0] == 503
    assert service.eraser.started == []


async def test_a_slow_erasure_continues_in_clickhouse(service: Service) -> None:
    service.eraser.found, service.eraser.looks = [TRACES], 1000
    status, body = await request(service, "POST", ERASURES, **of(order_number="R1"))
    assert (status, body["error"][:54]) == (503, "ClickHouse has not finished overwriting yet, and will ")
    assert service.eraser.started == [TRACES]


@pytest.mark.parametrize(
    ("error", "status"),
    [(StoreUnavailableError("It is down."), 503), (StoreRejectedError("Too many."), 422), (StoreBudgetError("Too long."), 422)],
)
async def test_errors_of_clickhouse_are_reported(service: Service, error: Exception, status: int) -> None:
    service.eraser.error = error
    for path in (PREVIEW, ERASURES):
        answered, body = await request(service, "POST", path, **of(order_number="R1"))
        assert answered == status
        assert str(error) in str(body)


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({}, {"erasure": ["Give either email or order_number."]}),
        ({"email": "a@b.example", "order_number": "R1"}, {"erasure": ["Give either email or order_number."]}),
        ({"email": "ada"}, {"email": ["email must be an email address, and nothing else."]}),
        ({"email": "a@b c"}, {"email": ["email must be an email address, and nothing else."]}),
        ({"email": 5}, {"email": ["email must be an email address, and nothing else."]}),
        ({"order_number": " "}, {"order_number": ["order_number must be text of 1 to 100 characters."]}),
        ({"order_number": "x" * 101}, {"order_number": ["order_number must be text of 1 to 100 characters."]}),
        ({"order_number": "R\n1"}, {"order_number": ["order_number must be text of 1 to 100 characters."]}),
    ],
)
async def test_invalid_input_is_refused(service: Service, fields: dict[str, object], errors: dict[str, list[str]]) -> None:
    for path in (PREVIEW, ERASURES):
        assert await request(service, "POST", path, **of(**fields)) == (422, {"error": INVALID, "errors": errors})
    assert service.eraser.asked == []
