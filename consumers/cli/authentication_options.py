"""Options of ``endpoints add`` and ``endpoints authentication``.

The secret comes from a variable or a prompt, not from an option, because options end up in the shell's history.
"""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from consumers.cli.option_values import not_blank
from consumers.cli.standard_input import is_terminal
from schemas.authentication import SECRET_MEMBERS, AuthenticationType, ClientAuthMethod

SECRET_VARIABLE: Final = "OMS_WEBHOOKS_ENDPOINT_SECRET"


class SignatureEncoding(enum.StrEnum):
    """The encodings of an HMAC."""

    HEX = "hex"
    BASE64 = "base64"


@dataclass(frozen=True)
class AuthenticationOptions:
    """How requests authenticate."""

    auth: Annotated[
        AuthenticationType | None,
        typer.Option(help=f"How requests authenticate. The secret is read from {SECRET_VARIABLE}, or from a prompt."),
    ] = None
    username: Annotated[str | None, typer.Option(help="basic: the username.", callback=not_blank)] = None
    header: Annotated[str | None, typer.Option(help="api_key: the header that holds it.", callback=not_blank)] = None
    token_url: Annotated[str | None, typer.Option(help="OAuth: the token endpoint.", callback=not_blank)] = None
    client_id: Annotated[str | None, typer.Option(help="OAuth: the client id.", callback=not_blank)] = None
    scope: Annotated[list[str] | None, typer.Option(help="OAuth: a scope. Can be repeated.", callback=not_blank)] = None
    audience: Annotated[str | None, typer.Option(help="OAuth: the audience, if the provider needs one.", callback=not_blank)] = (
        None
    )
    client_auth: Annotated[
        ClientAuthMethod | None,
        typer.Option(help="OAuth: where the client id and secret are sent. Default: client_secret_basic."),
    ] = None

    def asked(self) -> dict[str, object] | None:
        """The field ``authentication``, or None if no option is given.

        Raises:
            typer.BadParameter: an option needs --auth, or there is no secret and no terminal to ask for it.
        """
        members = {
            "username": self.username,
            "header": self.header,
            "token_url": self.token_url,
            "client_id": self.client_id,
            "scopes": self.scope,
            "audience": self.audience,
            "client_auth_method": None if self.client_auth is None else self.client_auth.value,
        }
        given = {name: value for name, value in members.items() if value is not None}
        if self.auth is None:
            if given:
                raise typer.BadParameter("These options need --auth, the type of authentication.")
            return None
        secret = {} if self.auth is AuthenticationType.NONE else {SECRET_MEMBERS[self.auth]: _secret(SECRET_MEMBERS[self.auth])}
        return {"type": self.auth.value, **given, **secret}


@dataclass(frozen=True)
class NewAuthenticationOptions(AuthenticationOptions):
    """The same options for a new endpoint, plus a token."""

    token: Annotated[
        str | None,
        typer.Option(help="Sent as Authorization: Bearer.", envvar="OMS_WEBHOOKS_ENDPOINT_TOKEN", callback=not_blank),
    ] = None

    def fields(self) -> dict[str, object]:
        """The fields of the endpoint."""
        asked = {"token": self.token, "authentication": self.asked()}
        return {name: value for name, value in asked.items() if value is not None}


@dataclass(frozen=True)
class SignatureHeaderOptions:
    """A second header with an HMAC of the body."""

    header: Annotated[
        str | None, typer.Option("--header", help="A second header with an HMAC-SHA256 of the body.", callback=not_blank)
    ] = None
    no_header: Annotated[bool, typer.Option("--no-header", help="Remove the second header.")] = False
    encoding: Annotated[
        SignatureEncoding | None, typer.Option(help="Encoding of the HMAC in the second header. Default: hex.")
    ] = None
    prefix: Annotated[str | None, typer.Option(help="Text before the HMAC in the second header, such as sha256=.")] = None

    def asked(self) -> dict[str, object]:
        """The field ``signature_header``, if an option for it is given. Its key comes from the variable, if that is set."""
        if self.header is not None and self.no_header:
            raise typer.BadParameter("Use --header or --no-header, not both.")
        if self.header is None and (self.encoding is not None or self.prefix is not None):
            raise typer.BadParameter("--encoding and --prefix need --header.")
        if self.no_header:
            return {"signature_header": None}
        if self.header is None:
            return {}
        secret = os.environ.get(SECRET_VARIABLE) or None
        encoding = (self.encoding or SignatureEncoding.HEX).value
        return {"signature_header": {"name": self.header, "encoding": encoding, "prefix": self.prefix or "", "secret": secret}}


def _secret(name: str) -> str:
    if secret := os.environ.get(SECRET_VARIABLE):
        return secret
    if not is_terminal():
        raise typer.BadParameter(f"There is no {name.replace('_', ' ')}: set {SECRET_VARIABLE}.")
    return str(typer.prompt(name.replace("_", " ").capitalize(), hide_input=True))
