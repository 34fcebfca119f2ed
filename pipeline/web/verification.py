"""Verifies endpoints before they are used: when they are registered, when their target_url changes, and on request."""

from __future__ import annotations

from typing import Any, Final

from pipeline.broker.errors import PublishError
from pipeline.core.handshake import VerificationResult
from pipeline.endpoints.endpoint import Endpoint
from pipeline.ops.logs import logger
from pipeline.web.endpoint_values import UNVERIFIED
from pipeline.web.endpoint_writes import Versions, change_endpoint, changed, find_endpoint
from pipeline.web.errors import ApiError
from pipeline.web.services import EndpointServices
from schemas.endpoint import EndpointRecord
from schemas.http.endpoints import MAX_PER_SECOND
from schemas.verification import Verification

log = logger(__name__)

_NOT_ASKED: Final = "Verification is off for this endpoint. Set verification to cloudevents_handshake or signed_event first."


async def verify_when_asked(api: EndpointServices, endpoint: Endpoint, actor: str) -> Endpoint:
    """Verify an endpoint that was just registered or changed, if it needs verification. Returns the resulting endpoint.

    If the verification fails, the endpoint stays unverified. That is no error, because the secret is shown only once.
    """
    if not endpoint.is_unverified or api.verifier is None:
        return endpoint
    try:
        return await verify_endpoint(api, endpoint.id, actor)
    except Exception as error:
        unexpected = None if isinstance(error, ApiError) else error
        log.warning(
            "an endpoint could not be verified; verify it again", endpoint_id=endpoint.id, problem=str(error), exc_info=unexpected
        )
        return api.registry.get(endpoint.id) or endpoint


async def verify_endpoint(api: EndpointServices, endpoint_id: int, actor: str, expected: Versions = None) -> Endpoint:
    """Ask an endpoint whether it wants webhooks, and write its answer. If it refuses, it becomes unverified.

    Raises:
        ApiError: 404; 409, its verification is off, or this process cannot verify; 412, its version is not an expected one;
            503, Kafka does not answer, or does not accept the records of the verification; or nothing could be sent, and the
            endpoint stays verified.
    """
    endpoint = find_endpoint(api, endpoint_id)
    await change_endpoint(api, endpoint_id, expected, lambda _: None)  # 412 before anything is sent
    if endpoint.record.verification == Verification.NONE:
        raise ApiError(409, _NOT_ASKED)
    if api.verifier is None:
        raise ApiError(409, "This process does not send webhooks. Call another API process.")
    try:
        found = await api.verifier.verify(endpoint)
    except PublishError as error:
        raise ApiError(503, f"The verification could not be recorded, so it does not count. {error}") from error
    if found.is_ours and not endpoint.is_unverified:
        raise ApiError(503, f"{found.problem} The endpoint stays verified.")
    asked = endpoint.record

    def change(record: EndpointRecord) -> EndpointRecord | None:
        if (record.target_url, record.verification) != (asked.target_url, asked.verification):
            return None  # it has changed in the meantime, so the answer does not apply
        return changed(api, record, _values(api, record, found) | {"change": "verify", "changed_by": actor})

    await change_endpoint(api, endpoint_id, None, change)
    log.info("an endpoint was asked whether it wants webhooks", endpoint_id=endpoint_id, verified=not found.problem)
    return find_endpoint(api, endpoint_id)


def _values(api: EndpointServices, record: EndpointRecord, found: VerificationResult) -> dict[str, Any]:
    if found.problem:
        return UNVERIFIED | {"verification_problem": found.problem}
    is_handshake = record.verification == Verification.CLOUDEVENTS_HANDSHAKE
    values: dict[str, Any] = {
        "verified_url": record.target_url,
        "verified_at": api.clock(),
        "verified_origin": api.verifier.origin if is_handshake and api.verifier is not None else None,
        "verification_problem": "",
    }
    if found.max_per_second is not None:
        values["max_per_second"] = min(found.max_per_second, record.max_per_second or MAX_PER_SECOND)
    return values
