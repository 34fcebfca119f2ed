"""Checks the fields that a client gave for an endpoint, and converts them to the fields of its record."""

from __future__ import annotations

from typing import Any, Final

from pipeline.core.filters.stored import compiled, fields_of
from pipeline.core.filters.tokens import FilterError
from pipeline.endpoints.vault import VaultError
from pipeline.sender.target_url import TargetUrlError, check_target_url
from pipeline.web.authentication_changes import authentication_values, refuse_colliding_headers
from pipeline.web.certificate_changes import certificate_values, require_tls
from pipeline.web.errors import InvalidError
from pipeline.web.filter_check import filters_sentence
from pipeline.web.services import EndpointServices
from pipeline.web.signature_changes import signature_values
from schemas.custom_headers import check_size
from schemas.endpoint import EndpointRecord
from schemas.event_type_versions import not_subscribed
from schemas.http.authentication import OAuth2Authentication
from schemas.http.endpoints import EndpointInput, in_order

UNVERIFIED: Final[dict[str, Any]] = {
    "verified_url": None,
    "verified_at": None,
    "verified_origin": None,
    "verification_problem": "",
}
"""The fields of the record of an endpoint that has not been asked yet whether it wants webhooks."""
_EITHER: Final = "disabled and active cannot both be true: a disabled endpoint receives nothing."


def record_values(api: EndpointServices, given: EndpointInput, current: EndpointRecord | None, actor: str) -> dict[str, Any]:
    """The fields that were given, as fields of the record. ``current`` is the endpoint's current record, if it exists.

    Raises:
        InvalidError: a field cannot be used.
    """
    values: dict[str, Any] = {name: getattr(given, name) for name in EndpointInput.model_fields if name in given.model_fields_set}
    if "events" in values:
        values["events"] = in_order(given.events)
    values |= _pins(given, current)
    if "filters" in values:
        try:
            values |= fields_of(compiled(given.filters))
        except FilterError as error:
            raise InvalidError({"filters": [filters_sentence(error)]}) from None
    if values.pop("disabled", False):
        if values.get("active"):
            raise InvalidError({"disabled": [_EITHER]})
        values |= {"active": False, "disabled_at": api.clock(), "disabled_by": actor}
    elif values.get("active") or "disabled" in given.model_fields_set:
        values |= {"disabled_at": None, "disabled_by": ""}
    if "retry_policy" in values and (problem := api.policies.unknown(values["retry_policy"])):
        raise InvalidError({"retry_policy": [problem]})
    if "headers" in values:
        del values["headers"]
        values["sealed_headers"] = _merged_headers(api, given, current.sealed_headers if current else {})
    values |= authentication_values(given, current, api.vault)
    values |= signature_values(given, current, api.vault)
    values |= certificate_values(given, current, api.vault, api.clock())
    for name in ("token", "signature_versions"):
        values.pop(name, None)
    refuse_colliding_headers(values, current)
    require_tls(values, current)
    return values


async def check_target(api: EndpointServices, target_url: str) -> None:
    """Check whether webhooks may be sent to a URL.

    Raises:
        InvalidError: they may not.
    """
    try:
        await check_target_url(target_url, api.guard)
    except TargetUrlError as error:
        raise InvalidError({"target_url": [str(error)]}) from None


async def check_token_url(api: EndpointServices, given: EndpointInput) -> None:
    """Check whether a client secret may be sent to a token endpoint.

    Raises:
        InvalidError: it may not.
    """
    if not isinstance(given.authentication, OAuth2Authentication):
        return
    try:
        await check_target_url(given.authentication.token_url, api.guard)
    except TargetUrlError as error:
        reason = str(error).removeprefix("target_url ")
        raise InvalidError({"authentication": [f"authentication.token_url {reason}"]}) from None


def _pins(given: EndpointInput, current: EndpointRecord | None) -> dict[str, Any]:
    """The pinned versions for these events. Pins of event types that are no longer subscribed to are removed."""
    events = given.events if current is None or "events" in given.model_fields_set else current.events
    if "event_type_versions" in given.model_fields_set:
        if problem := not_subscribed(given.event_type_versions, events):
            raise InvalidError({"event_type_versions": [problem]})
        return {"event_type_versions": given.event_type_versions}
    kept = current.event_type_versions if current is not None and "events" in given.model_fields_set else {}
    return {"event_type_versions": {name: version for name, version in kept.items() if name in events}} if kept else {}


def _merged_headers(api: EndpointServices, given: EndpointInput, sealed: dict[str, str]) -> dict[str, str]:
    """Clients cannot read the values, so they send only the headers that change (as in RFC 7396). null removes a header."""
    if given.headers is None:
        return {}
    merged = dict(sealed)
    for name, value in given.headers.items():
        merged.pop(name, None)
        if value is not None:
            merged[name] = api.vault.seal(value.get_secret_value())
    try:
        check_size({name: api.vault.open(value) for name, value in merged.items()})
    except (ValueError, VaultError) as error:
        raise InvalidError({"headers": [str(error)]}) from None
    return merged
