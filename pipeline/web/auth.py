"""API keys: ``Authorization: Bearer <key>``. Only digests of the keys are kept, and they are compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import SecretStr

from pipeline.web.errors import ApiError

_HOW = "send one in the header Authorization: Bearer <API key>."


class ApiKeys:
    """The keys that open the API."""

    def __init__(self, keys: Iterable[SecretStr]) -> None:
        """Take the digests of the keys.

        Raises:
            ValueError: there is none, or one is empty.
        """
        values = [key.get_secret_value() for key in keys]
        if not values or not all(values):
            message = "The HTTP API needs an API key: set OMS_WEBHOOKS_API_KEYS to one or more, comma-separated."
            raise ValueError(message)
        self._digests = [_digest(value) for value in values]

    def actor(self, authorization: str | None) -> str:
        """Who asks, for the audit: ``api-key:`` and the first 8 digits of the key's SHA-256.

        Raises:
            ApiError: 401, without a key or with a wrong one.
        """
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise _unauthorized(f"This needs an API key: {_HOW}")
        # A header's bytes that are not UTF-8 are lone surrogates.
        digest = _digest(key.strip())
        # Every key is compared, whichever matches: the time taken says nothing about them.
        if not sum(hmac.compare_digest(digest, known) for known in self._digests):
            raise _unauthorized(f"The API key is not one of this service's keys. Check it for missing characters, and {_HOW}")
        return f"api-key:{digest.hex()[:8]}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, message, headers={"WWW-Authenticate": "Bearer"})


def require_key(keys: ApiKeys) -> Middleware:
    """A middleware that lets nobody in without a key, not even to learn which paths exist."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        keys.actor(request.headers.get("Authorization"))
        return await handler(request)

    return middleware
