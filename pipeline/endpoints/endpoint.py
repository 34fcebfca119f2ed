"""An endpoint as the hops need it: secrets opened once, when its record is read, and never again on the way of a delivery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pipeline.core.signing import SigningKey
from pipeline.endpoints.vault import Vault
from schemas.endpoint import EndpointRecord, FilterValue


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A registered endpoint. ``repr`` shows no secrets."""

    id: int
    target_url: str
    events: frozenset[str]
    active: bool
    filters: Mapping[str, tuple[FilterValue, ...]]
    record: EndpointRecord = field(repr=False)
    token: str | None = field(repr=False)
    _keys: tuple[tuple[SigningKey, datetime | None], ...] = field(repr=False)

    def keys(self, now: datetime) -> list[SigningKey]:
        """The keys to sign with: the newest, and one that was rotated out until its grace is over."""
        return [key for key, expires_at in self._keys if expires_at is None or expires_at > now]


def open_endpoint(record: EndpointRecord, vault: Vault) -> Endpoint:
    """Open a record's secrets.

    Raises:
        VaultError: they were sealed with another key.
    """
    return Endpoint(
        id=record.id,
        target_url=record.target_url,
        events=frozenset(record.events),
        active=record.active and not record.deleted,
        filters=record.filters,
        record=record,
        token=vault.open(record.sealed_token) if record.sealed_token else None,
        _keys=tuple((SigningKey(vault.open(secret.sealed)), secret.expires_at) for secret in record.secrets),
    )
