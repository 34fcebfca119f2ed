"""Decides how restoring an endpoint from a backup changes the existing endpoints. Pure.

An endpoint is the same one if it was created at the same time. In another deployment, its id may belong to another endpoint, and
its target_url may have been registered again with other secrets.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pipeline.endpoints.authentication import open_credential, shown_authentication
from pipeline.endpoints.client_certificates import open_identity
from pipeline.endpoints.endpoint import Endpoint, renewed
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.signatures import opened_signature_header, valid_pairs
from pipeline.endpoints.vault import Vault, VaultError
from schemas.endpoint import EndpointRecord, SealedSecret

_PLAIN: Final = (
    "target_url",
    "events",
    "description",
    "active",
    "disabled_at",
    "disabled_by",
    "filters",
    "expressions",
    "max_per_second",
    "retry_policy",
    "verification",
    "ordered",
    "event_type_versions",
)
_SEALED: Final = ("token", "authentication", "headers", "secrets", "key_pairs", "signature_header", "client_certificate")


ENCRYPTED_WITH_UNKNOWN_KEY: Final = (
    "Its secrets were encrypted with another key: add that key to encryption_key, after the first one."
)


class RestoreStep(enum.StrEnum):
    """What happens to an endpoint of a backup."""

    CREATE = "create"
    """It does not exist (any more)."""
    UPDATE = "update"
    """It exists and differs: it is changed back."""
    KEEP = "keep"
    """It exists and differs: it is left alone."""
    NONE = "none"
    """It exists and does not differ."""
    REFUSE = "refuse"
    """It cannot be restored now."""


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """``endpoint_id``: the endpoint's current or future id; None for a new id. ``differences``: names of fields, never values."""

    step: RestoreStep
    endpoint_id: int | None = None
    differences: tuple[str, ...] = ()
    reason: str = ""


def plan(record: EndpointRecord, registry: Registry, vault: Vault, now: datetime, *, overwrite: bool) -> RestorePlan:
    if record.deleted or not record.secrets:
        return RestorePlan(RestoreStep.REFUSE, reason="It is the record of a deleted endpoint: it has no signing secret.")
    try:
        opened = _opened(record, vault, now)
    except VaultError:
        return RestorePlan(RestoreStep.REFUSE, reason=ENCRYPTED_WITH_UNKNOWN_KEY)
    same = _same(record, registry)
    holder = registry.by_url(record.target_url)
    if holder is not None and (same is None or holder.id != same.id):
        return RestorePlan(
            RestoreStep.REFUSE,
            reason=f"Its target_url belongs to endpoint {holder.id}, which is a different one: delete or change that first.",
        )
    if same is None:
        may_return = registry.may_return(record.id, record.created_at)
        return RestorePlan(RestoreStep.CREATE, record.id if may_return else None)
    differences = _differences(record, opened, same, vault, now)
    if not differences:
        return RestorePlan(RestoreStep.NONE, same.id)
    return RestorePlan(RestoreStep.UPDATE if overwrite else RestoreStep.KEEP, same.id, differences)


def restored(record: EndpointRecord, vault: Vault, *, at: datetime, changed_by: str) -> dict[str, Any]:
    """The fields of an endpoint as in the backup, with its secrets encrypted with the first key.

    Raises:
        VaultError: its secrets cannot be opened.
    """
    values: dict[str, Any] = {name: getattr(record, name) for name in (*_PLAIN, "schema_version", "disabled_at", "disabled_by")}
    return values | renewed(record, vault) | {"change": "restore", "changed_by": changed_by, "updated_at": at}


def _same(record: EndpointRecord, registry: Registry) -> Endpoint | None:
    """The endpoint that was created at the same time, and has the id of the backup or, failing that, its target_url."""
    candidates = (registry.get(record.id), registry.by_url(record.target_url))
    return next((one for one in candidates if one is not None and one.record.created_at == record.created_at), None)


def _differences(record: EndpointRecord, opened: dict[str, Any], same: Endpoint, vault: Vault, now: datetime) -> tuple[str, ...]:
    plain = [name for name in _PLAIN if getattr(record, name) != getattr(same.record, name)]
    try:
        other = _opened(same.record, vault, now)
    except VaultError:  # an endpoint that cannot be opened differs from the backup
        return (*plain, *_SEALED)
    return (*plain, *(name for name in _SEALED if opened[name] != other[name]))


def _opened(record: EndpointRecord, vault: Vault, now: datetime) -> dict[str, Any]:
    """The decrypted secrets, for comparison: encrypting a text twice gives different results. Expired secrets are left out."""
    return {
        "token": vault.open(record.sealed_token) if record.sealed_token else None,
        "authentication": (shown_authentication(record), open_credential(record, vault)) if record.authentication else None,
        "key_pairs": [(vault.open(pair.sealed), pair.expires_at) for pair in valid_pairs(record.key_pairs, now)],
        "signature_header": opened_signature_header(record, vault),
        "client_certificate": open_identity(record.client_certificate, vault),
        "headers": {name: vault.open(sealed) for name, sealed in record.sealed_headers.items()},
        "secrets": [(vault.open(one.sealed), one.expires_at) for one in record.secrets if _is_valid(one, now)],
    }


def _is_valid(secret: SealedSecret, now: datetime) -> bool:
    return secret.expires_at is None or secret.expires_at > now
