"""Access tokens: requested once, renewed before they expire and after a 401, and named in failures."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import parse_qs

import pytest
from msgspec.structs import replace

from pipeline.core.exchange import Exchange, Failure, NoResponse, Request, Response
from pipeline.core.fair_share import FairShare, ShareLimits
from pipeline.core.local_faults import LocalFault, NotSent
from pipeline.core.token_response import TokenAnswerError, TokenRequest, granted
from pipeline.delivery.access_tokens import AccessTokens
from pipeline.endpoints.endpoint import open_endpoint
from pipeline.sender.client import Sender
from schemas.authentication import AuthenticationRecord
from schemas.endpoint import SealedSecret
from tests.unit.delivery.delivery_case import SECRET, VAULT, Scene, answer
from tests.unit.sample_events import endpoint_record

TOKEN_URL = "https://login.example.com/token"
QUESTION = TokenRequest(TOKEN_URL, "oms", "s3cret-of-ours", ("webhooks", "orders"))
RECORD = endpoint_record(secrets=(SealedSecret(sealed=VAULT.seal(SECRET)),))
AUTHENTICATION = AuthenticationRecord(
    type="oauth2_client_credentials", sealed_secret=VAULT.seal("s3cret-of-ours"), token_url=TOKEN_URL, client_id="oms"
)
ENDPOINT = open_endpoint(replace(RECORD, authentication=AUTHENTICATION), VAULT)
REQUEST = Request(ENDPOINT.target_url, {"webhook-id": "evt_1"}, b"{}")


def token_response(token: str = "access-token-1", **more: Any) -> Response:
    document = {"access_token": token, "token_type": "Bearer", "expires_in": 3600} | more
    return answer(200, body=json.dumps(document).encode())


class Provider:
    """Token endpoint and receiver in one sender. Tokens are numbered."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.delivered: list[str] = []
        self.answer: Exchange | NotSent | None = None
        self.receive: Callable[[str], Exchange] = lambda _: answer(200)
        self.before_token = asyncio.Event()
        self.before_token.set()
        self.is_asked = asyncio.Event()
        self.now = 1000.0
        self.tokens = AccessTokens(cast("Sender", self), lambda: self.now)

    async def post(self, request: Request, on_start: Callable[[], None] | None = None) -> Exchange | NotSent:
        if on_start is not None:
            on_start()
        if request.url == TOKEN_URL:
            self.asked.append(request)
            self.is_asked.set()
            await self.before_token.wait()
            return self.answer or token_response(f"access-token-{len(self.asked)}")
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.delivered.append(token)
        return self.receive(token)

    async def deliver(self, question: TokenRequest = QUESTION) -> Exchange | NotSent:
        return await self.tokens.post(ENDPOINT, question, REQUEST)


async def test_many_deliveries_share_one_token_request() -> None:
    provider = Provider()
    provider.before_token.clear()
    in_progress = [asyncio.create_task(provider.deliver()) for _ in range(50)]
    await provider.is_asked.wait()
    in_progress[0].cancel()  # the first one may be cancelled: the others still want the answer
    await asyncio.sleep(0)
    provider.before_token.set()
    done = await asyncio.gather(*in_progress, return_exceptions=True)

    assert [type(one).__name__ for one in done] == ["CancelledError", *["Response"] * 49]
    assert len(provider.asked) == 1
    assert set(provider.delivered) == {"access-token-1"}


async def test_a_token_endpoint_that_hangs_makes_the_endpoint_slow() -> None:
    provider, shares = Provider(), FairShare(ShareLimits(width=64, slow_seconds=1.0, slow_budget=256))
    provider.before_token.clear()
    place = shares.enter(ENDPOINT.id, provider.now)
    assert place is not None

    def start() -> None:
        shares.start(ENDPOINT.id, place, provider.now)

    delivering = asyncio.create_task(provider.tokens.post(ENDPOINT, QUESTION, REQUEST, start))
    await provider.is_asked.wait()
    provider.now += 2
    assert shares.is_slow(ENDPOINT.id, provider.now)

    provider.before_token.set()
    await delivering
    shares.leave(ENDPOINT.id, place, provider.now)
    assert not shares.is_slow(ENDPOINT.id, provider.now), "the receiver itself answered at once"


async def test_the_form_and_the_header_of_a_token_request() -> None:
    provider = Provider()
    await provider.deliver()
    (asked,) = provider.asked
    assert parse_qs(asked.body.decode()) == {"grant_type": ["client_credentials"], "scope": ["webhooks orders"]}
    assert base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")) == b"oms:s3cret-of-ours"
    # RFC 6749, 2.3.1: both are encoded as in a form.
    odd = TokenRequest(TOKEN_URL, "a:b", "c d%", audience="https://api.example.com")
    assert base64.b64decode(odd.request().headers["authorization"].removeprefix("Basic ")) == b"a%3Ab:c%20d%25"
    assert parse_qs(odd.request().body.decode())["audience"] == ["https://api.example.com"]
    in_form = TokenRequest(TOKEN_URL, "a:b", "c d%", is_in_form=True).request()
    assert "authorization" not in in_form.headers
    assert parse_qs(in_form.body.decode())["client_secret"] == ["c d%"]


async def test_a_token_is_renewed_before_it_expires_and_nobody_waits() -> None:
    provider = Provider()
    await provider.deliver()
    provider.now += 3539
    await provider.deliver()
    assert len(provider.asked) == 1
    provider.now += 1
    provider.before_token.clear()
    await provider.deliver()  # the old one is still valid
    assert provider.delivered == ["access-token-1"] * 3
    provider.before_token.set()
    while len(provider.asked) < 2 or provider.delivered[-1] == "access-token-1":
        await asyncio.sleep(0)
        await provider.deliver()
    assert provider.delivered[-1] == "access-token-2"
    assert len(provider.asked) == 2


async def test_a_token_that_cannot_be_renewed_early_is_used_until_it_expires() -> None:
    provider = Provider()
    await provider.deliver()
    provider.now += 3550
    provider.answer = answer(503)
    for _ in range(10):
        await provider.deliver()
        await asyncio.sleep(0)
    assert set(provider.delivered) == {"access-token-1"}
    assert len(provider.asked) == 2  # it is not requested again with each delivery
    provider.now += 50
    failed = await provider.deliver()
    assert isinstance(failed, NoResponse)
    assert failed.failure is Failure.TOKEN_ENDPOINT
    assert failed.detail == "The token endpoint returned 503 (Service Unavailable)."


async def test_a_401_renews_the_token_once() -> None:
    provider = Provider()
    provider.receive = lambda token: answer(401 if token == "access-token-1" else 200)
    assert cast("Response", await provider.deliver()).status == 200
    assert provider.delivered == ["access-token-1", "access-token-2"]
    provider.receive = lambda token: answer(401 if token == "access-token-2" else 200)
    assert cast("Response", await provider.deliver()).status == 200
    assert len(provider.asked) == 3


async def test_a_receiver_that_refuses_every_token_does_not_cause_a_request_per_delivery() -> None:
    provider = Provider()
    provider.receive = lambda _: answer(401)
    for _ in range(10):
        assert cast("Response", await provider.deliver()).status == 401
    assert len(provider.asked) == 2
    provider.now += 61
    await provider.deliver()
    assert len(provider.asked) == 3


async def test_concurrent_401s_renew_the_token_once() -> None:
    provider = Provider()
    await provider.deliver()
    provider.receive = lambda token: answer(401 if token == "access-token-1" else 200)
    done = await asyncio.gather(*(provider.deliver() for _ in range(20)))
    assert {cast("Response", one).status for one in done} == {200}
    assert len(provider.asked) == 2


async def test_a_different_token_request_gets_its_own_token() -> None:
    provider = Provider()
    await provider.deliver()
    await provider.deliver(TokenRequest(TOKEN_URL, "oms", "another-s3cret"))
    assert provider.delivered == ["access-token-1", "access-token-2"]
    provider.tokens.forget(ENDPOINT.id)
    await provider.deliver()
    assert provider.delivered[-1] == "access-token-3"


async def test_the_token_is_redacted_from_the_receivers_answer() -> None:
    provider = Provider()
    provider.receive = lambda token: answer(500, (("x-echo", f"Bearer {token}"),), f"you sent {token}".encode())
    echoed = cast("Response", await provider.deliver())
    assert echoed.body == b"you sent [redacted]"
    assert "access-token-1" not in str(echoed.headers)
    provider.receive = lambda token: answer(401, body=b"access-token-1 access-token-2")  # both tokens that were sent
    assert b"access-token" not in cast("Response", await provider.deliver()).body


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (answer(503), "returned 503 (Service Unavailable)"),
        (answer(401, body=b'{"error": "invalid_client"}'), "returned 401 (invalid_client)"),
        (answer(400, body=b'{"error": "your secret s3cret-of-ours"}'), "returned 400 (Bad Request)"),
        (answer(302, (("location", "https://evil.example.com"),)), "returned 302"),
        (answer(200, body=b"<html>"), "other than a JSON object"),
        (answer(200, body=b"[" * 100_000), "other than a JSON object"),
        (answer(200, body=b'{"token_type": "Bearer"}'), "without a usable access_token"),
        (token_response("a\r\nb: c"), "without a usable access_token"),
        (token_response("x" * 9000), "without a usable access_token"),
        (token_response(token_type="mac"), "a type other than Bearer"),
        (Response(200, (), b"{", body_truncated=True, duration_ms=1.0, first_byte_ms=1.0), "too large"),
        (NoResponse(Failure.CONNECTION_REFUSED, "login.example.com: refused, s3cret-of-ours.", 5.0), "no usable response. login"),
    ],
)
async def test_an_unusable_token_answer_is_a_failure_of_the_endpoint(given: Exchange, sentence: str) -> None:
    provider = Provider()
    provider.answer = given
    failed = await provider.deliver()
    assert isinstance(failed, NoResponse)
    assert (failed.failure, failed.status, failed.body) == (Failure.TOKEN_ENDPOINT, None, b"")
    assert failed.detail.startswith("The token endpoint")
    assert sentence in failed.detail
    assert "s3cret" not in failed.detail
    assert not provider.delivered


async def test_an_own_fault_remains_an_own_fault() -> None:
    provider = Provider()
    doubt = NoResponse(Failure.DNS, "login.example.com: the host name does not resolve.", 5.0)
    provider.answer = NotSent(LocalFault.RESOLVER, "The resolver does not answer.", doubt)
    own = await provider.deliver()
    assert isinstance(own, NotSent)
    assert own.otherwise is not None
    assert own.otherwise.detail == f"The token endpoint returned no usable response. {doubt.detail}"


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (3600, 3600),
        ("3600", 3600),
        (0, 300),
        (-1, 300),
        (None, 300),
        (True, 300),
        ("soon", 300),
        (1e12, 86_400),
        (float("nan"), 300),
    ],
)
def test_token_lifetimes(expires_in: object, lifetime: float) -> None:
    assert granted(token_response(expires_in=expires_in)).lifetime == lifetime


def test_a_token_without_a_type_is_accepted() -> None:
    assert granted(answer(200, body=b'{"access_token": "abc"}')).token == "abc"
    with pytest.raises(TokenAnswerError):
        granted(answer(204))


async def test_an_attempt_records_that_there_was_no_token() -> None:
    scene = Scene()
    scene.sender.exchange = answer(503, body=b'{"error": "temporarily_unavailable"}')
    await scene.deliver(ENDPOINT)
    (attempt,) = scene.attempts()
    assert (attempt.failure, attempt.http_status_code) == ("token_endpoint", None)
    assert attempt.error == "The token endpoint returned 503 (temporarily_unavailable)."
    assert "s3cret-of-ours" not in repr(attempt)
