"""Creating, changing and deleting endpoints: the rules, without HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from pipeline.core.signing import new_secret
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.registry import deleted
from pipeline.ops.logs import logger
from pipeline.sender.target import TargetUrlError, check_target_url
from pipeline.web.api import Api
from pipeline.web.errors import ApiError, InvalidError, not_found
from schemas.endpoint import EndpointRecord, SealedSecret
from schemas.http_api import EndpointInput, in_order

log = logger(__name__)

_UNCONFIRMED: Final = (
    "Kafka has not confirmed the change in time. It may still take effect: look at the endpoint before you try again."
)


async def create_endpoint(api: Api, given: EndpointInput, actor: str) -> tuple[Endpoint, str | None]:
    """Register an endpoint: it and its signing secret. When its target_url is registered already: that endpoint and None.

    Raises:
        InvalidError: the target_url cannot be a target.
        ApiError: 503, Kafka does not answer.
    """
    await _check_target(api, given.target_url)
    secret = new_secret()
    now = api.clock()

    def make(endpoint_id: int) -> EndpointRecord:
        values = _values(api, given) | {
            "id": endpoint_id,
            "secrets": (SealedSecret(sealed=api.vault.seal(secret)),),
            "created_at": now,
            "updated_at": now,
            "change": "create",
            "changed_by": actor,
        }
        return EndpointRecord(**values)

    async with _changing(api):
        endpoint, is_new = await api.registry.create(api.producer, make)
    if is_new:
        log.info("an endpoint was created", endpoint_id=endpoint.id, changed_by=actor)
    return endpoint, secret if is_new else None


async def update_endpoint(api: Api, endpoint_id: int, given: EndpointInput, actor: str) -> Endpoint:
    """Change the fields that were given, and no others.

    Raises:
        InvalidError: the target_url cannot be a target, or is another endpoint's.
        ApiError: 404, or 503 when Kafka does not answer.
    """
    if "target_url" in given.model_fields_set:
        await _check_target(api, given.target_url)
    async with _changing(api):
        endpoint = find_endpoint(api, endpoint_id)
        values = _values(api, given)
        if not values:
            return endpoint
        other = api.registry.by_url(values.get("target_url", endpoint.target_url))
        if "target_url" in values and other is not None and other.id != endpoint_id:
            raise InvalidError(
                {"target_url": [f"target_url is registered already, as endpoint {other.id}: change or delete that one."]}
            )
        if values.get("active") or values.get("target_url", endpoint.target_url) != endpoint.target_url:
            # What was known of its health is of the past, a reason to disable it too.
            values["activated_version"] = endpoint.record.version + 1
        await _write(api, endpoint, values | {"change": "update", "changed_by": actor})
    return find_endpoint(api, endpoint_id)


async def delete_endpoint(api: Api, endpoint_id: int, actor: str) -> None:
    """Delete an endpoint. Its last record keeps who deleted it; its token, secrets and filters go.

    Raises:
        ApiError: 404, or 503 when Kafka does not answer.
    """
    async with _changing(api):
        record = find_endpoint(api, endpoint_id).record
        await api.registry.write(api.producer, deleted(record, changed_by=actor, at=api.clock()))
    log.info("an endpoint was deleted", endpoint_id=endpoint_id, changed_by=actor)


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


async def _check_target(api: Api, target_url: str) -> None:
    try:
        await check_target_url(target_url, api.guard)
    except TargetUrlError as error:
        raise InvalidError({"target_url": [str(error)]}) from None


@asynccontextmanager
async def _changing(api: Api) -> AsyncIterator[None]:
    """One change at a time, and none that waits for Kafka for ever."""
    require_endpoints(api)
    try:
        async with asyncio.timeout(api.write_timeout_seconds), api.changing:
            yield
    except TimeoutError:
        log.warning("Kafka has not confirmed a change of an endpoint in time")
        raise ApiError(503, _UNCONFIRMED) from None


async def _write(api: Api, endpoint: Endpoint, values: dict[str, Any]) -> None:
    next_version = {"version": endpoint.record.version + 1, "updated_at": api.clock()}
    await api.registry.write(api.producer, endpoint.record.model_copy(update=values | next_version))
    log.info("an endpoint was changed", endpoint_id=endpoint.id, change=values["change"], changed_by=values["changed_by"])


def _values(api: Api, given: EndpointInput) -> dict[str, Any]:
    """The fields that were given, as a record holds them."""
    values: dict[str, Any] = {name: getattr(given, name) for name in EndpointInput.model_fields if name in given.model_fields_set}
    if "events" in values:
        values["events"] = in_order([event.value for event in given.events])
    if "token" in values:
        del values["token"]
        values["sealed_token"] = api.vault.seal(given.token.get_secret_value()) if given.token else None
    return values
