"""The authentication of an endpoint's requests, in requests and answers of the API. Secrets are accepted, but never shown."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from schemas.authentication import AuthenticationType, ClientAuthMethod

_KEPT: Final = " Never shown. If omitted, the existing one is kept, even with a new target_url."


class _Authentication(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class NoAuthentication(_Authentication):
    """Requests carry only their signature."""

    type: Literal["none"]


class BearerAuthentication(_Authentication):
    """``Authorization: Bearer …``. The field ``token`` of the endpoint does the same."""

    type: Literal["bearer"]
    token: SecretStr | None = Field(default=None, description=f"1 to 1024 visible ASCII characters.{_KEPT}")


class BasicAuthentication(_Authentication):
    """``Authorization: Basic …`` (RFC 7617, in UTF-8)."""

    type: Literal["basic"]
    username: str = Field(description="Without a colon.")
    password: SecretStr | None = Field(default=None, description=f"The password.{_KEPT}")


class ApiKeyAuthentication(_Authentication):
    """A key in a header of your choice."""

    type: Literal["api_key"]
    header: str = Field(description="The header's name, such as X-API-Key.")
    key: SecretStr | None = Field(default=None, description=f"The header's value.{_KEPT}")


class OAuth2Authentication(_Authentication):
    """``Authorization: Bearer …`` with an access token from a token endpoint (RFC 6749, section 4.4)."""

    type: Literal["oauth2_client_credentials"]
    token_url: str = Field(description="The token endpoint. The same addresses are allowed as for target_url.")
    client_id: str
    client_secret: SecretStr | None = Field(
        default=None, description=f"The client's secret.{_KEPT} It is required with a new token_url or client_id."
    )
    scopes: tuple[str, ...] = ()
    audience: str | None = Field(default=None, description="Sent as the parameter audience, which some providers require.")
    client_auth_method: ClientAuthMethod = Field(
        default=ClientAuthMethod.BASIC, description="Where the client's id and secret are sent: in the header, or in the form."
    )


AuthenticationInput = Annotated[
    NoAuthentication | BearerAuthentication | BasicAuthentication | ApiKeyAuthentication | OAuth2Authentication,
    Field(discriminator="type"),
]


class AuthenticationAnswer(BaseModel):
    """How requests authenticate: the type, and its members except the secret. Members of other types are null."""

    model_config = ConfigDict(frozen=True)

    type: AuthenticationType
    username: str | None = None
    header: str | None = None
    token_url: str | None = None
    client_id: str | None = None
    scopes: tuple[str, ...] | None = None
    audience: str | None = None
    client_auth_method: str | None = None
