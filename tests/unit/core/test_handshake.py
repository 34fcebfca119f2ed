"""The CloudEvents handshake: the request, and what an answer means."""

from __future__ import annotations

import pytest

from pipeline.core.exchange import Failure, NoResponse, Response
from pipeline.core.handshake import VerificationResult, handshake_request, judge_handshake

ORIGIN = "hooks.example.com"


def response(status: int, **headers: str) -> Response:
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Response(status, named, b"", body_truncated=False, duration_ms=1.0, first_byte_ms=1.0)


def test_the_request_has_an_origin_and_no_credentials() -> None:
    request = handshake_request("https://a.example.com/", ORIGIN)
    assert (request.method, dict(request.headers), request.body) == ("OPTIONS", {"webhook-request-origin": ORIGIN}, b"")


@pytest.mark.parametrize(
    ("answer", "most"),
    [
        (response(200, WebHook_Allowed_Origin=ORIGIN), None),
        (response(204, webhook_allowed_origin="HOOKS.example.com"), None),
        (response(200, WebHook_Allowed_Origin="*"), None),
        (response(200, WebHook_Allowed_Origin=ORIGIN, WebHook_Allowed_Rate="*"), None),
        (response(200, WebHook_Allowed_Origin=ORIGIN, WebHook_Allowed_Rate="119"), 1),
        (response(200, WebHook_Allowed_Origin=ORIGIN, WebHook_Allowed_Rate="6000"), 100),
    ],
)
def test_answers_that_verify(answer: Response, most: int | None) -> None:
    assert judge_handshake(answer, ORIGIN) == VerificationResult("", most)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (response(200), "no WebHook-Allowed-Origin header"),
        (response(405, WebHook_Allowed_Origin="*"), "returned 405 for OPTIONS"),
        (response(301, WebHook_Allowed_Origin="*"), "returned 301 for OPTIONS"),
        (response(200, WebHook_Allowed_Origin="other.example.com"), "It allows the origin 'other.example.com'"),
        (response(200, WebHook_Allowed_Origin=""), "It allows the origin ''"),
        (response(200, WebHook_Allowed_Origin="*.example.com"), "It allows the origin"),
        (response(200, WebHook_Allowed_Origin="*", WebHook_Allowed_Rate="59"), "At least 60"),
        (response(200, WebHook_Allowed_Origin="*", WebHook_Allowed_Rate="many"), "must be a whole number"),
        (response(200, WebHook_Allowed_Origin="*", WebHook_Allowed_Rate="9" * 5000), "must be a whole number"),
        (
            NoResponse(Failure.BLOCKED_ADDRESS, "a.example.com is private.", 1.0),
            "no response to OPTIONS: a.example.com is private.",
        ),
    ],
)
def test_answers_that_do_not_verify(answer: Response | NoResponse, sentence: str) -> None:
    problem = judge_handshake(answer, ORIGIN).problem
    assert sentence in problem
    assert len(problem) < 400
