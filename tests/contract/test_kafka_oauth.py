"""Tokens for OAUTHBEARER: from a real endpoint on loopback, and from a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.broker.kafka.oauth import ClientCredentials, FileTokens, OAuthClient, TokenError, token_provider
from pipeline.ops.settings import Settings
from tests.contract.token_endpoint import CLIENT_ID, CLIENT_SECRET, GRANTED, TokenEndpoint, token_endpoint
from tests.waiting import wait_until


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    with token_endpoint() as one:
        yield one


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def credentials(endpoint: TokenEndpoint, clock: Clock, secret: str = CLIENT_SECRET) -> ClientCredentials:
    return ClientCredentials(OAuthClient(endpoint.url, CLIENT_ID, secret, scope="kafka"), clock=clock)


def test_a_token_is_fetched_once_and_again_before_it_expires(endpoint: TokenEndpoint) -> None:
    clock = Clock()
    provider = credentials(endpoint, clock)
    first = provider.token()
    clock.now += 3600 * 0.79
    assert provider.token() == first
    clock.now += 3600 * 0.02
    assert provider.token() != first
    assert endpoint.asked == [GRANTED, GRANTED]


def test_an_unavailable_provider_is_harmless_while_the_token_is_valid(endpoint: TokenEndpoint) -> None:
    clock = Clock()
    provider = credentials(endpoint, clock)
    first = provider.token()
    endpoint.answer = (503, b"")
    clock.now += 3600 * 0.95
    assert provider.token() == first
    clock.now += 3600 * 0.1
    with pytest.raises(TokenError, match="answers 503"):
        provider.token()


def test_an_unavailable_provider_is_not_asked_by_each_client_in_turn(endpoint: TokenEndpoint) -> None:
    """Each request may take seconds, in which a client sends no heartbeats."""
    clock = Clock()
    provider = credentials(endpoint, clock)
    first = provider.token()
    endpoint.answer = (503, b"")
    clock.now += 3600 * 0.9
    assert [provider.token() for _ in range(3)] == [first] * 3
    assert len(endpoint.asked) == 2
    clock.now += 11
    assert provider.token() == first
    assert len(endpoint.asked) == 3
    clock.now += 3600 * 0.1
    for _ in range(3):
        with pytest.raises(TokenError, match="answers 503"):
            provider.token()
    assert len(endpoint.asked) == 4
    endpoint.answer = None
    clock.now += 1.1
    assert provider.token() != first


def test_an_expired_token_is_not_used_after_a_recent_failure(endpoint: TokenEndpoint) -> None:
    clock = Clock()
    provider = credentials(endpoint, clock)
    first = provider.token()
    endpoint.answer = (503, b"")
    clock.now += 3598
    assert provider.token() == first
    endpoint.answer = None
    clock.now += 3
    assert provider.token() != first


def test_no_wait_takes_half_a_session_and_a_late_answer_is_used(endpoint: TokenEndpoint) -> None:
    """It takes a second, after which the late answer comes."""
    settings = Settings(
        kafka_oauth_token_url=endpoint.url,
        kafka_oauth_client_id=CLIENT_ID,
        kafka_oauth_client_secret=SecretStr(CLIENT_SECRET),
        kafka_oauth_scope="kafka",
        kafka_session_timeout_ms=1_000,
    )
    endpoint.seconds = 1.0
    provider = token_provider(settings)
    began = time.monotonic()
    with pytest.raises(TokenError, match=r"has not answered within 0\.5 s"):
        provider.token()
    assert time.monotonic() - began < 0.9

    def late_token() -> str | None:
        try:
            token: str = provider.token()
        except TokenError:
            return None
        return token

    wait_until(late_token)
    assert endpoint.asked == [GRANTED]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((400, b'{"error": "invalid_scope"}'), r"answers 400 \(invalid_scope\)"),
        ((200, b'{"token": "x"}'), "without an access_token"),
        ((200, b"<html>"), "without an access_token"),
        ((200, b'["access_token"]'), "without an access_token"),
        ((302, b""), "answers 302"),
    ],
)
def test_an_answer_without_a_token_is_reported(endpoint: TokenEndpoint, answer: tuple[int, bytes], said: str) -> None:
    endpoint.answer = answer
    with pytest.raises(TokenError, match=said):
        credentials(endpoint, Clock()).token()


def test_a_wrong_secret_is_not_shown(endpoint: TokenEndpoint) -> None:
    with pytest.raises(TokenError, match=r"answers 401 \(invalid_client\); check the client id and secret") as caught:
        credentials(endpoint, Clock(), "wrong-hunter2").token()
    assert "hunter2" not in str(caught.value)


def test_no_provider_listens() -> None:
    with pytest.raises(TokenError, match="cannot be reached"):
        ClientCredentials(OAuthClient("http://127.0.0.1:9/token", CLIENT_ID, CLIENT_SECRET)).token()


def test_a_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    provider = FileTokens(path)
    with pytest.raises(TokenError, match="cannot be read"):
        provider.token()
    for token in ("first", "second"):
        path.write_text(f"{token}\n")
        assert provider.token() == token
    path.write_text("\n")
    with pytest.raises(TokenError, match="is empty"):
        provider.token()
