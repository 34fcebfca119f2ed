"""How an endpoint's requests authenticate: decrypts the stored secret, and builds the stored record from an API input. Pure."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.core.token_response import TokenRequest
from pipeline.endpoints.vault import Vault, VaultError
from schemas.authentication import SECRET_MEMBERS, AuthenticationRecord, AuthenticationType, ClientAuthMethod
from schemas.custom_headers import same_header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.endpoint import EndpointRecord
    from schemas.http.authentication import AuthenticationInput

_AUTHORIZATION: Final = "authorization"


@dataclass(frozen=True, slots=True)
class HeaderCredential:
    """A header that is the same for every request. ``secrets`` are its parts that must not appear in a recorded answer."""

    name: str
    value: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    @property
    def is_named(self) -> bool:
        """Whether the record of an attempt names it, as it names custom headers."""
        return self.name != _AUTHORIZATION


Credential = HeaderCredential | TokenRequest


def open_credential(record: EndpointRecord, vault: Vault) -> Credential | None:
    """How an endpoint's requests authenticate; None if they do not.

    Raises:
        VaultError: the secret cannot be opened, or a newer release wrote a type that is not known here.
    """
    if record.authentication is None:
        return _bearer(vault.open(record.sealed_token)) if record.sealed_token else None
    stored = record.authentication
    match stored.type:
        case AuthenticationType.BASIC:
            return _basic(stored.username, vault.open(stored.sealed_secret))
        case AuthenticationType.API_KEY:
            key = vault.open(stored.sealed_secret)
            return HeaderCredential(stored.header, key, (key,))
        case AuthenticationType.OAUTH2:
            return TokenRequest(
                stored.token_url,
                stored.client_id,
                vault.open(stored.sealed_secret),
                stored.scopes,
                stored.audience,
                stored.client_auth_method == ClientAuthMethod.POST,
            )
    raise VaultError(f"Its authentication type {stored.type[:50]!r} is unknown to this release: upgrade this process.")


def _bearer(token: str) -> HeaderCredential:
    return HeaderCredential(_AUTHORIZATION, f"Bearer {token}", (token,))


def _basic(username: str, password: str) -> HeaderCredential:
    value = f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"
    return HeaderCredential(_AUTHORIZATION, value, (value, password))


class AuthenticationError(Exception):
    """An impossible authentication; ``str(error)`` is a sentence without secrets."""


def stored_authentication(
    given: AuthenticationInput, current: EndpointRecord | None, vault: Vault
) -> tuple[str | None, AuthenticationRecord | None]:
    """The fields ``sealed_token`` and ``authentication`` of a record. If no secret is given, the stored one is kept.

    Raises:
        AuthenticationError: there is no secret, or the stored one belongs to another token endpoint or client.
    """
    kind = AuthenticationType(given.type)
    if kind is AuthenticationType.NONE:
        return None, None
    member = SECRET_MEMBERS[kind]
    secret = getattr(given, member)
    if secret is not None:
        sealed = vault.seal(secret.get_secret_value())
    elif (kept := _kept(given, current)) is not None:
        sealed = kept
    else:
        raise AuthenticationError(f"authentication of type {kind.value} needs {member}{_why(given, current)}.")
    if kind is AuthenticationType.BEARER:
        return sealed, None
    plain = given.model_dump(exclude={member})
    return None, AuthenticationRecord(sealed_secret=sealed, **plain)


def _kept(given: AuthenticationInput, current: EndpointRecord | None) -> str | None:
    """The stored secret, still encrypted, if it is used for the same purpose as before."""
    if current is None:
        return None
    if given.type == "bearer":
        return current.sealed_token
    stored = current.authentication
    if stored is None or stored.type != given.type or _is_for_somebody_else(given, stored):
        return None
    return stored.sealed_secret


def _is_for_somebody_else(given: AuthenticationInput, stored: AuthenticationRecord) -> bool:
    # Nobody can read a client secret. A person who may change the endpoint must not get it by naming their own token endpoint.
    if given.type != "oauth2_client_credentials":
        return False
    return (given.token_url, given.client_id) != (stored.token_url, stored.client_id)


def _why(given: AuthenticationInput, current: EndpointRecord | None) -> str:
    stored = None if current is None else current.authentication
    is_moved = stored is not None and stored.type == given.type and _is_for_somebody_else(given, stored)
    return ": the stored one belongs to another token_url or client_id" if is_moved else ""


def shown_authentication(record: EndpointRecord) -> dict[str, object]:
    """An endpoint's authentication without its secret, as the API shows it."""
    stored = record.authentication
    if stored is None:
        return {"type": AuthenticationType.BEARER if record.sealed_token else AuthenticationType.NONE}
    match stored.type:
        case AuthenticationType.BASIC:
            return {"type": stored.type, "username": stored.username}
        case AuthenticationType.API_KEY:
            return {"type": stored.type, "header": stored.header}
        case AuthenticationType.OAUTH2:
            names = ("type", "token_url", "client_id", "scopes", "audience", "client_auth_method")
            return {name: getattr(stored, name) for name in names}
    return {"type": AuthenticationType.NONE}  # written by a newer release; the endpoint's problem says so


def opened_authentication(record: EndpointRecord, vault: Vault) -> dict[str, object]:
    """An endpoint's authentication in the form of an API input, with its secret: backups are validated by the same rules.

    Raises:
        VaultError: the secret cannot be opened.
    """
    shown = shown_authentication(record)
    sealed = record.authentication.sealed_secret if record.authentication else record.sealed_token
    if sealed is None or shown["type"] == AuthenticationType.NONE:
        return shown
    return shown | {SECRET_MEMBERS[AuthenticationType(str(shown["type"]))]: vault.open(sealed)}


def header_collision(header: str, others: Iterable[str]) -> str | None:
    """The first of the other header names that a receiver may confuse with this one; None if there is none."""
    return next((other for other in others if same_header(header, other)), None)
