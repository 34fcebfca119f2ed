"""Writes changes of endpoints: one at a time, only to the version that the client has read, and confirmed by Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, Final

from msgspec import structs

from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.registry import SupersededError
from pipeline.ops.logs import logger
from pipeline.web.errors import ApiError, not_found, require_endpoints
from pipeline.web.kafka_writes import confirmed_within
from pipeline.web.services import EndpointServices, RegistryServices
from schemas.endpoint import EndpointRecord

log = logger(__name__)

Versions = Collection[str] | None
"""The versions that may be changed (If-Match). None: any."""

_NOT_NOW: Final = "Kafka is not accepting changes to endpoints right now (see /readyz), so nothing was changed. Try again later."
_UNCONFIRMED: Final = (
    "Kafka did not confirm the change in time. It may still take effect. Check the endpoint before you try again."
)


def find_endpoint(api: RegistryServices, endpoint_id: int) -> Endpoint:
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
    """Make sure that the other processes can decrypt what this one encrypts.

    Raises:
        ApiError: 503, this process has a different encryption key from the others.
    """
    require_endpoints(api.registry)
    if problem := api.registry.wrong_key():
        raise ApiError(503, f"Nothing was changed: {problem}")


@asynccontextmanager
async def changing(api: EndpointServices) -> AsyncIterator[None]:
    """Allow one change at a time, with a time limit for Kafka."""
    async with _written_in_turn(api, api.changing):
        yield


@asynccontextmanager
async def creating(api: EndpointServices) -> AsyncIterator[None]:
    """Allow a few registrations at a time, with a time limit for Kafka, so that many endpoints can be registered in parallel."""
    async with _written_in_turn(api, api.creating):
        yield


@asynccontextmanager
async def _written_in_turn(api: EndpointServices, turns: asyncio.Lock | asyncio.Semaphore) -> AsyncIterator[None]:
    """While Kafka does not accept changes, refuse them. Otherwise, they would wait in memory and take effect long after the answer."""
    require_endpoints(api.registry)
    if not api.registry.may_write(api.producer):
        raise ApiError(503, _NOT_NOW, headers={"Retry-After": "5"})
    async with confirmed_within(api.write_timeout_seconds, _UNCONFIRMED), turns:
        yield


async def change_endpoint(
    api: EndpointServices, endpoint_id: int, expected: Versions, change: Callable[[EndpointRecord], EndpointRecord | None]
) -> None:
    """Apply ``change`` to the current record and write the result (None: nothing). If another process wrote first, apply it again.

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
                    log.info("another process changed an endpoint first, trying again", endpoint_id=endpoint_id)
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
            "The endpoint has changed since you read it. Read it again and apply your change to the current version."
            if any(one.isdigit() for one in expected)
            else f'If-Match must contain a version of the endpoint. Send the ETag that you read, including the quotes, such as "{record.version}".'
        )
        raise ApiError(412, message, headers={"ETag": f'"{record.version}"'})


def changed(api: EndpointServices, record: EndpointRecord, values: dict[str, Any]) -> EndpointRecord:
    """A record with other values, as the next version of the endpoint."""
    return structs.replace(record, **values, version=record.version + 1, updated_at=api.clock())
