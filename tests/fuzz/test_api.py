"""Hostile requests to the real application: each is answered, never with a 500.

Most tests take seconds: each tries 200 requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.api_case import PATH, Attacked, attacked, check_endpoint
from tests.fuzz.strategies import ENDPOINTS, FUZZ, KEYS, QUERY_VALUES, TARGETS


@pytest.fixture(scope="module")
def api() -> Iterator[Attacked]:
    with attacked() as running:
        yield running


@FUZZ
@given(body=ENDPOINTS)
def test_a_body_makes_an_endpoint_or_is_refused(api: Attacked, body: bytes) -> None:
    check_endpoint(api, body)


@FUZZ
@given(target=TARGETS)
def test_a_target_url_makes_an_endpoint_or_is_refused(api: Attacked, target: str) -> None:
    body = json.dumps({"endpoint": {"target_url": target, "events": ["order_completed"]}})
    check_endpoint(api, body.encode())


def quoted(text: str) -> str:
    return quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe="")


SEGMENTS = st.sampled_from(
    ["1", "0", "-1", "1e3", "99999999999999999999", "%00", "%2e%2e", "..", "%ff", "%", "a/b", "", "1;x", "٣"]
)
PATHS = st.builds(
    lambda collection, segment: f"/api/webhook/{collection}{segment and '/' + segment}",
    st.sampled_from(["endpoints", "attempts", "attempts/facets", "attempts/histogram", "sql", "nothing"]),
    SEGMENTS | st.text(max_size=10).map(quoted) | st.integers().map(str),
) | st.text(max_size=20).map(lambda text: "/" + quoted(text))
PARAMETERS = (
    st.tuples(KEYS, QUERY_VALUES)
    | st.tuples(
        st.sampled_from(["include_attempts", "attempts_count", "page", "per_page", "after", "bars", "strict"]), QUERY_VALUES
    )
    | st.tuples(
        st.builds("q[{}_{}]".format, st.sampled_from(["active", "events", "id"]), st.sampled_from(["true", "eq", "in"])),
        QUERY_VALUES,
    )
)
QUERIES = st.lists(PARAMETERS, max_size=6).map(lambda pairs: "&".join(f"{quoted(key)}={quoted(value)}" for key, value in pairs))


@FUZZ
@given(
    method=st.sampled_from(["GET", "GET", "GET", "PUT", "PATCH", "DELETE", "POST", "HEAD", "OPTIONS", "BREW"]),
    path=PATHS,
    query=QUERIES,
)
def test_any_path_and_query_are_answered(api: Attacked, method: str, path: str, query: str) -> None:
    status, _ = api.ask(f"{method} {path}?{query}".encode("utf-8", "surrogatepass"))

    # 303: the dashboard redirects to its login. 403, 415: it accepts only forms, and only its own.
    assert status in {200, 303, 400, 403, 404, 405, 415, 422, 503}


@FUZZ
@given(target=st.binary(max_size=40), body=st.binary(max_size=40))
def test_raw_bytes_are_answered_or_the_connection_is_closed(api: Attacked, target: bytes, body: bytes) -> None:
    api.ask(b"POST " + PATH.encode() + target.replace(b"\r", b"").replace(b"\n", b""), body)


def endpoint(**fields: object) -> bytes:
    given = {"target_url": "http://127.0.0.1/giant", "events": ["order_completed"]} | fields
    return json.dumps({"endpoint": given}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b" " * 1_048_577,
        b"[" * 1_000_000,
        b'{"endpoint":' * 80_000,
        b'{"endpoint":{"x":' + b"[" * 500_000 + b"]" * 500_000 + b"}}",
        endpoint(description="x" * 1_000_000),
        endpoint(target_url="http://127.0.0.1/" + "x" * 1_000_000),
        endpoint(target_url="http://" + "a." * 500_000),
        endpoint(token="x" * 1_000_000),
        endpoint(events=["order_completed"] * 50_000),
        endpoint(events=["?" * 100] * 9_000),
        endpoint(filters={"a": ["x" * 1000] * 100, "." * 10_000: 1}),
        endpoint(filters={"x" * 100 + str(number): [None] * 100 for number in range(50)}),
        endpoint(filters={"a": ["\x00" * 1000] * 100}),
        endpoint(**{f"unknown{number}": number for number in range(50_000)}),
        endpoint(filters={"a": [1] * 300_000}),
        endpoint(filters={"a": "?"}).replace(b'"?"', b"9" * 1_000_000),
    ],
    ids=lambda body: f"{body[:12].decode()}... {len(body)}",
)
def test_a_body_of_a_megabyte_is_answered(api: Attacked, body: bytes) -> None:
    check_endpoint(api, body)


def test_ten_thousand_conditions_are_refused(api: Attacked) -> None:
    conditions = "&".join(f"q[order_number_{number}_eq]=1" for number in range(10_000))

    for path in ("attempts", "attempts/facets", "attempts/histogram"):
        status, refused = api.ask(f"GET /api/webhook/{path}?{conditions}".encode())
        assert (status, list(refused["errors"])) == (422, ["q"])
        assert api.ask(f"GET /api/webhook/{path}?".encode() + b"q[order_number_in][]=1&" * 330)[0] == 200


def test_a_query_string_of_two_megabytes_is_refused(api: Attacked) -> None:
    conditions = "&".join(f"q[order_number_eq]={number}" for number in range(80_000))

    assert api.ask(f"GET /api/webhook/attempts?{conditions}".encode())[0] in {0, 400, 414}
