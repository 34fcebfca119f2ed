"""The rules for creating, changing and deleting endpoints, without HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from msgspec import structs

from pipeline.core.filters.stored import compiled, fields_of
from pipeline.core.filters.tokens import FilterError
from pipeline.core.signing import new_secret
from pipeline.endpoints.endpoint import Endpoint, renewed
from pipeline.endpoints.registry import SupersededError, deleted
from pipeline.endpoints.vault import VaultError
from pipeline.ops.logs import logger
from pipeline.sender.target_url import TargetUrlError, check_target_url
from pipeline.web.authentication_changes import authentication_values, refuse_colliding_headers
from pipeline.web.certificate_changes import certificate_values, require_tls
from pipeline.web.errors import ApiError, InvalidError, not_found, require_endpoints
from pipeline.web.filter_check import filters_sentence
from pipeline.web.services import EndpointServices
from pipeline.web.signature_changes import rotated, sealed_key_pair, signature_values
from schemas.custom_headers import check_size
from schemas.endpoint import EndpointRecord, SealedSecret
from schemas.event_type_versions import not_subscribed
from schemas.http.authentication import OAuth2Authentication
from schemas.http.endpoints import EndpointInput, in_order

log = logger(__name__)

GRACE: Final = timedelta(hours=24)
"""How long a secret that was rotated out signs beside the new one (design, section 5)."""

Versions = Collection[str] | None
"""The versions that a change was made for (If-Match): None for any."""

_EITHER: Final = "disabled and active cannot both be true: a disabled endpoint receives nothing."
_NOT_NOW: Final = (
    "Kafka does not accept changes of endpoints at the moment (/readyz says why), so nothing was changed. Please try again later."
)
_UNCONFIRMED: Final = (
    "Kafka has not confirmed the change in time. The change may still take effect. Check the endpoint before you try again."
)


async def create_endpoint(api: EndpointServices, given: EndpointInput, actor: str) -> tuple[Endpoint, str | None]:
    """Register an endpoint. Returns it and its signing secret. If the target_url is already registered: that endpoint and None.

    Raises:
        InvalidError: the target_url cannot be a target.
        ApiError: 503, Kafka does not answer.
    """
    require_right_key(api)
    await check_target(api, given.target_url)
    await check_token_url(api, given)
    secret = new_secret()
    now = api.clock()

    def make(endpoint_id: int) -> EndpointRecord:
        values = _values(api, given, None, actor) | {
            "id": endpoint_id,
            "secrets": (SealedSecret(sealed=api.vault.seal(secret)),),
            "created_at": now,
            "updated_at": now,
            "change": "create",
            "changed_by": actor,
        }
        return EndpointRecord(**values)

    async with changing(api):
        endpoint, is_new = await api.registry.create(api.producer, make)
    if is_new:
        log.info("an endpoint was created", endpoint_id=endpoint.id, changed_by=actor)
    return endpoint, secret if is_new else None


async def update_endpoint(
    api: EndpointServices, endpoint_id: int, given: EndpointInput, actor: str, expected: Versions = None
) -> Endpoint:
    """Change the fields that were given, and no others.

    Raises:
        InvalidError: the target_url cannot be a target, or is another endpoint's.
        ApiError: 404; 412, its version is not an expected one; 503, Kafka does not answer.
    """
    require_right_key(api)
    if "target_url" in given.model_fields_set:
        await check_target(api, given.target_url)
    await check_token_url(api, given)

    def change(record: EndpointRecord) -> EndpointRecord | None:
        values = _values(api, given, record, actor)
        other = api.registry.by_url(values.get("target_url", record.target_url))
        if other is not None and other.id != endpoint_id:
            raise InvalidError(
                {"target_url": [f"target_url is already registered as endpoint {other.id}. Change or delete that endpoint."]}
            )
        if any(
            values.get(name, now) != now
            for name, now in (("target_url", record.target_url), ("verification", record.verification))
        ):
            values |= {"verified_url": None, "verified_at": None, "verified_origin": None, "verification_problem": ""}
        if values.get("active") or values.get("target_url", record.target_url) != record.target_url:
            # What was known of its health is of the past, a reason to disable it too.
            values["activated_version"] = record.version + 1
        return changed(api, record, values | {"change": "update", "changed_by": actor}) if values else None

    await change_endpoint(api, endpoint_id, expected, change)
    return find_endpoint(api, endpoint_id)


async def rotate_secret(
    api: EndpointServices, endpoint_id: int, actor: str, expected: Versions = None, overlap: timedelta = GRACE
) -> tuple[Endpoint, str]:
    """Give an endpoint a new signing secret. The one before it signs too, for the overlap.

    Raises:
        ApiError: 404; 412, its version is not an expected one; 503, Kafka does not answer.
    """
    require_right_key(api)
    secret = new_secret()
    sealed = SealedSecret(sealed=api.vault.seal(secret))

    def change(record: EndpointRecord) -> EndpointRecord:
        secrets = rotated(sealed, record.secrets, api.clock(), overlap)
        return changed(api, record, {"secrets": secrets, "change": "rotate_secret", "changed_by": actor})

    await change_endpoint(api, endpoint_id, expected, change)
    return find_endpoint(api, endpoint_id), secret


async def rotate_key_pair(
    api: EndpointServices, endpoint_id: int, actor: str, expected: Versions = None, overlap: timedelta = GRACE
) -> Endpoint:
    """Give an endpoint a new key pair for signatures of version v1a. The one before it signs too, for the overlap.

    Raises:
        ApiError: 404; 409, it has no such signatures; 412, its version is not an expected one; 503, Kafka does not answer.
    """
    require_right_key(api)
    newest = sealed_key_pair(api.vault)

    def change(record: EndpointRecord) -> EndpointRecord:
        if not record.key_pairs:
            raise ApiError(409, 'The endpoint has no v1a signatures. Set signature_versions to ["v1", "v1a"] first.')
        pairs = rotated(newest, record.key_pairs, api.clock(), overlap)
        return changed(api, record, {"key_pairs": pairs, "change": "rotate_key_pair", "changed_by": actor})

    await change_endpoint(api, endpoint_id, expected, change)
    return find_endpoint(api, endpoint_id)


async def reencrypt_endpoint(api: EndpointServices, endpoint_id: int, actor: str) -> bool:
    """Encrypt an endpoint's secrets with the first encryption key; False when there was nothing to do.

    An endpoint that is deleted by now, or whose secrets cannot be opened, is left as it is.

    Raises:
        ApiError: 503, Kafka does not answer.
    """
    is_changed = False

    def change(record: EndpointRecord) -> EndpointRecord | None:
        nonlocal is_changed
        endpoint = find_endpoint(api, endpoint_id)
        is_changed = endpoint.problem is None and not endpoint.is_current
        if not is_changed:
            return None
        return changed(api, record, renewed(record, api.vault) | {"change": "reencrypt", "changed_by": actor})

    try:
        await change_endpoint(api, endpoint_id, None, change)
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
    return is_changed


async def delete_endpoint(api: EndpointServices, endpoint_id: int, actor: str, expected: Versions = None) -> None:
    """Delete an endpoint. Its last record keeps who deleted it; its token, headers, secrets and filters go.

    Raises:
        ApiError: 404; 412, its version is not an expected one; 503, Kafka does not answer.
    """
    await change_endpoint(api, endpoint_id, expected, lambda record: deleted(record, changed_by=actor, at=api.clock()))


def find_endpoint(api: EndpointServices, endpoint_id: int) -> Endpoint:
    """The endpoint with this id.

    Raises:
        ApiError: 404, there is none; 503, the endpoints have not been read yet.
    """
    require_endpoints(api.registry)
    endpoint = api.registry.get(endpoint_id)
    if endpoint is None:
        raise not_found()
    return endpoint


def require_right_key(api: EndpointServices) -> None:
    """Make sure that the other processes can open what is encrypted now.

    Raises:
        ApiError: 503, this process has another encryption key than the others.
    """
    require_endpoints(api.registry)
    if problem := api.registry.wrong_key():
        raise ApiError(503, f"Nothing is changed: {problem}")


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


@asynccontextmanager
async def changing(api: EndpointServices) -> AsyncIterator[None]:
    """Allow one change at a time, with a limit for waiting for Kafka.

    While Kafka does not accept changes, none is written. Otherwise, they would wait in memory and take effect long after their answer.
    """
    require_endpoints(api.registry)
    if not api.registry.may_write(api.producer):
        raise ApiError(503, _NOT_NOW, headers={"Retry-After": "5"})
    try:
        async with asyncio.timeout(api.write_timeout_seconds), api.changing:
            yield
    except TimeoutError:
        log.warning("Kafka has not confirmed a change of an endpoint in time")
        raise ApiError(503, _UNCONFIRMED) from None


async def change_endpoint(
    api: EndpointServices, endpoint_id: int, expected: Versions, change: Callable[[EndpointRecord], EndpointRecord | None]
) -> None:
    """Apply ``change`` to the current endpoint and write the result (None: nothing), after whatever another process just wrote.

    Raises:
        ApiError: 404; 412, its version is not an expected one; 503, Kafka does not answer; and what ``change`` raises.
    """
    async with changing(api):
        try:
            while True:
                current = find_endpoint(api, endpoint_id).record
                _require_version(current, expected)
                written = change(current)
                if written is None:
                    return
                try:
                    await api.registry.write(api.producer, written)
                except SupersededError:
                    log.info("a change of an endpoint was overtaken, making it again", endpoint_id=endpoint_id)
                else:
                    log.info(
                        "an endpoint was changed", endpoint_id=endpoint_id, change=written.change, changed_by=written.changed_by
                    )
                    return
        except ApiError:
            await api.registry.settle(api.producer)
            raise


def _require_version(record: EndpointRecord, expected: Versions) -> None:
    if expected is not None and str(record.version) not in expected:
        message = (
            "The endpoint has changed since you read it. Read it again, and make your change to the current version."
            if any(one.isdigit() for one in expected)
            else f'If-Match does not contain a version of an endpoint. Send the ETag that you read, quotes included, such as "{record.version}".'
        )
        raise ApiError(412, message, headers={"ETag": f'"{record.version}"'})


def changed(api: EndpointServices, record: EndpointRecord, values: dict[str, Any]) -> EndpointRecord:
    """A record with other values, as the next version of the endpoint."""
    return structs.replace(record, **values, version=record.version + 1, updated_at=api.clock())


def _values(api: EndpointServices, given: EndpointInput, current: EndpointRecord | None, actor: str) -> dict[str, Any]:
    """The fields that were given, as a record holds them. ``current`` is the endpoint as it is, if there is one."""
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
    """The values are hidden, so a change names only the headers that change (as in RFC 7396). null removes a header."""
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
