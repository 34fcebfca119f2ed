"""Creating, changing and deleting endpoints: the rules, without HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from pipeline.core.signing import new_secret
from pipeline.endpoints.endpoint import Endpoint, renewed
from pipeline.endpoints.registry import SupersededError, deleted
from pipeline.endpoints.vault import VaultError
from pipeline.ops.logs import logger
from pipeline.sender.target import TargetUrlError, check_target_url
from pipeline.web.api import Api
from pipeline.web.errors import ApiError, InvalidError, not_found
from schemas.custom_headers import check_size
from schemas.endpoint import EndpointRecord, SealedSecret
from schemas.http_api import EndpointInput, in_order

log = logger(__name__)

GRACE: Final = timedelta(hours=24)
"""How long a secret that was rotated out signs beside the new one (design, section 5)."""
_MAX_SECRETS: Final = 5
"""Valid secrets of one endpoint: each adds a signature to every request."""

Versions = Collection[str] | None
"""The versions that a change was made for (If-Match): None for any."""

_UNCONFIRMED: Final = (
    "Kafka has not confirmed the change in time. It may still take effect: look at the endpoint before you try again."
)


async def create_endpoint(api: Api, given: EndpointInput, actor: str) -> tuple[Endpoint, str | None]:
    """Register an endpoint: it and its signing secret. When its target_url is registered already: that endpoint and None.

    Raises:
        InvalidError: the target_url cannot be a target.
        ApiError: 503, Kafka does not answer.
    """
    require_right_key(api)
    await check_target(api, given.target_url)
    secret = new_secret()
    now = api.clock()

    def make(endpoint_id: int) -> EndpointRecord:
        values = _values(api, given, {}) | {
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


async def update_endpoint(api: Api, endpoint_id: int, given: EndpointInput, actor: str, expected: Versions = None) -> Endpoint:
    """Change the fields that were given, and no others.

    Raises:
        InvalidError: the target_url cannot be a target, or is another endpoint's.
        ApiError: 404; 412, its version is not an expected one; 503, Kafka does not answer.
    """
    require_right_key(api)
    if "target_url" in given.model_fields_set:
        await check_target(api, given.target_url)

    def change(record: EndpointRecord) -> EndpointRecord | None:
        values = _values(api, given, record.sealed_headers)
        other = api.registry.by_url(values.get("target_url", record.target_url))
        if other is not None and other.id != endpoint_id:
            raise InvalidError(
                {"target_url": [f"target_url is registered already, as endpoint {other.id}: change or delete that one."]}
            )
        if values.get("active") or values.get("target_url", record.target_url) != record.target_url:
            # What was known of its health is of the past, a reason to disable it too.
            values["activated_version"] = record.version + 1
        return changed(api, record, values | {"change": "update", "changed_by": actor}) if values else None

    await change_endpoint(api, endpoint_id, expected, change)
    return find_endpoint(api, endpoint_id)


async def rotate_secret(api: Api, endpoint_id: int, actor: str, expected: Versions = None) -> tuple[Endpoint, str]:
    """Give an endpoint a new signing secret. The one before it signs too, for 24 hours.

    Raises:
        ApiError: 404; 412, its version is not an expected one; 503, Kafka does not answer.
    """
    require_right_key(api)
    secret = new_secret()
    sealed = SealedSecret(sealed=api.vault.seal(secret))

    def change(record: EndpointRecord) -> EndpointRecord:
        secrets = (sealed, *_still_valid(record.secrets, api.clock()))[:_MAX_SECRETS]
        return changed(api, record, {"secrets": secrets, "change": "rotate_secret", "changed_by": actor})

    await change_endpoint(api, endpoint_id, expected, change)
    return find_endpoint(api, endpoint_id), secret


async def reencrypt_endpoint(api: Api, endpoint_id: int, actor: str) -> bool:
    """Seal an endpoint's secrets with the first encryption key; False when there was nothing to do.

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


async def delete_endpoint(api: Api, endpoint_id: int, actor: str, expected: Versions = None) -> None:
    """Delete an endpoint. Its last record keeps who deleted it; its token, headers, secrets and filters go.

    Raises:
        ApiError: 404; 412, its version is not an expected one; 503, Kafka does not answer.
    """
    await change_endpoint(api, endpoint_id, expected, lambda record: deleted(record, changed_by=actor, at=api.clock()))


def find_endpoint(api: Api, endpoint_id: int) -> Endpoint:
    """The endpoint with this id.

    Raises:
        ApiError: 404, there is none; 503, the endpoints have not been read yet.
    """
    require_endpoints(api)
    endpoint = api.registry.get(endpoint_id)
    if endpoint is None:
        raise not_found()
    return endpoint


def require_endpoints(api: Api) -> None:
    """Make sure that all endpoints are in memory: until then, one that exists would look as if it did not.

    Raises:
        ApiError: 503, they have not been read yet.
    """
    if api.registry.table.problem() is not None:
        raise ApiError(503, "The endpoints are still being read from Kafka; please try again in a moment.")


def require_right_key(api: Api) -> None:
    """Make sure that what is sealed now the other processes can open.

    Raises:
        ApiError: 503, this process has another encryption key than the others.
    """
    require_endpoints(api)
    if problem := api.registry.wrong_key():
        raise ApiError(503, f"Nothing is changed: {problem}")


async def check_target(api: Api, target_url: str) -> None:
    """Look whether webhooks may go to a URL.

    Raises:
        InvalidError: they may not.
    """
    try:
        await check_target_url(target_url, api.guard)
    except TargetUrlError as error:
        raise InvalidError({"target_url": [str(error)]}) from None


@asynccontextmanager
async def changing(api: Api) -> AsyncIterator[None]:
    """One change at a time, and none that waits for Kafka for ever."""
    require_endpoints(api)
    try:
        async with asyncio.timeout(api.write_timeout_seconds), api.changing:
            yield
    except TimeoutError:
        log.warning("Kafka has not confirmed a change of an endpoint in time")
        raise ApiError(503, _UNCONFIRMED) from None


async def change_endpoint(
    api: Api, endpoint_id: int, expected: Versions, change: Callable[[EndpointRecord], EndpointRecord | None]
) -> None:
    """Write what ``change`` makes of the endpoint as it is (None: nothing), on top of whatever another process just wrote.

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
        message = "The endpoint was changed since you read it: read it again, and make your change to what it is now."
        raise ApiError(412, message, headers={"ETag": f'"{record.version}"'})


def changed(api: Api, record: EndpointRecord, values: dict[str, Any]) -> EndpointRecord:
    """A record with other values, as the next version of the endpoint."""
    return record.model_copy(update=values | {"version": record.version + 1, "updated_at": api.clock()})


def _still_valid(secrets: tuple[SealedSecret, ...], now: datetime) -> list[SealedSecret]:
    """The secrets that go on signing for a while: those that were valid, the newest of them for 24 hours from now."""
    ends = [secret.model_copy(update={"expires_at": secret.expires_at or now + GRACE}) for secret in secrets]
    return [secret for secret in ends if secret.expires_at is not None and secret.expires_at > now]


def _values(api: Api, given: EndpointInput, sealed_headers: dict[str, str]) -> dict[str, Any]:
    """The fields that were given, as a record holds them; ``sealed_headers`` are those that the endpoint has."""
    values: dict[str, Any] = {name: getattr(given, name) for name in EndpointInput.model_fields if name in given.model_fields_set}
    if "events" in values:
        values["events"] = in_order([event.value for event in given.events])
    if "token" in values:
        del values["token"]
        values["sealed_token"] = api.vault.seal(given.token.get_secret_value()) if given.token else None
    if "headers" in values:
        del values["headers"]
        values["sealed_headers"] = _merged_headers(api, given, sealed_headers)
    return values


def _merged_headers(api: Api, given: EndpointInput, sealed: dict[str, str]) -> dict[str, str]:
    """Nobody can see the values, so a change names only what changes (as in RFC 7396): null takes a header away."""
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
