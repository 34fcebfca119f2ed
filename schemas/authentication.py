"""How an endpoint's requests authenticate to the receiver: the stored record, and the accepted values.

A bearer token is in the field ``sealed_token`` of an endpoint's record, as in the first release. The other kinds are an
`AuthenticationRecord`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Any, Final

from schemas.custom_headers import MAX_HEADER_VALUE, check_header_name, is_header_value
from schemas.own_records import RewrittenRecord

MAX_TOKEN: Final = 1024
MAX_USERNAME: Final = 255
MAX_SECRET: Final = 1024
MAX_URL: Final = 2048
MAX_SCOPES: Final = 20
MAX_SCOPE: Final = 255

# A token is sent in a header, where spaces and line breaks would end it.
TOKEN: Final = re.compile(rf"[\x21-\x7e]{{1,{MAX_TOKEN}}}")
# RFC 7617, 2: no control characters in either, and no colon in the user name.
_USERNAME: Final = re.compile(rf"[^\x00-\x1f\x7f-\x9f:\ud800-\udfff]{{0,{MAX_USERNAME}}}")
_PASSWORD: Final = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{0,{MAX_SECRET}}}")
# RFC 6749, appendix A: VSCHAR, and the characters of a scope.
_CLIENT_ID: Final = re.compile(rf"[\x20-\x7e]{{1,{MAX_USERNAME}}}")
_CLIENT_SECRET: Final = re.compile(rf"[\x20-\x7e]{{1,{MAX_SECRET}}}")
_SCOPE: Final = re.compile(rf"[\x21\x23-\x5b\x5d-\x7e]{{1,{MAX_SCOPE}}}")
_AUDIENCE: Final = re.compile(r"[\x20-\x7e]{1,1024}")


class AuthenticationType(enum.StrEnum):
    """How requests authenticate."""

    NONE = "none"
    BEARER = "bearer"
    BASIC = "basic"
    API_KEY = "api_key"
    OAUTH2 = "oauth2_client_credentials"


class ClientAuthMethod(enum.StrEnum):
    """How a client authenticates to a token endpoint (RFC 7591): in the header Authorization, or in the form."""

    BASIC = "client_secret_basic"
    POST = "client_secret_post"


class AuthenticationRecord(RewrittenRecord, frozen=True, kw_only=True, gc=False):
    """The stored authentication of an endpoint. ``sealed_secret`` is the password, the key or the client secret.

    ``type`` is a text: a newer release may write a type that this one does not know.
    """

    type: str
    sealed_secret: str
    username: str = ""
    header: str = ""
    token_url: str = ""
    client_id: str = ""
    scopes: tuple[str, ...] = ()
    audience: str | None = None
    client_auth_method: str = ClientAuthMethod.BASIC.value


SECRET_MEMBERS: Final = {
    AuthenticationType.BEARER: "token",
    AuthenticationType.BASIC: "password",
    AuthenticationType.API_KEY: "key",
    AuthenticationType.OAUTH2: "client_secret",
}
"""The API's name for the secret of each type."""
_MEMBERS: Final[dict[AuthenticationType, tuple[str, ...]]] = {
    AuthenticationType.NONE: (),
    AuthenticationType.BEARER: ("token",),
    AuthenticationType.BASIC: ("username", "password"),
    AuthenticationType.API_KEY: ("header", "key"),
    AuthenticationType.OAUTH2: ("token_url", "client_id", "client_secret", "scopes", "audience", "client_auth_method"),
}
_REQUIRED: Final = frozenset({"username", "header", "token_url", "client_id"})
_ALL_MEMBERS: Final = frozenset(member for members in _MEMBERS.values() for member in members)


def check_authentication(value: object) -> dict[str, Any] | None:
    """Read the field ``authentication``: an object whose ``type`` determines its other members. Null means ``none``.

    Members of other types are accepted if they are null or empty, as in answers. Messages never contain a value, which may be a
    secret.

    Raises:
        ValueError: a sentence that says what is wrong.
    """
    if value is None:
        return {"type": AuthenticationType.NONE.value}
    if not isinstance(value, Mapping):
        raise ValueError(  # noqa: TRY004 - pydantic turns a ValueError into a finding
            'authentication must be an object such as {"type": "basic", "username": "oms", "password": "…"}.'
        )
    kind = _kind(value.get("type"))
    members = _MEMBERS[kind]
    given = {name: content for name, content in value.items() if name != "type" and content not in (None, [])}
    if unknown := sorted(name[:50] for name in given.keys() - set(members)):
        raise ValueError(
            f"authentication of type {kind.value} has no {unknown[0]!r}; it has {', '.join(members) or 'no other members'}."
        )
    if missing := [name for name in members if name in _REQUIRED and name not in given]:
        raise ValueError(f"authentication of type {kind.value} needs {', '.join(missing)}.")
    for name, content in given.items():
        given[name] = _CHECKS[name](content)
    return {"type": kind.value, **given}


def _kind(name: object) -> AuthenticationType:
    known = ", ".join(AuthenticationType)
    if not isinstance(name, str):
        raise ValueError(f"authentication needs a type, one of {known}.")  # noqa: TRY004 - as above
    try:
        return AuthenticationType(name)
    except ValueError:
        raise ValueError(f"authentication has an unknown type: {name[:50]!r}. Known types: {known}.") from None


def _text(name: str, form: re.Pattern[str], rule: str) -> Any:
    def check(value: object) -> str:
        if not isinstance(value, str) or not form.fullmatch(value):
            raise ValueError(f"authentication.{name} must be {rule}.")
        return value

    return check


def _header(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("authentication.header must be the name of a header.")  # noqa: TRY004 - as above
    return check_header_name(value, "authentication.header")


def _key(value: object) -> str:
    if not is_header_value(value):
        raise ValueError(
            f"authentication.key must be 1 to {MAX_HEADER_VALUE} ASCII characters without line breaks, not beginning or ending with a space."
        )
    return str(value)


def _token_url(value: object) -> str:
    # The rules for the URL itself need the address guard, so the API checks them.
    if isinstance(value, str) and 0 < len(value) <= MAX_URL:
        return value
    raise ValueError("authentication.token_url must be a URL, such as https://login.example.com/oauth2/token.")


def _scopes(value: object) -> tuple[str, ...]:
    listed = value.split() if isinstance(value, str) else value
    if (
        not isinstance(listed, list | tuple)
        or len(listed) > MAX_SCOPES
        or not all(isinstance(one, str) and _SCOPE.fullmatch(one) for one in listed)
    ):
        raise ValueError(
            f"authentication.scopes must be a list of at most {MAX_SCOPES} scopes, each of 1 to {MAX_SCOPE} visible ASCII characters "
            "without spaces, quotes and backslashes."
        )
    return tuple(dict.fromkeys(listed))


def _client_auth_method(value: object) -> str:
    if isinstance(value, str) and value in set(ClientAuthMethod):
        return value
    raise ValueError(f"authentication.client_auth_method must be one of {', '.join(ClientAuthMethod)}.")


_CHECKS: Final[dict[str, Any]] = {
    "token": _text("token", TOKEN, f"1 to {MAX_TOKEN} visible ASCII characters without spaces"),
    "username": _text("username", _USERNAME, f"text of at most {MAX_USERNAME} characters, without colons and control characters"),
    "password": _text("password", _PASSWORD, f"text of at most {MAX_SECRET} characters, without control characters"),
    "header": _header,
    "key": _key,
    "token_url": _token_url,
    "client_id": _text("client_id", _CLIENT_ID, f"1 to {MAX_USERNAME} ASCII characters without control characters"),
    "client_secret": _text("client_secret", _CLIENT_SECRET, f"1 to {MAX_SECRET} ASCII characters without control characters"),
    "scopes": _scopes,
    "audience": _text("audience", _AUDIENCE, "1 to 1024 ASCII characters without control characters"),
    "client_auth_method": _client_auth_method,
}
assert set(_CHECKS) == _ALL_MEMBERS  # noqa: S101 - a member without a rule would be accepted unchecked
