"""The representation of an endpoint in answers and pages. It never contains the token or secrets."""

from __future__ import annotations

from typing import Any

from pipeline.core.circuit import CircuitState
from pipeline.endpoints.authentication import shown_authentication
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.registry import state_of
from pipeline.web.api.failing_endpoint import failing_values
from pipeline.web.api.retry_policy import retry_values
from pipeline.web.certificate_changes import shown_certificate
from pipeline.web.services import EndpointServices
from pipeline.web.signature_changes import shown_signatures
from schemas.health import HealthFact
from schemas.http.authentication import AuthenticationAnswer
from schemas.http.endpoints import (
    FilterFailureAnswer,
    InOrderAnswer,
    in_order,
)


def _filter_failure(endpoint: Endpoint, health: HealthTable | None) -> FilterFailureAnswer | None:
    """The failing filter of an endpoint, unless the endpoint no longer has this filter."""
    known = health.fact(endpoint.record, HealthFact.FILTER) if health is not None else None
    if known is None:
        return None
    is_current = any(known.expression in text for text in endpoint.filters.texts)
    if not is_current and known.endpoint_version < endpoint.record.version:
        return None
    return FilterFailureAnswer(
        expression=known.expression, reason=known.detail, event_id=known.event_id, count=known.count, at=known.at
    )


def _in_order(health: HealthTable | None, endpoint: Endpoint) -> InOrderAnswer | None:
    """The deliveries that wait for their turn in order, and the one that they wait for."""
    found = health.ordered(endpoint.id) if health is not None else None
    if found is None or found.behind is None:
        return None
    behind = found.behind
    return InOrderAnswer(
        waiting=found.count,
        keys=found.lanes,
        since=found.since,
        event_id=behind.event_id,
        event_key=behind.detail,
        reason=behind.reason,
        next_attempt_at=behind.until,
    )


def _disabled(api: EndpointServices, endpoint: Endpoint) -> dict[str, Any]:
    record, found = endpoint.record, endpoint.disabled
    if record.disabled_at is not None:
        by = record.disabled_by
        return {"disabled_reason": f"{api.audit.person(by)} disabled it.", "disabled_at": record.disabled_at, "disabled_by": by}
    if found is not None:
        return {"disabled_reason": found.detail, "disabled_at": found.at, "disabled_by": None}
    return {"disabled_reason": None, "disabled_at": None, "disabled_by": None}


def endpoint_values(api: EndpointServices, endpoint: Endpoint) -> dict[str, Any]:
    record, health = endpoint.record, api.registry.health
    held = api.registry.held(endpoint)
    return {
        "id": endpoint.id,
        "target_url": endpoint.target_url,
        "events": in_order(record.events),
        "active": endpoint.active,
        "description": record.description,
        "filters": endpoint.filters.texts,
        "filter_failure": _filter_failure(endpoint, health),
        "has_token": endpoint.record.sealed_token is not None,
        "authentication": AuthenticationAnswer.model_validate(shown_authentication(record)),
        **shown_signatures(record, api.clock()),
        "client_certificate": shown_certificate(record),
        "max_per_second": record.max_per_second,
        **retry_values(api.policies, record.retry_policy),
        "state": state_of(endpoint),
        **_disabled(api, endpoint),
        **failing_values(health, endpoint, api.disable_after),
        "circuit": health.circuit(record, api.clock()) if health is not None else CircuitState.CLOSED,
        "problem": endpoint.problem,
        "unsent_headers": list(endpoint.unsent_headers),
        "held_count": held.count,
        "held_since": held.since,
        "ordered": record.ordered,
        "in_order": _in_order(health, endpoint),
        "event_type_versions": record.event_type_versions,
        "header_names": sorted(record.sealed_headers),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "version": record.version,
        "verification": record.verification,
        "verified_at": None if endpoint.is_unverified else record.verified_at,
        "verification_problem": record.verification_problem or None,
    }
