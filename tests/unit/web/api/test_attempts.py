from __future__ import annotations

import asyncio
from typing import Any

import pytest
from yarl import URL

from pipeline.core.search import Condition, Predicate, Sort, beginning
from pipeline.store.errors import StoreBudgetError, StoreBusyError, StoreRejectedError, StoreUnavailableError
from pipeline.store.search.queries import AttemptDetail
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.service import NOW, Service, running_service

PATH = "/api/webhook/attempts"
INVALID = "Invalid resource. Please fix errors and try again."
NOT_FOUND = {"error": "The resource you were looking for could not be found."}
ATTEMPT = {
    "id": 11,
    "event_id": "evt_1",
    "event_name": "shipment_shipped",
    "event_created_at": "2026-03-02T15:04:00.512Z",
    "endpoint_id": 7,
    "target_url": "http://127.0.0.1/hooks",
    "state": "failed",
    "outcome": "repeated",
    "attempt": 2,
    "trigger": "repeat",
    "http_status_code": 503,
    "failure": None,
    "error": "The endpoint returned 503 (Service Unavailable).",
    "duration_ms": 12.5,
    "first_byte_ms": None,
    "created_at": "2026-03-02T15:05:00.007Z",
    "next_attempt_at": "2026-03-02T15:06:00.000Z",
    "order_number": "R758805215",
    "shipment_numbers": ["H12345678901"],
    "subscription_id": None,
    "stock_item_id": None,
    "skus": ["SKU-1", "SKU-2"],
    "token": None,
    "idempotency_key": "evt_1",
}


async def get(service: Service, path: str = PATH, **options: Any) -> tuple[int, Any]:
    async with service.client.get(path, **options) as response:
        return response.status, await response.json()


async def test_a_list_is_a_page_of_attempts(service: Service) -> None:
    service.attempts.rows = (attempt_row(),)
    assert await get(service) == (
        200,
        {
            "count": 1,
            "total_count": 1,
            "total_count_is_exact": False,
            "next_cursor": "next",
            "sorted_since": None,
            "current_page": 1,
            "pages": 1,
            "per_page": 25,
            "ignored_filters": [],
            "attempts": [ATTEMPT],
        },
    )


async def test_the_query_reaches_the_store_unchanged(service: Service) -> None:
    query = [
        ("q[shipment_number_in][]", "H1"),
        ("q[shipment_number_in][]", "H2"),
        ("q[request_body_cont]", "50% & more_"),
        ("q[s]", "duration_ms desc"),
        ("page", "3"),
        ("per_page", "500"),
        ("strict", "1"),
    ]
    status, body = await get(service, params=query)
    assert (status, body["current_page"], body["per_page"]) == (200, 3, 200)
    (asked,) = service.attempts.queries
    assert asked.conditions == (
        Condition("shipment_number", Predicate.IN, ("H1", "H2")),
        Condition("request_body", Predicate.CONT, ("50% & more_",)),
    )
    assert asked.sorts == (Sort("duration_ms", descending=True),)


async def test_an_ignored_filter_is_reported_or_refused(service: Service) -> None:
    status, body = await get(service, params={"q[order_numbr_eq]": "R1", "strict": "0"})
    (note,) = body["ignored_filters"]
    assert (status, "order_numbr" in note) == (200, True)
    assert await get(service, params={"q[order_numbr_eq]": "R1", "strict": "1"}) == (
        422,
        {"error": INVALID, "errors": {"q": [note]}},
    )
    assert len(service.attempts.queries) == 1


@pytest.mark.parametrize("name", ["token", "secret", "request_headers", "kafka_offset"])
async def test_secret_and_internal_fields_cannot_be_searched(service: Service, name: str) -> None:
    _, body = await get(service, params={f"q[{name}_cont]": "x"})
    assert len(body["ignored_filters"]) == 1
    assert service.attempts.queries[0].conditions == ()


@pytest.mark.parametrize(
    "query",
    [
        "q",
        "q=x",
        "q[]=1",
        "q[[[=1",
        "q[a][b][c][d]=1",
        "q[order_number_eq]=%00",
        "q[order_number_eq]=%ff%fe",
        "q[order_number_eq]=%ed%a0%80",
        "q[id_eq]=" + "9" * 4000,
        "q[created_at_gt]=0000-00-00",
        "q[created_at_gt]=99999999999999999-01-01",
        "q[duration_ms_gt]=1e999",
        "q[s]=;drop table attempts",
        "q[order_number_eq]='; DROP TABLE attempts; --",
        "&&&=&=1&&%",
        "page=" + "9" * 4000,
        "page=NaN&per_page=Infinity",
        "&".join(f"q[order_number_eq]={n}" for n in range(300)),
    ],
)
async def test_no_query_string_causes_a_server_error(service: Service, query: str) -> None:
    status, body = await get(service, f"{PATH}?{query}")
    assert status == 200
    assert body["attempts"] == []


async def test_a_single_attempt_has_all_fields(service: Service) -> None:
    service.attempts.details[11] = AttemptDetail(
        attempt=attempt_row(),
        request_headers={"webhook-id": "evt_1"},
        response_headers=(("set-cookie", "a=1"), ("set-cookie", "b=2")),
        response_body="AP8=",
        response_body_encoding="base64",
        response_truncated=True,
        request_body='{"id":"evt_1","n":1.0}',
        siblings=(attempt_row(id=12, attempt=3), attempt_row(id=10, attempt=1)),
    )
    assert await get(service, f"{PATH}/11") == (
        200,
        ATTEMPT
        | {
            "request_body": '{"id":"evt_1","n":1.0}',
            "request_headers": {"webhook-id": "evt_1"},
            "response_body": "AP8=",
            "response_body_encoding": "base64",
            "response_truncated": True,
            "response_headers": [["set-cookie", "a=1"], ["set-cookie", "b=2"]],
            "siblings": [ATTEMPT | {"id": 12, "attempt": 3}, ATTEMPT | {"id": 10, "attempt": 1}],
            "bodies_hidden": False,
        },
    )


@pytest.mark.parametrize("identifier", ["1", "x", "-1", "9" * 19, "9" * 5000, "%00", "११", "1;2"])
async def test_an_attempt_that_does_not_exist_is_not_found(service: Service, identifier: str) -> None:
    assert await get(service, f"{PATH}/{identifier}") == (404, NOT_FOUND)


async def test_facets_and_histogram(service: Service) -> None:
    query = {"q[state_eq]": "failed", "q[typo_eq]": "1"}
    ignored = ["typo_eq: attempts have no attribute typo"]
    assert await get(service, f"{PATH}/facets", params=query) == (
        200,
        {
            "total_count": 3,
            "total_count_is_exact": True,
            "counted_since": None,
            "states": {"failed": 2, "succeeded": 1},
            "events": {"order_completed": 3},
            "endpoints": [{"endpoint_id": 7, "count": 3}],
            "ignored_filters": ignored,
        },
    )
    assert await get(service, f"{PATH}/histogram", params=query | {"bars": "1000"}) == (
        200,
        {
            "interval_seconds": 400,
            "counted_since": None,
            "bars": [
                {"begins_at": "2026-03-02T15:04:00.512Z", "attempts": 3, "failures": 2},
                {"begins_at": "2026-03-02T16:00:00.000Z", "attempts": 0, "failures": 0},
            ],
            "ignored_filters": ignored,
        },
    )
    assert {one.conditions for one in service.attempts.queries} == {(Condition("state", Predicate.EQ, ("failed",)),)}
    for path in ("facets", "histogram"):
        assert await get(service, f"{PATH}/{path}", params=query | {"strict": "1"}) == (
            422,
            {"error": INVALID, "errors": {"q": ignored}},
        )


@pytest.mark.parametrize("path", [PATH, f"{PATH}/facets", f"{PATH}/histogram"])
@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("q[request_body_cont]=" + "x" * 1_000_000, "1,000,000 characters"),
        ("&".join(f"q[sku_eq_any][]={n}" for n in range(10_000)), "at most 2,000 filters"),
        ("q" + "[g][0]" * 50 + "[id_eq]=1", "nested too deeply"),
    ],
    ids=["long", "many", "deep"],
)
async def test_queries_beyond_a_limit_are_refused_with_the_reason(service: Service, path: str, query: str, reason: str) -> None:
    async with service.client.get(URL(f"{path}?{query}", encoded=True)) as response:
        body = await response.json()
    assert (response.status, reason in body["errors"]["q"][0]) == (422, True)


async def test_after_is_for_pages_only(service: Service) -> None:
    cursor = beginning().encode()
    assert (await get(service, params={"after": "x"}))[0] == 422
    assert (await get(service, params={"after": cursor}))[1]["ignored_filters"] == []
    assert service.attempts.queries[-1].after == beginning()
    for path in ("facets", "histogram"):
        for text in (cursor, "x"):
            status, body = await get(service, f"{PATH}/{path}", params={"after": text})
            assert (status, [note.partition(":")[0] for note in body["ignored_filters"]]) == (200, ["after"])
            assert service.attempts.queries[-1].after is None, "a parameter that is reported as ignored has no effect"


async def test_an_overlong_url_is_not_a_server_error(service: Service) -> None:
    async with service.client.get(URL(f"{PATH}?q[sku_eq]=" + "x" * 1_200_000, encoded=True)) as response:
        assert response.status == 400


@pytest.mark.parametrize("path", [PATH, f"{PATH}/1", f"{PATH}/facets", f"{PATH}/histogram"])
async def test_clickhouse_errors_are_explained(service: Service, path: str) -> None:
    service.attempts.error = StoreUnavailableError("ClickHouse at ch:8123 cannot be reached.")
    message = "Attempts cannot be searched right now: ClickHouse at ch:8123 cannot be reached."
    assert await get(service, path) == (503, {"error": message})

    service.attempts.error = StoreBudgetError("Narrow it.")
    assert await get(service, path) == (422, {"error": INVALID, "errors": {"q": ["Narrow it."]}})

    service.attempts.error = StoreRejectedError("Table attempts does not exist.")
    status, body = await get(service, path)
    assert (status, "Table" in body["error"]) == (500, False)


async def test_a_search_that_waits_too_long_is_cancelled() -> None:
    message = (
        "The search did not finish within 0.1 seconds, including the wait for other searches. Try again later, or narrow it to "
        "a shorter time range."
    )
    async with running_service(search_timeout_seconds=0.1) as service:
        service.attempts.seconds = 60.0
        assert await get(service) == (503, {"error": message})


@pytest.mark.parametrize("path", [PATH, f"{PATH}/1", f"{PATH}/facets", f"{PATH}/histogram"])
async def test_too_many_searches_are_answered_with_retry_after(service: Service, path: str) -> None:
    service.attempts.error = StoreBusyError(3, 10.0)
    async with service.client.get(path) as response:
        body = await response.json()
    assert (response.status, response.headers["Retry-After"]) == (503, "5")
    assert body["error"].startswith("Too many searches at once: 3 other searches are ahead of this one")


async def test_what_was_counted_and_sorted_is_reported(service: Service) -> None:
    service.attempts.since = NOW
    service.attempts.rows = (attempt_row(),)
    at = "2026-03-02T15:04:00.512Z"
    _, facets = await get(service, f"{PATH}/facets")
    assert (facets["total_count_is_exact"], facets["counted_since"]) == (False, at)
    assert (await get(service, f"{PATH}/histogram"))[1]["counted_since"] == at
    assert (await get(service, params={"q[s]": "duration_ms desc"}))[1]["sorted_since"] == at


async def test_a_search_is_cancelled_when_its_client_disconnects(service: Service) -> None:
    """Somebody who closes a page does not keep others waiting."""
    service.attempts.seconds = 60.0
    asking = asyncio.create_task(get(service))
    async with asyncio.timeout(60):
        await service.attempts.begun.wait()
        asking.cancel()
        await service.attempts.gone.wait()
