"""Access tokens for endpoints that authenticate with OAuth 2.0 client credentials. One token serves many deliveries.

A token is renewed in the background before it expires. Deliveries that need the first token wait for the same request. If the
receiver answers 401, the token is renewed, and the attempt is repeated once with the new token. If no token can be obtained, the
attempt fails, and the failure counts as the endpoint's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Final, TypeAlias

from pipeline.core.exchange import MAX_DETAIL, Exchange, Failure, NoResponse, Request, Response
from pipeline.core.local_faults import NotSent
from pipeline.core.redaction import Redactor
from pipeline.core.token_response import GrantedToken, TokenAnswerError, TokenRequest, granted
from pipeline.endpoints.endpoint import Endpoint
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from pipeline.sender.client import Sender

log = logger(__name__)

_REFUSED_SECONDS: Final = 60.0
"""If a token that was renewed because of a 401 is refused too, renewing does not help: the next renewal waits this long."""

_AGAIN_SECONDS: Final = 5.0
"""How long to wait before the next try after an early renewal failed."""


@dataclass(slots=True)
class _AccessToken:
    value: str = field(repr=False)
    valid_until: float
    renew_at: float
    redactor: Redactor
    replaces_refused: bool
    """It was requested because the receiver refused the previous one."""
    asked_at: float
    is_accepted: bool = False
    """The receiver answered something other than 401 to it."""


@dataclass(slots=True)
class _Client:
    """The tokens of one endpoint. They are discarded if its token request changes."""

    question: TokenRequest
    token: _AccessToken | None = None
    asking: asyncio.Task[_Answer] | None = None


_Answer: TypeAlias = _AccessToken | NoResponse | NotSent


class AccessTokens:
    """One per process that delivers. Used from the event loop only."""

    def __init__(self, sender: Sender, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: monotonic seconds."""
        self._sender = sender
        self._clock = clock
        self._clients: dict[int, _Client] = {}

    async def post(
        self, endpoint: Endpoint, question: TokenRequest, request: Request, on_start: Callable[[], None] | None = None
    ) -> Exchange | NotSent:
        """Send a request with an access token. The tokens are removed from the answer.

        ``on_start`` is also called before a wait for a token: if the token endpoint hangs, the endpoint is slow.
        """
        client = self._client(endpoint.id, question)
        token = await self._token(client, on_start)
        if not isinstance(token, _AccessToken):
            return token
        exchange = await self._sender.post(_authorized(request, token), on_start)
        if _is_refused(exchange) and self._may_renew(client, token):
            if client.token is token:
                client.token = None
            renewed = await self._token(client, replaces_refused=True)
            if not isinstance(renewed, _AccessToken):
                return renewed
            first, token = token, renewed
            exchange = await self._sender.post(_authorized(request, token))
            if not isinstance(exchange, NotSent):
                exchange = first.redactor.redact(exchange)
        if isinstance(exchange, NotSent):
            return exchange
        if not _is_refused(exchange) and isinstance(exchange, Response):
            token.is_accepted = True
        return token.redactor.redact(exchange)

    def forget(self, endpoint_id: int) -> None:
        """Drop the tokens of an endpoint that nothing is sent to any more."""
        self._clients.pop(endpoint_id, None)

    def _client(self, endpoint_id: int, question: TokenRequest) -> _Client:
        client = self._clients.get(endpoint_id)
        if client is None or client.question != question:
            client = self._clients[endpoint_id] = _Client(question)
        return client

    async def _token(
        self, client: _Client, on_wait: Callable[[], None] | None = None, *, replaces_refused: bool = False
    ) -> _Answer:
        """The current token while it is valid, otherwise the one that is being requested."""
        known, now = client.token, self._clock()
        if known is not None and now < known.renew_at:
            return known
        if client.asking is None:
            client.asking = asyncio.get_running_loop().create_task(self._ask(client, replaces_refused=replaces_refused))
        if known is not None and now < known.valid_until:
            known.renew_at = now + _AGAIN_SECONDS  # in case the renewal fails
            return known
        if on_wait is not None:
            on_wait()
        # One waiting delivery may be cancelled, but the others still need the answer.
        return await asyncio.shield(client.asking)

    async def _ask(self, client: _Client, *, replaces_refused: bool) -> _Answer:
        asked_at = self._clock()
        try:
            exchange = await self._sender.post(client.question.request())
            if isinstance(exchange, NotSent):
                return _named(exchange)
            try:
                found = granted(exchange)
            except TokenAnswerError as error:
                metrics.TOKEN_REQUESTS.labels("failed").inc()
                detail = Redactor(client.question.secrets).redact(_failure(str(error), exchange.duration_ms))
                log.info("no access token", reason=detail.detail if isinstance(detail, NoResponse) else "")
                return detail if isinstance(detail, NoResponse) else _failure("The token endpoint returned no token.", 0.0)
            metrics.TOKEN_REQUESTS.labels("granted").inc()
            client.token = _access_token(found, asked_at, replaces_refused=replaces_refused)
            return client.token
        finally:
            client.asking = None

    def _may_renew(self, client: _Client, refused: _AccessToken) -> bool:
        """Whether another token may help. Not if a token that was just renewed has been refused immediately."""
        if client.token is not refused:  # another delivery has renewed it
            return True
        return refused.is_accepted or not refused.replaces_refused or self._clock() - refused.asked_at > _REFUSED_SECONDS


def _access_token(found: GrantedToken, asked_at: float, *, replaces_refused: bool) -> _AccessToken:
    return _AccessToken(
        found.token,
        valid_until=asked_at + found.lifetime,
        renew_at=asked_at + found.renewed_after,
        redactor=Redactor([found.token]),
        replaces_refused=replaces_refused,
        asked_at=asked_at,
    )


def _authorized(request: Request, token: _AccessToken) -> Request:
    return replace(request, headers={**request.headers, "authorization": f"Bearer {token.value}"})


def _is_refused(exchange: Exchange | NotSent) -> bool:
    return isinstance(exchange, Response) and exchange.status == HTTPStatus.UNAUTHORIZED


def _failure(sentence: str, duration_ms: float) -> NoResponse:
    return NoResponse(Failure.TOKEN_ENDPOINT, sentence[:MAX_DETAIL], duration_ms)


def _named(own: NotSent) -> NotSent:
    """A fault on our side during the token request. If it is charged to the endpoint later, its text names the token endpoint."""
    if own.otherwise is None:
        return own
    sentence = f"The token endpoint returned no usable response. {own.otherwise.detail}"
    return replace(own, otherwise=_failure(sentence, own.otherwise.duration_ms))
