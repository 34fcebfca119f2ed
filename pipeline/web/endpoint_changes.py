"""The rules for creating, changing and deleting endpoints, without HTTP."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Final

from pipeline.core.signing import new_secret
from pipeline.endpoints.endpoint import Endpoint, renewed
from pipeline.endpoints.registry import deleted, state_of
from pipeline.ops.logs import logger
from pipeline.web.endpoint_values import UNVERIFIED, check_target, check_token_url, record_values
from pipeline.web.endpoint_writes import Versions, change_endpoint, changed, creating, find_endpoint, require_right_key
from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.services import EndpointServices
from pipeline.web.signature_changes import rotated, sealed_key_pair
from schemas.endpoint import EndpointRecord, SealedSecret
from schemas.http.endpoints import EndpointInput

log = logger(__name__)

GRACE: Final = timedelta(hours=24)
"""How long the previous secret signs too, after a rotation (design, section 5)."""


async def create_endpoint(api: EndpointServices, given: EndpointInput, actor: str) -> tuple[Endpoint, str | None]:
    """Register an endpoint. Returns it and its signing secret. If the target_url is already registered: that endpoint and None.

    Raises:
        InvalidError: a field cannot be used, such as a target_url with a private address.
        ApiError: 503, Kafka does not answer.
    """
    require_right_key(api)
    await check_target(api, given.target_url)
    await check_token_url(api, given)
    secret = new_secret()
    now = api.clock()

    def make(endpoint_id: int) -> EndpointRecord:
        values = record_values(api, given, None, actor) | {
            "id": endpoint_id,
            "secrets": (SealedSecret(sealed=api.vault.seal(secret)),),
            "created_at": now,
            "updated_at": now,
            "change": "create",
            "changed_by": actor,
        }
        return EndpointRecord(**values)

    async with creating(api):
        endpoint, is_new = await api.registry.create(api.producer, make)
    if is_new:
        log.info("an endpoint was created", endpoint_id=endpoint.id, changed_by=actor)
    return endpoint, secret if is_new else None


async def update_endpoint(
    api: EndpointServices, endpoint_id: int, given: EndpointInput, actor: str, expected: Versions = None
) -> Endpoint:
    """Change the fields that were given, and no others.

    Raises:
        InvalidError: a field cannot be used, or another endpoint has this target_url.
        ApiError: 404; 412, its version is not an expected one; 503, Kafka does not answer.
    """
    require_right_key(api)
    if "target_url" in given.model_fields_set:
        await check_target(api, given.target_url)
    await check_token_url(api, given)

    def change(record: EndpointRecord) -> EndpointRecord | None:
        values = record_values(api, given, record, actor)
        current = find_endpoint(api, endpoint_id)
        if _is_sent_back(given, current):
            values.pop("active", None)
        other = api.registry.by_url(values.get("target_url", record.target_url))
        if other is not None and other.id != endpoint_id:
            raise InvalidError(
                {"target_url": [f"target_url is already registered as endpoint {other.id}. Change or delete that endpoint."]}
            )
        if any(
            values.get(name, now) != now
            for name, now in (("target_url", record.target_url), ("verification", record.verification))
        ):
            values |= UNVERIFIED
        # Clients send back the active: true that they have read. A failing endpoint must not seem healthy because of that.
        is_started = bool(values.get("active")) and not current.active
        if is_started or values.get("target_url", record.target_url) != record.target_url:
            # Its past failures no longer count, not even as a reason to disable it.
            values["activated_version"] = record.version + 1
        return changed(api, record, values | {"change": "update", "changed_by": actor}) if values else None

    await change_endpoint(api, endpoint_id, expected, change)
    return find_endpoint(api, endpoint_id)


def _is_sent_back(given: EndpointInput, current: Endpoint) -> bool:
    """Whether ``active: false`` is only what the client has read, together with the ``state`` that explains it: unverified, or disabled.
    The endpoint must not stay paused because of that when it is verified or resumed.
    """
    read_state = (given.model_extra or {}).get("state")
    return given.active is False and current.record.active and not current.active and read_state == state_of(current)


async def rotate_secret(
    api: EndpointServices, endpoint_id: int, actor: str, expected: Versions = None, overlap: timedelta = GRACE
) -> tuple[Endpoint, str]:
    """Give an endpoint a new signing secret. The previous one signs too, for the overlap.

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
    """Give an endpoint a new key pair for v1a signatures. The previous one signs too, for the overlap.

    Raises:
        ApiError: 404; 409, it has no v1a signatures; 412, its version is not an expected one; 503, Kafka does not answer.
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
    """Encrypt an endpoint's secrets with the first encryption key. Returns False if there was nothing to do.

    Nothing is done if the endpoint has been deleted, or if its secrets cannot be opened.

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
    """Delete an endpoint. Its last record says who deleted it, and has no token, headers, secrets and filters.

    Raises:
        ApiError: 404; 412, its version is not an expected one; 503, Kafka does not answer.
    """
    await change_endpoint(api, endpoint_id, expected, lambda record: deleted(record, changed_by=actor, at=api.clock()))
