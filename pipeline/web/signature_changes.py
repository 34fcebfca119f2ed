"""The rules for changing an endpoint's signatures and for rotating keys, without HTTP."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from msgspec import structs

from pipeline.core.asymmetric_signing import SigningKeyPair, key_id, new_key_pair
from pipeline.endpoints.signatures import valid_pairs
from pipeline.endpoints.vault import Vault
from schemas.endpoint import EndpointRecord, SealedSecret
from schemas.http.endpoints import EndpointInput
from schemas.http.signatures import SignatureHeaderInput
from schemas.signatures import SIGNATURE_VERSIONS, SealedKeyPair, SignatureHeaderRecord

MAX_VALID: Final = 5
"""The most valid secrets, or key pairs, of one endpoint. Each adds a signature to every request."""
SealedT = TypeVar("SealedT", SealedSecret, SealedKeyPair)


def signature_values(given: EndpointInput, current: EndpointRecord | None, vault: Vault) -> dict[str, Any]:
    """The record's fields ``key_pairs`` and ``signature_header``, if the change affects them."""
    values: dict[str, Any] = {}
    if "signature_versions" in given.model_fields_set:
        has_pairs = current is not None and bool(current.key_pairs)
        if (wants_pairs := "v1a" in given.signature_versions) != has_pairs:
            values["key_pairs"] = (sealed_key_pair(vault),) if wants_pairs else ()
    if "signature_header" in given.model_fields_set:
        stored = current.signature_header if current else None
        values["signature_header"] = given.signature_header and _stored_header(given.signature_header, stored, vault)
    return values


def _stored_header(given: SignatureHeaderInput, stored: SignatureHeaderRecord | None, vault: Vault) -> SignatureHeaderRecord:
    sealed = stored.sealed_secret if stored is not None else None
    if given.secret is not None:
        sealed = vault.seal(given.secret.get_secret_value())
    return SignatureHeaderRecord(name=given.name, encoding=given.encoding, prefix=given.prefix, sealed_secret=sealed)


def sealed_key_pair(vault: Vault) -> SealedKeyPair:
    secret = new_key_pair()
    return SealedKeyPair(sealed=vault.seal(secret), public_key=SigningKeyPair(secret).public_key)


def rotated(newest: SealedT, former: tuple[SealedT, ...], now: datetime, overlap: timedelta) -> tuple[SealedT, ...]:
    """The newest secret or key pair, and the former ones that still sign.

    The previous one signs until the overlap ends. Those that were replaced earlier keep their expiry. Without overlap, only the
    newest one signs.
    """
    if not overlap:
        return (newest,)
    ends_at = now + overlap
    kept = [newest]
    for one in former:
        expires_at = one.expires_at or ends_at
        if expires_at > now:
            kept.append(structs.replace(one, expires_at=expires_at))
    return tuple(kept[:MAX_VALID])


def shown_signatures(record: EndpointRecord, now: datetime) -> dict[str, Any]:
    """An endpoint's signatures without their secrets."""
    header = record.signature_header
    pairs = valid_pairs(record.key_pairs, now)
    return {
        "signature_versions": SIGNATURE_VERSIONS if record.key_pairs else SIGNATURE_VERSIONS[:1],
        "public_keys": [
            {"key": pair.public_key, "kid": key_id(pair.public_key), "expires_at": pair.expires_at} for pair in pairs
        ],
        "signature_header": header
        and {
            "name": header.name,
            "encoding": header.encoding,
            "prefix": header.prefix,
            "has_secret": header.sealed_secret is not None,
        },
    }
