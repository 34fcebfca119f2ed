from __future__ import annotations

import pytest

from pipeline.store.errors import StoreUnavailableError
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.endpoint_requests import INVALID, PATH, SHOWN, request
from tests.unit.web.service import Service


async def test_lists_are_paginated(service: Service) -> None:
    for number in range(5):
        await service.create(f"http://127.0.0.1/{number}")

    async def page(query: str) -> tuple[list[str], list[int]]:
        status, body = await request(service, "GET", f"{PATH}?{query}")
        assert status == 200
        assert list(body) == ["count", "total_count", "current_page", "pages", "per_page", "ignored_filters", "endpoints"]
        paths = [endpoint["target_url"].rpartition("/")[2] for endpoint in body["endpoints"]]
        return paths, [body[name] for name in ("count", "total_count", "current_page", "pages", "per_page")]

    assert await page("") == (["0", "1", "2", "3", "4"], [5, 5, 1, 1, 25])
    assert await page("page=2&per_page=2") == (["2", "3"], [2, 5, 2, 3, 2])
    assert await page("page=3&per_page=2") == (["4"], [1, 5, 3, 3, 2])
    assert await page("page=9&per_page=2") == ([], [0, 5, 9, 3, 2])
    assert (await page("page=-3&per_page=999"))[1] == [5, 5, 1, 1, 200]
    assert (await page("page=x&per_page="))[1] == [5, 5, 1, 1, 25]
    assert (await page(f"page={'9' * 400}"))[0] == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q[target_url_cont]=B", ["b"]),
        ("q[target_url_eq]=http://127.0.0.1/a", ["a"]),
        ("q[target_url_start]=HTTP://127", ["a", "b", "c"]),
        ("q[id_eq]={b}", ["b"]),
        ("q[id_in][]={a}&q[id_in][]={c}", ["a", "c"]),
        ("q[id_in][0]={a}&q[id_in][1]={c}", ["a", "c"]),
        ("q[active_eq]=true", ["a", "b"]),
        ("q[active_true]=1", ["a", "b"]),
        ("q[active_true]=0", ["c"]),
        ("q[active_false]=1", ["c"]),
        ("q[active_eq]=f", ["c"]),
        ("q[events_cont]=stock", ["b"]),
        ("q[events_eq]=order_completed", ["a", "c"]),
        ("q[description_cont]=ÉRP", ["c"]),
        ("q[target_url_cont]=&q[id_eq]=%20", ["a", "b", "c"]),
        ("q[target_url_cont]=127&q[active_true]=1&q[events_cont]=order", ["a"]),
    ],
)
async def test_lists_are_filtered(service: Service, query: str, found: list[str]) -> None:
    ids = {
        "a": await service.create("http://127.0.0.1/a"),
        "b": await service.create("http://127.0.0.1/b", events=["stock_item_back_in_stock"]),
        "c": await service.create("http://127.0.0.1/c", active=False, description="the érp"),
    }
    status, body = await request(service, "GET", f"{PATH}?{query.format(**ids)}")
    assert (status, body["ignored_filters"]) == (200, [])
    assert [endpoint["id"] for endpoint in body["endpoints"]] == [ids[name] for name in found]


@pytest.mark.parametrize(
    "query",
    [
        "q=x",
        "q[token_eq]=x",
        "q[targeturl_cont]=x",
        "q[target_url_matches]=x",
        "q[]=x",
        "q[s]=id",
        "q[x=1",
        "q[%00]=1",
    ],
)
async def test_unknown_filters_are_named(service: Service, query: str) -> None:
    await service.create()
    status, body = await request(service, "GET", f"{PATH}?{query}")
    assert (status, body["count"], len(body["ignored_filters"])) == (200, 1, 1)
    status, strict = await request(service, "GET", f"{PATH}?{query}&strict=1")
    assert (status, strict) == (422, {"error": INVALID, "errors": {"q": body["ignored_filters"]}})


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("q[active_eq]=maybe", "q[active_eq]: maybe is neither 1 nor 0"),
        ("q[active_true]=yes", "q[active_true]: yes is neither 1 nor 0"),
        ("q[id_eq]=seven", "q[id_eq]: seven is not a whole number"),
        ("q[id_in][]=1e3", "q[id_in]: 1e3 is not a whole number"),
        ("q[id_in][0]=x", "q[id_in]: x is not a whole number"),
    ],
)
async def test_an_invalid_filter_value_matches_nothing_rather_than_everything(
    service: Service, query: str, sentence: str
) -> None:
    await service.create()
    status, body = await request(service, "GET", f"{PATH}?{query}")
    assert (status, body["count"], body["ignored_filters"]) == (200, 0, [sentence])
    assert (await request(service, "GET", f"{PATH}?{query}&strict=1"))[1]["errors"] == {"q": [sentence]}


async def test_attempts_are_included_on_request(service: Service) -> None:
    assert (await request(service, "GET", f"{PATH}?include_attempts=true"))[1]["endpoints"] == []
    assert service.attempts.asked == []
    one, two = await service.create("http://127.0.0.1/1"), await service.create("http://127.0.0.1/2")
    service.attempts.rows = (attempt_row(id=11, endpoint_id=one), attempt_row(id=10, endpoint_id=one))

    _, body = await request(service, "GET", f"{PATH}?include_attempts=true")
    assert [[attempt["id"] for attempt in endpoint["attempts"]] for endpoint in body["endpoints"]] == [[11, 10], []]
    _, body = await request(service, "GET", f"{PATH}/{one}?include_attempts=1&attempts_count=1")
    assert list(body) == [*SHOWN, "attempts"]
    assert [attempt["id"] for attempt in body["attempts"]] == [11]
    for count in ("9999", " 200 "):
        await request(service, "GET", f"{PATH}/{two}", params={"include_attempts": "t", "attempts_count": count})
    assert service.attempts.asked == [([one, two], 25), ([one], 1), ([two], 200), ([two], 200)]

    _, body = await request(service, "GET", f"{PATH}/{one}?include_attempts=no&attempts_count=x")
    assert list(body) == [*SHOWN, "ignored_filters"]
    assert body["ignored_filters"] == [
        "include_attempts: no is neither 1 nor 0",
        "attempts_count: x is not a whole number",
    ]
    assert len(service.attempts.asked) == 4


@pytest.mark.parametrize("count", ["x", "-1", "1.5", "9" * 5000, "१"])
async def test_an_invalid_count_is_explained(service: Service, count: str) -> None:
    identifier = await service.create()
    status, body = await request(
        service, "GET", f"{PATH}/{identifier}", params={"include_attempts": "true", "attempts_count": count}
    )
    assert (status, body["errors"]) == (
        422,
        {"attempts_count": ["attempts_count must be a whole number, 0 or more, of at most 18 digits."]},
    )


async def test_too_many_attempts_at_once_are_refused(service: Service) -> None:
    for number in range(26):
        await service.create(f"http://127.0.0.1/{number}")
    query = "include_attempts=true&attempts_count=200&per_page="
    assert (await request(service, "GET", f"{PATH}?{query}25"))[0] == 200
    status, body = await request(service, "GET", f"{PATH}?{query}26")
    sentence = "attempts_count is too large for 26 endpoints. The limit is 5000 attempts in total."
    assert (status, body["errors"]) == (422, {"attempts_count": [sentence]})


async def test_listing_endpoints_needs_clickhouse_only_for_attempts(service: Service) -> None:
    identifier = await service.create()
    service.attempts.error = StoreUnavailableError("ClickHouse does not answer.")
    assert (await request(service, "GET", f"{PATH}/{identifier}"))[0] == 200
    assert await request(service, "GET", f"{PATH}/{identifier}?include_attempts=true") == (
        503,
        {"error": "Attempts cannot be searched right now: ClickHouse does not answer."},
    )
