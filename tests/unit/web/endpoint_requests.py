"""Requests about endpoints, and the expected shape of their answers."""

from __future__ import annotations

from typing import Any

from tests.unit.web.service import Service

PATH = "/api/webhook/endpoints"
INVALID = "Invalid resource. Please fix errors and try again."
NOT_FOUND = {"error": "The resource you were looking for could not be found."}
SHOWN = [
    "id",
    "target_url",
    "events",
    "active",
    "description",
    "filters",
    "filter_failure",
    "has_token",
    "authentication",
    "signature_versions",
    "public_keys",
    "signature_header",
    "client_certificate",
    "header_names",
    "unsent_headers",
    "created_at",
    "updated_at",
    "version",
    "max_per_second",
    "state",
    "disabled_reason",
    "disabled_at",
    "disabled_by",
    "failing_since",
    "circuit",
    "problem",
    "held_count",
    "held_since",
    "will_be_disabled_at",
    "owner_told",
    "retry_policy",
    "retry_delays",
    "retry_words",
    "verification",
    "verified_at",
    "verification_problem",
    "ordered",
    "event_type_versions",
    "in_order",
]


async def request(service: Service, method: str, path: str = PATH, **options: Any) -> tuple[int, Any]:
    """Return status and body: parsed JSON, or bytes if the answer is empty."""
    async with service.client.request(method, path, **options) as response:
        return response.status, await response.json() if response.status != 204 else await response.read()


def wrapped(**fields: Any) -> dict[str, Any]:
    """A request body that sets these fields of an endpoint."""
    return {"json": {"endpoint": fields}}


async def change(service: Service, **fields: Any) -> tuple[int, Any]:
    """Change endpoint 1."""
    return await request(service, "PATCH", f"{PATH}/1", **wrapped(**fields))


def authenticated(kind: str, **members: Any) -> dict[str, Any]:
    """An authentication as answers show it: fields of other types are null."""
    names = ("username", "header", "token_url", "client_id", "scopes", "audience", "client_auth_method")
    return {"type": kind, **dict.fromkeys(names)} | members
