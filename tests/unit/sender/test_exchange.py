from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.exchange import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    Failure,
    NoResponse,
    Request,
    Response,
    bounded_headers,
)

texts = st.text(st.characters(codec="utf-8") | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))


def test_words_of_the_failures_do_not_change() -> None:
    assert {failure.name: failure.value for failure in Failure} == {
        "TIMEOUT": "timeout",
        "CONNECT_TIMEOUT": "connect_timeout",
        "CONNECTION_REFUSED": "connection_refused",
        "CONNECTION_RESET": "connection_reset",
        "DNS": "dns",
        "TLS": "tls",
        "TRUNCATED": "truncated_response",
        "INVALID_RESPONSE": "invalid_response",
        "BLOCKED_ADDRESS": "blocked_address",
        "INVALID_TARGET": "invalid_target",
        "CONNECTION": "connection_error",
        "TOKEN_ENDPOINT": "token_endpoint",
    }


def test_repr_of_a_request_has_no_secrets() -> None:
    request = Request("https://hooks.example.com/", {"Authorization": "Bearer hush"}, b"hush")
    assert "hush" not in repr(request)


def test_exchanges_are_values() -> None:
    failure = NoResponse(Failure.DNS, "No such host.", 1.5)
    assert failure == NoResponse(Failure.DNS, "No such host.", 1.5, status=None, headers=(), body=b"")
    with pytest.raises(dataclasses.FrozenInstanceError):
        failure.status = 201  # type: ignore[misc]
    assert Response(200, (("A", "b"),), b"", False, 2.0, 1.0) == Response(200, (("A", "b"),), b"", False, 2.0, 1.0)


def test_only_the_first_headers_are_kept() -> None:
    headers = [(f"X-{number}", "v") for number in range(MAX_HEADERS + 10)]
    assert bounded_headers(headers) == tuple(headers[:MAX_HEADERS])
    assert bounded_headers([("A", "x" * (MAX_HEADER_BYTES - 1))]) == (("A", "x" * (MAX_HEADER_BYTES - 1)),)
    assert bounded_headers([("A", "x" * MAX_HEADER_BYTES), ("B", "c")]) == ()


@given(st.lists(st.tuples(st.text("abcXYZ-", min_size=1), texts)))
def test_headers_are_limited_and_can_be_encoded(headers: list[tuple[str, str]]) -> None:
    kept = bounded_headers(headers)
    assert len(kept) <= min(len(headers), MAX_HEADERS)
    assert sum(len(name.encode()) + len(value.encode()) for name, value in kept) <= MAX_HEADER_BYTES
    assert [name for name, _ in kept] == [name for name, _ in headers][: len(kept)]
