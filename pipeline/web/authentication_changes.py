"""The rules for changing an endpoint's authentication, without HTTP. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.core.handshake import ORIGIN
from pipeline.endpoints.authentication import AuthenticationError, header_collision, stored_authentication
from pipeline.endpoints.vault import Vault
from pipeline.web.errors import InvalidError
from schemas.endpoint import EndpointRecord
from schemas.http.authentication import BearerAuthentication, NoAuthentication
from schemas.http.endpoints import EndpointInput
from schemas.verification import Verification

_ORIGIN_IS_TAKEN: Final = (
    "After a cloudevents_handshake, deliveries have the header origin with the origin that was allowed. Use another name for this header, "
    "or another verification."
)


def authentication_values(given: EndpointInput, current: EndpointRecord | None, vault: Vault) -> dict[str, Any]:
    """The record's fields ``sealed_token`` and ``authentication``, if the change affects them.

    ``token`` is how clients of the published API set a bearer token. They may send back an ``authentication`` that they read.

    Raises:
        InvalidError: the two contradict each other, or a secret is missing.
    """
    if given.token is not None:
        if not _agrees_with_token(given):
            raise InvalidError({"authentication": ["Send either token or authentication of another type, not both."]})
        return {"sealed_token": vault.seal(given.token.get_secret_value()), "authentication": None}
    is_removed = "token" in given.model_fields_set
    if given.authentication is None:
        return {"sealed_token": None} if is_removed else {}
    if is_removed and isinstance(given.authentication, BearerAuthentication) and given.authentication.token is None:
        return {"sealed_token": None, "authentication": None}
    try:
        sealed_token, authentication = stored_authentication(given.authentication, current, vault)
    except AuthenticationError as error:
        raise InvalidError({"authentication": [str(error)]}) from None
    return {"sealed_token": sealed_token, "authentication": authentication}


def _agrees_with_token(given: EndpointInput) -> bool:
    match given.authentication:
        case None | NoAuthentication():
            return True
        case BearerAuthentication(token=other):
            return other is None or given.token is None or other.get_secret_value() == given.token.get_secret_value()
    return False


def refuse_colliding_headers(values: Mapping[str, Any], current: EndpointRecord | None) -> None:
    """Make sure that, after the change, no two settings set the same header.

    Raises:
        InvalidError: the custom headers, the authentication header and the signature header are not all different, or one of them is
            Origin, which deliveries have after a handshake.
    """
    if not values.keys() & {"authentication", "sealed_headers", "signature_header", "verification"}:
        return

    def after(name: str) -> Any:
        return values.get(name, getattr(current, name, None))

    taken = dict.fromkeys(after("sealed_headers") or (), "headers")
    for name, header in (
        ("authentication", getattr(after("authentication"), "header", "")),
        ("signature_header", getattr(after("signature_header"), "name", "")),
    ):
        if not header:
            continue
        if (other := header_collision(header, taken)) is not None:
            sentence = f"The header {header!r} is set twice: another setting of the endpoint uses {other!r}."
            raise InvalidError({name if name in values else "headers": [sentence]})
        taken[header] = name
    if after("verification") == Verification.CLOUDEVENTS_HANDSHAKE and (other := header_collision(ORIGIN, taken)) is not None:
        raise InvalidError({taken[other]: [_ORIGIN_IS_TAKEN]})
