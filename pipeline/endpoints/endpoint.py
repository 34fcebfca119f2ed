"""An endpoint as the hops need it: secrets opened once, when its record is read, and never again on the way of a delivery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pipeline.core.redaction import Redactor
from pipeline.core.signing import SigningKey
from pipeline.endpoints.vault import SealedOtherwiseError, Vault, VaultError
from schemas.custom_headers import is_reserved
from schemas.endpoint import EndpointRecord, FilterValue
from schemas.health import HealthRecord

_Keys = tuple[tuple[SigningKey, datetime | None], ...]
_NO_SECRETS: Final = Redactor()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A registered endpoint. ``repr`` shows no secrets.

    ``problem`` says in a sentence why nothing can be sent to it (its secrets cannot be opened), and what to do. Until that is
    mended its deliveries wait: it is not a deleted endpoint.
    """

    id: int
    target_url: str
    events: frozenset[str]
    filters: Mapping[str, tuple[FilterValue, ...]]
    problem: str | None
    record: EndpointRecord = field(repr=False)
    token: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    """Headers of its own, sent with every request. Values are secrets. Those in ``unsent_headers`` are not among them."""
    _keys: _Keys = field(repr=False)
    disabled: HealthRecord | None = None
    """When and why it was disabled, by a process that delivers; None when it was not."""
    is_current: bool = True
    """Whether all of its secrets are sealed with the first encryption key."""
    is_sealed_otherwise: bool = False
    """Whether its problem is that none of the encryption keys opens its secrets."""
    redactor: Redactor = field(default=_NO_SECRETS, repr=False)
    """Cuts its token, the values of its headers and its signing secrets out of what it answers."""

    @property
    def active(self) -> bool:
        """Whether anything is sent to it: neither paused by its owner nor disabled."""
        return self.record.active and not self.record.deleted and self.disabled is None

    @property
    def unsent_headers(self) -> tuple[str, ...]:
        """Names of headers that an older release accepted, and that a receiver may take for those that the sender sets."""
        return tuple(sorted(filter(is_reserved, self.record.sealed_headers)))

    def keys(self, now: datetime) -> list[SigningKey]:
        """The keys to sign with: the newest, and one that was rotated out until its grace is over.

        Should the grace of all be over, it is the newest alone: never none, unless the endpoint has a problem.
        """
        valid = [key for key, expires_at in self._keys if expires_at is None or expires_at > now]
        return valid or [key for key, _ in self._keys[:1]]


def open_endpoint(record: EndpointRecord, vault: Vault) -> Endpoint:
    """Open a record's secrets. Where that fails, the endpoint has a problem, and neither token nor keys."""
    opened, problem, is_sealed_otherwise = _Opened(), None, False
    try:
        opened = _opened(record, vault)
    except VaultError as error:
        problem, is_sealed_otherwise = str(error), isinstance(error, SealedOtherwiseError)
    return Endpoint(
        id=record.id,
        target_url=record.target_url,
        events=frozenset(record.events),
        filters=record.filters,
        problem=problem,
        record=record,
        token=opened.token,
        headers=opened.headers,
        _keys=opened.keys,
        is_current=problem is None and all(map(vault.is_current, _sealed(record))),
        is_sealed_otherwise=is_sealed_otherwise,
        redactor=opened.redactor,
    )


def renewed(record: EndpointRecord, vault: Vault) -> dict[str, object]:
    """The fields of a record that hold secrets, all sealed with the first encryption key.

    Raises:
        VaultError: one cannot be opened.
    """
    return {
        "sealed_token": vault.renew(record.sealed_token) if record.sealed_token else record.sealed_token,
        "sealed_headers": {name: vault.renew(sealed) for name, sealed in record.sealed_headers.items()},
        "secrets": tuple(secret.model_copy(update={"sealed": vault.renew(secret.sealed)}) for secret in record.secrets),
    }


def _sealed(record: EndpointRecord) -> list[str]:
    token = [record.sealed_token] if record.sealed_token else []
    return [*token, *record.sealed_headers.values(), *(secret.sealed for secret in record.secrets)]


@dataclass(frozen=True, slots=True)
class _Opened:
    token: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    keys: _Keys = ()
    redactor: Redactor = _NO_SECRETS


def _opened(record: EndpointRecord, vault: Vault) -> _Opened:
    if not record.secrets:
        raise VaultError("The endpoint has no signing secret; delete it and register it again.")
    token = vault.open(record.sealed_token) if record.sealed_token else None
    secrets = [(vault.open(secret.sealed), secret.expires_at) for secret in record.secrets]
    headers = {name: vault.open(sealed) for name, sealed in record.sealed_headers.items()}
    values = [*headers.values(), *([token] if token else [])]
    return _Opened(
        token,
        {name: value for name, value in headers.items() if not is_reserved(name)},
        tuple((_signing_key(secret), expires_at) for secret, expires_at in secrets),
        Redactor(values, [secret for secret, _ in secrets]),
    )


def _signing_key(secret: str) -> SigningKey:
    try:
        return SigningKey(secret)
    except ValueError as error:  # its message does not repeat the secret
        raise VaultError(f"The endpoint's signing secret is none; delete the endpoint and register it again. ({error})") from None
