"""API keys: ``Authorization: Bearer <key>``. Only digests of the keys are kept, and they are compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import SecretStr

from pipeline.web.client_address import Networks, client_address
from pipeline.web.errors import HOW_TO_SEND_A_KEY, ApiError, UnauthorizedError, WrongKeyError
from pipeline.web.login_throttle import LoginThrottle
from pipeline.web.routes import Route
from schemas.api_key import Access, ApiKeyRecord

_ID_DIGITS: Final = 8
_ACTOR: Final = "api-key:"

DeclaredT = TypeVar("DeclaredT")


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller: ``actor`` identifies the key in the audit log, ``role`` is its role."""

    actor: str
    role: Access

    @property
    def key_id(self) -> str:
        return self.actor.removeprefix(_ACTOR)


PRINCIPAL: Final = web.RequestKey("principal", Principal)


class ApiKeys:
    """The valid API keys: those in the settings, which are admin keys, and those that were created with the API."""

    def __init__(self, keys: Iterable[SecretStr] = (), created: Callable[[], Iterable[ApiKeyRecord]] = tuple) -> None:
        """Store the digests of the keys in the settings. ``created`` returns the other keys that are valid now.

        Raises:
            ValueError: a key is empty.
        """
        values = [key.get_secret_value() for key in keys]
        if not all(values):
            raise ValueError("An API key is empty. Set OMS_WEBHOOKS_API_KEYS to one or more keys, comma-separated.")
        self._digests = [digest(value) for value in values]
        self._created = created

    def __bool__(self) -> bool:
        """Whether the settings have a key."""
        return bool(self._digests)

    def principal(self, authorization: str | None) -> Principal:
        """The caller. The actor is ``api-key:`` and the id of the key: the first 8 digits of its SHA-256.

        Raises:
            ApiError: 401, the key is missing or wrong.
        """
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise UnauthorizedError(f"This needs an API key. {HOW_TO_SEND_A_KEY}")
        return self.owner(key.strip())

    def owner(self, key: str) -> Principal:
        """The owner of a key.

        Raises:
            WrongKeyError: the key is not valid.
        """
        given = digest(key)
        # Compare with every key, so that the duration reveals nothing about them.
        roles = [role for one, role in self._known() if hmac.compare_digest(given, one)]
        if not roles:
            raise WrongKeyError
        return Principal(f"{_ACTOR}{key_id(given)}", roles[0])

    def named(self, identifier: str) -> Principal | None:
        """The holder of the key with this id, or None if the key is no longer valid. For callers that have presented the key before."""
        roles = [role for one, role in self._known() if key_id(one) == identifier]
        return Principal(f"{_ACTOR}{identifier}", roles[0]) if roles else None

    def _known(self) -> list[tuple[bytes, Access]]:
        known = [(one, Access.ADMIN) for one in self._digests]
        return known + [(bytes.fromhex(record.sha256), record.role) for record in self._created()]


def digest(key: str) -> bytes:
    """The SHA-256 of a key. Keys are long and random, so they need no slow hash as passwords do."""
    # Header bytes that are not UTF-8 arrive as lone surrogates.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def key_id(digest_of_key: bytes) -> str:
    """The id of a key. It is of no help in guessing the key."""
    return digest_of_key.hex()[:_ID_DIGITS]


def authorize(
    keys: ApiKeys,
    routes: Mapping[tuple[str, str], Route[Any]],
    login_throttle: LoginThrottle,
    proxies: Networks = (),
    on_use: Callable[[str], None] = lambda _: None,
) -> Middleware:
    """A middleware that requires a key with the necessary role, even to learn which paths exist.

    ``on_use`` is called with the id of each key that was used.
    """
    public = {path for (_, path), route in routes.items() if route.access is None}

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = declared(request, routes)
        # If nothing matched, the handler answers 404 or 405. A client that may see a path may know its methods.
        needs_no_key = request.path in public if route is None else route.access is None
        if needs_no_key:
            return await handler(request)
        who = login_throttle.checked(
            client_address(request, proxies), lambda: keys.principal(request.headers.get("Authorization"))
        )
        if route is not None and route.access is not None:
            require_role(who, route.access)
        request[PRINCIPAL] = who
        on_use(who.key_id)
        return await handler(request)

    return middleware


def require_role(who: Principal, needed: Access) -> None:
    """Raise ApiError (403) if the caller's role is too low."""
    if not who.role.covers(needed):
        raise ApiError(403, f"This needs a key with the {needed.value} role. Your key has the {who.role.value} role.")


def declared(request: web.Request, routes: Mapping[tuple[str, str], DeclaredT]) -> DeclaredT | None:
    """The declaration of the matched route. None if nothing matched: then the handler answers 404 or 405."""
    if request.match_info.http_exception is not None:
        return None
    resource = request.match_info.route.resource
    method = "GET" if request.method == "HEAD" else request.method
    # Fail closed: a route without a declaration raises KeyError, which is answered with 500.
    return routes[method, resource.canonical if resource else ""]


def principal_of(request: web.Request) -> Principal:
    """The caller, as determined by the middleware."""
    return request[PRINCIPAL]
