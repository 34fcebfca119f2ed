"""Tokens for SASL OAUTHBEARER: from a file that another program keeps up to date, or from an OpenID provider with client
credentials (RFC 6749, 4.4).

kafka-python asks for a token at every connection, on its I/O thread. So a token is kept until most of its lifetime is over, the
wait for an answer is short, and an unavailable provider does no harm while the last token is valid.
"""

from __future__ import annotations

import math
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kafka.errors import KafkaConnectionError
from kafka.net.sasl.oauth import AbstractTokenProvider

from pipeline.ops.daemon_threads import DaemonThreads
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings

if TYPE_CHECKING:
    import httpx

log = logger(__name__)

_ANSWER_SECONDS: Final = 5.0
"""How long a client waits for the provider; at most half of a session, because the I/O thread sends no heartbeats in that time."""
_REFRESH_AT: Final = 0.8
"""The share of a token's lifetime after which it is refreshed. The rest is for a provider that is temporarily unavailable."""
_AGAIN_SECONDS: Final = 10.0
"""After a failure, the provider is not asked again for this long while the last token is valid, because the clients wait for it."""
_AGAIN_SOON_SECONDS: Final = 1.0
"""The same without a valid token: the clients that waited for the failed request must not repeat it one after the other."""
_ASSUMED_SECONDS: Final = 60.0
"""The lifetime of a token if the provider does not state it (``expires_in`` is optional)."""


class TokenError(KafkaConnectionError):  # type: ignore[misc]  # kafka-python is untyped
    """There is no token; the message says why, without secrets. kafka-python treats this as a failed connection, and retries."""


class _Token(NamedTuple):
    text: str
    refresh_at: float
    expires_at: float


class FileTokens(AbstractTokenProvider):  # type: ignore[misc]
    """Reads the token from the file for each connection."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def token(self) -> str:
        """The token.

        Raises:
            TokenError: the file cannot be read, or is empty.
        """
        try:
            text = self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise TokenError(f"kafka_oauth_token_file {self._path} cannot be read: {error}") from error
        if not text:
            raise TokenError(f"kafka_oauth_token_file {self._path} is empty")
        return text


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """How this process identifies itself to the provider. ``url``: of its token endpoint."""

    url: str
    id: str
    secret: str = field(repr=False)
    scope: str = ""
    ca_file: Path | None = None


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc]
    """Asks the provider. Used by several clients, each in its own thread."""

    def __init__(
        self, client: OAuthClient, *, answer_seconds: float = _ANSWER_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``answer_seconds``: how long :meth:`token` may take."""
        import httpx  # noqa: PLC0415 - few clusters use tokens, and every role loads this file

        super().__init__()
        self._url = client.url
        self._login = httpx.BasicAuth(client.id, client.secret)
        self._form = {"grant_type": "client_credentials"} | ({"scope": client.scope} if client.scope else {})
        self._verify = ssl.create_default_context(cafile=client.ca_file)
        self._answer_seconds = answer_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: _Token | None = None
        # In a thread, because httpx limits each step of a request, but not their sum: each address of the provider, each read.
        self._thread = DaemonThreads(1, "kafka token")
        self._asked: Future[None] | None = None
        self._problem = ""
        """The last failure."""
        self._ask_at = -math.inf
        """After a failure: when to ask again."""

    def token(self) -> str:
        """A token that is valid for a while.

        Raises:
            TokenError: the provider returns none, and the last one has expired.
        """
        with self._lock:
            now = self._clock()
            if now >= self._ask_at and (self._kept is None or now >= self._kept.refresh_at):
                self._renew()
            if self._kept is None or self._clock() >= self._kept.expires_at:
                raise TokenError(self._problem)
            return self._kept.text

    def _renew(self) -> None:
        """Ask for a token, and wait for it. If it comes later, it is kept for the next caller."""
        if self._asked is None or self._asked.done():
            self._asked = self._thread.submit(self._ask)
        try:
            self._asked.result(self._answer_seconds)
        except TokenError as error:
            self._postpone(str(error))
        except TimeoutError:
            self._postpone(f"kafka_oauth_token_url has not answered within {self._answer_seconds:g} s")

    def _postpone(self, problem: str) -> None:
        self._problem = problem
        now, expires_at = self._clock(), -math.inf if self._kept is None else self._kept.expires_at
        self._ask_at = max(min(now + _AGAIN_SECONDS, expires_at), now + _AGAIN_SOON_SECONDS)
        if expires_at > now:
            log.warning(
                "the token for Kafka could not be renewed, so the last one is used",
                seconds_left=int(expires_at - now),
                error=problem,
            )

    def _ask(self) -> None:
        self._kept = self._fetch()

    def _fetch(self) -> _Token:
        import httpx  # noqa: PLC0415 - as above

        now = self._clock()
        try:
            # No proxy and no .netrc from the environment: the secret is only sent to the configured address.
            with httpx.Client(verify=self._verify, timeout=_ANSWER_SECONDS, trust_env=False) as client:
                answer = client.post(self._url, data=self._form, auth=self._login)
        except httpx.HTTPError as error:
            raise TokenError(f"kafka_oauth_token_url cannot be reached: {str(error) or type(error).__name__}") from error
        if answer.status_code != httpx.codes.OK:
            raise TokenError(
                f"kafka_oauth_token_url answers {answer.status_code}{_error_code(answer)}; check the client id and secret"
            )
        try:
            content = answer.json()
            text, seconds = str(content["access_token"]), float(content.get("expires_in") or _ASSUMED_SECONDS)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TokenError(
                "kafka_oauth_token_url answers without an access_token in JSON; is it the token endpoint?"
            ) from error
        return _Token(text, now + seconds * _REFRESH_AT, now + seconds)


def _error_code(answer: httpx.Response) -> str:
    """The error code of RFC 6749, 5.2, if there is one."""
    try:
        error: Any = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f" ({str(error)[:100]})"


def token_provider(settings: Settings) -> AbstractTokenProvider:
    """The provider of these settings; all clients of a process share it."""
    if settings.kafka_oauth_token_file is not None:
        return FileTokens(settings.kafka_oauth_token_file)
    secret = settings.kafka_oauth_client_secret
    client = OAuthClient(
        settings.kafka_oauth_token_url,
        settings.kafka_oauth_client_id,
        secret.get_secret_value() if secret else "",
        settings.kafka_oauth_scope,
        settings.kafka_oauth_cafile,
    )
    return _client_credentials(client, min(_ANSWER_SECONDS, settings.kafka_session_timeout_ms / 1000 / 2))


@lru_cache(maxsize=8)
def _client_credentials(client: OAuthClient, answer_seconds: float) -> ClientCredentials:
    return ClientCredentials(client, answer_seconds=answer_seconds)
