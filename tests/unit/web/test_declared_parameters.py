"""An unknown parameter has no effect, and no route may pretend that it had one."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from pipeline.web.api.route_table import API_ROUTES
from pipeline.web.declared_parameters import findings
from pipeline.web.routes import FILTERS, IF_MATCH, PAGE, STRICT, Parameter, Route
from schemas.codec import from_header
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.service import Service

ACTING = [route for route in API_ROUTES if route.acts]
READING = [route for route in API_ROUTES if not route.acts]
UNKNOWN = [
    "order_number_eq",
    "Q[order_number_eq]",
    "q.order_number_eq",
    "[q][order_number_eq]",
    "filter[order_number_eq]",
    "utm_source",
    "",
]


def name_of(route: Route[Any]) -> str:
    return f"{route.method} {route.path}"


def path_of(route: Route[Any]) -> str:
    identifier = "0123456789abcdef" if route.path.startswith("/webhook/resends") else "1"
    return "/api" + route.path.replace("{id}", identifier)


async def ask(service: Service, route: Route[Any], query: str, **options: Any) -> tuple[int, Any]:
    async with service.client.request(route.method, f"{path_of(route)}?{query}", **options) as response:
        is_json = response.content_type == "application/json"
        return response.status, await response.json() if is_json else await response.read()


def test_routes_that_change_or_export_count_as_acting() -> None:
    assert {name_of(route) for route in READING} == {f"GET {route.path}" for route in READING}
    assert [name_of(route) for route in ACTING if route.method == "GET"] == [
        "GET /webhook/attempts/export.csv",
        "GET /webhook/attempts/export.json",
        "GET /webhook/backups/endpoints",
    ]


@pytest.mark.parametrize("route", ACTING, ids=name_of)
async def test_acting_routes_refuse_unknown_parameters(service: Service, route: Route[Any]) -> None:
    for name in UNKNOWN:
        status, body = await ask(service, route, urlencode({name: "R100"}))
        assert (status, list(body["errors"])) == (422, [name or "''"]), name
    assert (service.kafka.records, service.attempts.queries) == ([], [])


@pytest.mark.parametrize(
    "route", [route for route in ACTING if route.method != "GET" and IF_MATCH not in route.parameters], ids=name_of
)
async def test_if_match_is_refused_where_it_would_not_be_checked(service: Service, route: Route[Any]) -> None:
    status, body = await ask(service, route, "", headers={"If-Match": 'W/"0123456789abcdef01234567"'})
    assert (status, list(body["errors"])) == (422, ["If-Match"])
    assert (service.kafka.records, service.attempts.queries) == ([], [])


@pytest.mark.parametrize("route", READING, ids=name_of)
async def test_reading_routes_report_unknown_parameters(service: Service, route: Route[Any]) -> None:
    await service.create()
    for name in UNKNOWN:
        status, body = await ask(service, route, urlencode({name: "R100"}))
        if status == 200 and not isinstance(route.answers[200], str):
            assert [note.partition(":")[0] for note in body["ignored_filters"]] == [name or "''"], name
        else:  # documents, and things that do not exist in this test
            assert status in (200, 404, 406, 422), body  # 406: a stream that was not requested as one
        status, body = await ask(service, route, urlencode({name: "R100", "strict": "1"}))
        assert (status, list(body["errors"])) == (422, [name or "''"]), name


@pytest.mark.parametrize("route", [route for route in ACTING if route.body is None], ids=name_of)
@pytest.mark.parametrize("body", [b'{"q": {"endpoint_id_eq": 11}}', b'{"filter": {}}', b"q[endpoint_id_eq]=11", b"[]"])
async def test_routes_without_a_body_refuse_one(service: Service, route: Route[Any], body: bytes) -> None:
    status, answer = await ask(service, route, "q[state_eq]=failed" if FILTERS in route.parameters else "", data=body)
    assert (status, list(answer["errors"])) == (422, ["body"])
    assert (service.kafka.records, service.attempts.queries) == ([], [])


@pytest.mark.parametrize("body", [b"", b"{}", b" {} ", b"null"])
async def test_an_empty_body_counts_as_no_body(service: Service, body: bytes) -> None:
    await service.create()
    async with service.client.delete("/api/webhook/endpoints/1", data=body) as response:
        assert response.status == 204


WRAPPED: dict[str, dict[str, dict[str, Any]]] = {
    "/webhook/endpoints/{id}/test": {"test": {"event_name": "order_completed"}},
    "/webhook/dead_letters/{id}/republish": {"record": {"value": {"content": "{}"}}},
    "/webhook/keys": {"key": {"name": "Ada", "role": "viewer"}},
    "/webhook/backups/endpoints": {"restore": {"endpoints": [{}]}},
    "/webhook/endpoints/preview": {"preview": {"events": ["order_completed"]}},
    "/webhook/replays/preview": {
        "replay": {"endpoint_ids": [1], "since": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z"}
    },
    "/webhook/replays": {
        "replay": {"endpoint_ids": [1], "since": "2026-03-01T00:00:00Z", "until": "2026-03-02T00:00:00Z", "run": "0123abcd"}
    },
    "/webhook/erasures/preview": {"erasure": {"order_number": "R100"}},
    "/webhook/erasures": {"erasure": {"order_number": "R100"}},
}


@pytest.mark.parametrize("path", WRAPPED)
async def test_unknown_members_are_refused(service: Service, path: str) -> None:
    await service.create()
    [route] = [route for route in API_ROUTES if route.path == path and route.method == "POST"]
    [(member, fields)] = WRAPPED[path].items()
    before = len(service.kafka.records)

    beside = await ask(service, route, "", json={**WRAPPED[path], "filter": {"order_number_eq": "R100"}})
    inside = await ask(service, route, "", json={member: {**fields, "dry-run": True}})
    twice = await ask(service, route, "", data=f'{{"{member}": {{}}, "{member}": {{}}}}'.encode())

    assert [(status, list(body["errors"])) for status, body in (beside, twice)] == [(422, ["filter"]), (422, [member])]
    assert inside[0] == 422
    assert inside[1]["errors"]["dry-run"] == ["Unknown field: dry-run."]
    assert (len(service.kafka.records), service.eraser.asked, service.past.asked) == (before, [], [])


async def test_unknown_nested_members_are_refused(service: Service) -> None:
    [route] = [route for route in API_ROUTES if route.path.endswith("/republish")]
    status, body = await ask(service, route, "", json={"record": {"value": {"content": "e30=", "encodng": "base64"}}})
    assert (status, list(body["errors"])) == (422, ["value"])


@pytest.mark.parametrize("orders", [[], [""], ["  "], None, "R100"])
async def test_a_replay_of_no_orders_is_not_a_replay_of_all_orders(service: Service, orders: object) -> None:
    await service.create()
    [route] = [route for route in API_ROUTES if route.path == "/webhook/replays/preview"]
    wanted = WRAPPED[route.path]["replay"] | {"order_numbers": orders}
    status, body = await ask(service, route, "", json={"replay": wanted})
    assert (status, list(body["errors"])) == (422, ["order_numbers"])
    assert service.past.asked == []


@pytest.mark.parametrize(
    "query",
    [
        "q[endpoint_id_eq]=1&order_number_eq=R100",
        "q[endpoint_id_eq]=1&Q[order_number_eq]=R100",
        "q[endpoint_id_eq]=1&q.order_number_eq=R100",
        "q[endpoint_id_eq]=1&[q][order_number_eq]=R100",
        "q[endpoint_id_eq]=1&filter[order_number_eq]=R100",
        "q[endpoint_id_eq]=1&q[order_number_eq]=",
        "q[endpoint_id_eq]=1&q[order_number_eq]=%20",
        "q[endpoint_id_eq]=1&q[order_nummer_eq]=R100",
        "q[endpoint_id_eq]=1&q[order_number_eq]=R100&q[order_number_eq]=R200",
        "q[endpoint_id_eq]=1&q[endpoint_id_eq][x]=2",
        "q[endpoint_id_eq]=1&q[http_status_code_eq]=5xx",
        "q[endpoint_id_eq]=1&page=2",
        "q[endpoint_id_eq]=1&strict=maybe",
    ],
)
async def test_a_typo_never_widens_a_resend(service: Service, query: str) -> None:
    """A typo once resent 37 notifications instead of one."""
    await service.create()
    service.attempts.rows = tuple(attempt_row(id=one, event_id=f"evt_{one}", endpoint_id=1) for one in range(1, 4))
    service.attempts.sent = {f"evt_{one}": b"{}" for one in range(1, 4)}

    async with service.client.post(f"/api/webhook/resends?{query}") as response:
        assert response.status == 422, await response.text()

    assert service.runs._task is None
    assert [from_header(one.headers, DELIVERY_HEADER, DeliveryRecord) for one in service.kafka.to("webhooks.delay.0s")] == []


COUNT = Parameter("count", "", {"type": "integer"})
FLAG = Parameter("flag", "", {"type": "boolean"})


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("count", "1"), ("flag", "t"), ("q[x_eq]", "1"), ("q", "1"), (" q[x]", "2"), (" count ", "2")][:5], []),
        ([("count", "1"), ("count", "2")], ["count: it is given more than once; only the last value is used"]),
        ([("count", "1.5")], ["count: 1.5 is not a whole number"]),
        ([("count", "१")], ["count: १ is not a whole number"]),
        ([("count", "-7"), ("flag", "false")], []),
        ([("flag", "yes")], ["flag: yes is neither 1 nor 0"]),
        ([("flag", " ")], ["flag: it has no value; give it one, or leave it out"]),
        ([("counts", "")], ["counts: unknown parameter; known parameters: count, flag, q"]),
        ([("count[]", "1")], ["count[]: unknown parameter; known parameters: count, flag, q"]),
        ([("x\x00\ud800", "1")], ["x\\x00\\ud800: unknown parameter; known parameters: count, flag, q"]),
        ([("order_number_eq", "1")], ["order_number_eq: unknown parameter; filters look like q[order_number_eq]=R1"]),
        ([("qs", "1")] * 3, ["qs: unknown parameter; known parameters: count, flag, q"]),
    ],
)
def test_findings(pairs: list[tuple[str, str]], expected: list[str]) -> None:
    assert [one.note for one in findings((COUNT, FLAG, FILTERS, STRICT), pairs)] == expected


def test_a_filter_is_unknown_where_filters_are_not_accepted() -> None:
    assert [one.name for one in findings(PAGE, [("q[x_eq]", "1"), ("q", "2"), ("page", "1")])] == ["q[x_eq]", "q"]


async def test_the_last_value_of_a_repeated_parameter_counts_and_is_reported(service: Service) -> None:
    async with service.client.get("/api/webhook/attempts/histogram?bars=3&bars=7") as response:
        body = await response.json()
    assert body["interval_seconds"] == 7  # the store in memory returns the number of bars
    assert body["ignored_filters"] == ["bars: it is given more than once; only the last value is used"]


async def test_strict_is_a_boolean(service: Service) -> None:
    for value, expected in (("1", 422), ("true", 422), ("0", 200), ("", 200), ("yes", 422), ("2", 422)):
        async with service.client.get(f"/api/webhook/attempts?order=R1&strict={value}") as response:
            assert response.status == expected, value


async def test_strict_refuses_a_filter_without_a_value(service: Service) -> None:
    async with service.client.get("/api/webhook/attempts?q[order_number_eq]=&strict=1") as response:
        assert response.status == 422
        assert "q[order_number_eq] has no value" in (await response.json())["errors"]["q"][0]


async def test_a_drop_takes_one_count_and_nothing_else(service: Service) -> None:
    await service.create()
    [route] = [route for route in API_ROUTES if route.path.endswith("/held/drop")]
    for body, member in ((b'{"count": 1, "older_than": "3d"}', "older_than"), (b'{"count": 1, "count": 297}', "count")):
        status, answer = await ask(service, route, "", data=body)
        assert (status, list(answer["errors"])) == (422, [member])
