"""The authentication fields of an endpoint's form. Secrets are never shown. An empty secret field keeps the stored secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from multidict import MultiDictProxy

from pipeline.endpoints.authentication import shown_authentication
from schemas.authentication import SECRET_MEMBERS, AuthenticationType, ClientAuthMethod
from schemas.endpoint import EndpointRecord

AUTHENTICATION_CHOICES: Final = (
    (AuthenticationType.NONE, "Signature only"),
    (AuthenticationType.BEARER, "Bearer token"),
    (AuthenticationType.BASIC, "HTTP Basic: username and password"),
    (AuthenticationType.API_KEY, "API key in a header"),
    (AuthenticationType.OAUTH2, "OAuth 2.0 client credentials"),
)
CLIENT_METHODS: Final = (
    (ClientAuthMethod.BASIC, "In the Authorization header (client_secret_basic)"),
    (ClientAuthMethod.POST, "In the request body (client_secret_post)"),
)
_MEMBERS: Final = {
    AuthenticationType.BASIC: ("username", "password"),
    AuthenticationType.API_KEY: ("header", "key"),
    AuthenticationType.OAUTH2: ("token_url", "client_id", "client_secret", "scopes", "audience", "client_auth_method"),
}
_FIELD: Final = "auth_{}"
_SECRETS: Final = frozenset(SECRET_MEMBERS.values())
AUTHENTICATION_FIELDS: Final = ("authentication", *(_FIELD.format(name) for names in _MEMBERS.values() for name in names))
"""The fields that the form sends."""


@dataclass(frozen=True, slots=True)
class AuthenticationForm:
    """The content of the fields, as text. ``stored``: the type whose secret is stored, so that its field may be empty."""

    type: str = AuthenticationType.NONE
    values: Mapping[str, str] | None = None
    stored: str = AuthenticationType.NONE

    def value(self, name: str) -> str:
        return (self.values or {}).get(name, "")


def shown_form(record: EndpointRecord) -> AuthenticationForm:
    """The fields of an existing endpoint."""
    shown = shown_authentication(record)
    texts = {name: " ".join(one) if isinstance(one, tuple) else str(one) for name, one in shown.items() if one is not None}
    return AuthenticationForm(texts["type"], texts, texts["type"])


def sent_form(form: MultiDictProxy[str], stored: EndpointRecord | None) -> AuthenticationForm:
    """The fields as they were sent, without secrets."""
    names = [name for members in _MEMBERS.values() for name in members if name not in _SECRETS]
    kept = AuthenticationType.NONE if stored is None else str(shown_authentication(stored)["type"])
    kind = form.get("authentication", kept)
    return AuthenticationForm(kind, {name: form.get(_FIELD.format(name), "") for name in names}, kept)


def authentication_of_others(typed: AuthenticationForm, now: AuthenticationForm) -> dict[str, str]:
    """The current authentication in words, if what was typed differs from it. Secrets are not compared: an empty field keeps them."""
    kind = AuthenticationType(now.type)
    members = [name for name in _MEMBERS.get(kind, ()) if name not in _SECRETS]
    if typed.type == now.type and all(typed.value(name).split() == now.value(name).split() for name in members):
        return {}
    values = [f"{name.replace('_', ' ')}: {now.value(name)}" for name in members if now.value(name)]
    return {"authentication": "; ".join([dict(AUTHENTICATION_CHOICES)[kind], *values])}


def given_authentication(form: MultiDictProxy[str]) -> dict[str, Any] | None:
    """The field ``authentication`` in the API's format. None if the form does not set it."""
    kind = form.get("authentication")
    if kind is None:
        return None
    try:
        members = _MEMBERS.get(AuthenticationType(kind), ())
    except ValueError:
        members = ()  # the field's own rule refuses it
    texts = {name: form.get(_FIELD.format(name), "") for name in members}
    return {"type": kind} | {name: text if name in _SECRETS else text.strip() for name, text in texts.items() if text.strip()}
