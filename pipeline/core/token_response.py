"""The request to a token endpoint (RFC 6749, 4.4), and the meaning of its answer. Pure. No sentence contains secrets or tokens."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

from pipeline.core.exchange import Exchange, NoResponse, Request, Response

USUAL_SECONDS: Final = 300.0
"""How long to use a token that does not state its lifetime."""
_MAX_SECONDS: Final = 86_400.0
_MARGIN: Final = 60.0
"""How many seconds before its end a token is renewed; a fifth of its lifetime, if that is shorter."""
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,8192}")
_KNOWN_ERRORS: Final = frozenset(
    [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "access_denied",
        "server_error",
        "temporarily_unavailable",
    ]
)
"""Errors that a sentence may name. Any other text could contain anything."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """The request for a token."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scopes: Sequence[str] = ()
    audience: str | None = None
    is_in_form: bool = False
    """Whether id and secret are sent in the form instead of a header."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must not appear in a recorded answer."""
        forms = () if self.is_in_form else (_basic(self.client_id, self.client_secret),)
        return (self.client_secret, *forms)

    def request(self) -> Request:
        """The POST request for a token."""
        form = {"grant_type": "client_credentials"}
        if self.scopes:
            form["scope"] = " ".join(self.scopes)
        if self.audience is not None:
            form["audience"] = self.audience
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        if self.is_in_form:
            form |= {"client_id": self.client_id, "client_secret": self.client_secret}
        else:
            headers["authorization"] = _basic(self.client_id, self.client_secret)
        return Request(self.token_url, headers, urlencode(form).encode())


def _basic(client_id: str, client_secret: str) -> str:
    # Both are first encoded as in a form (section 2.3.1). Some servers do not decode a plus there, so a space is %20.
    pair = f"{quote(client_id, safe='')}:{quote(client_secret, safe='')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


@dataclass(frozen=True, slots=True)
class GrantedToken:
    """An access token, its lifetime in seconds, and after how many seconds it is renewed."""

    token: str = field(repr=False)
    lifetime: float
    renewed_after: float


class TokenAnswerError(Exception):
    """A token endpoint returned no token; ``str(error)`` is a sentence that says why."""


def granted(exchange: Exchange) -> GrantedToken:
    """The token in an answer.

    Raises:
        TokenAnswerError: there is none.
    """
    if isinstance(exchange, NoResponse):
        raise TokenAnswerError(f"The token endpoint returned no usable response. {exchange.detail}")
    if exchange.status != HTTPStatus.OK:
        raise TokenAnswerError(f"The token endpoint returned {exchange.status}{_named(exchange)}.")
    if exchange.body_truncated:
        raise TokenAnswerError("The token endpoint's response is too large.")
    document = _document(exchange)
    if document is None:
        raise TokenAnswerError("The token endpoint returned 200 with something other than a JSON object.")
    token = document.get("access_token")
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise TokenAnswerError("The token endpoint returned 200 without a usable access_token.")
    kind = document.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise TokenAnswerError("The token endpoint returned a token of a type other than Bearer.")
    lifetime = _lifetime(document.get("expires_in"))
    return GrantedToken(token, lifetime, lifetime - min(_MARGIN, lifetime / 5))


def _lifetime(value: object) -> float:
    """Some providers write the number as text."""
    try:
        seconds = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else USUAL_SECONDS
    except (ValueError, OverflowError):
        return USUAL_SECONDS
    return min(seconds, _MAX_SECONDS) if seconds > 0 else USUAL_SECONDS


def _document(answer: Response) -> dict[str, Any] | None:
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _named(answer: Response) -> str:
    error = (_document(answer) or {}).get("error")
    if isinstance(error, str) and error in _KNOWN_ERRORS:
        return f" ({error})"
    try:
        return f" ({HTTPStatus(answer.status).phrase})"
    except ValueError:
        return ""
