"""An endpoint's signatures in addition to its signing secret: decrypted key pairs, and the HMAC in a second header. Pure."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from pipeline.core.asymmetric_signing import SigningKeyPair
from pipeline.endpoints.vault import Vault, VaultError
from schemas.signatures import SealedKeyPair, SignatureHeaderRecord

if TYPE_CHECKING:
    from schemas.endpoint import EndpointRecord

OpenPairs = tuple[tuple[SigningKeyPair, datetime | None], ...]


class BodySignature:
    """A header with an HMAC-SHA256 of the body, for receivers that support no other form. Never shows its key."""

    __slots__ = ("_hmac", "_is_hex", "_prefix", "name")

    def __init__(self, stored: SignatureHeaderRecord, key: str) -> None:
        """``key`` is used literally, as by such receivers: nothing in it is decoded."""
        self.name = stored.name
        self._prefix = stored.prefix
        self._is_hex = stored.encoding == "hex"
        self._hmac = HMAC(key.encode(), SHA256())

    def value(self, body: bytes) -> str:
        """The header's value."""
        signing = self._hmac.copy()
        signing.update(body)
        digest = signing.finalize()
        return self._prefix + (digest.hex() if self._is_hex else base64.b64encode(digest).decode("ascii"))


def open_key_pairs(record: EndpointRecord, vault: Vault) -> OpenPairs:
    """An endpoint's key pairs, newest first.

    Raises:
        VaultError: one cannot be decrypted, or is invalid.
    """
    try:
        return tuple((SigningKeyPair(vault.open(pair.sealed)), pair.expires_at) for pair in record.key_pairs)
    except ValueError:
        raise VaultError("The endpoint's key pair cannot be used: turn v1a off and on again to get a new one.") from None


def open_body_signature(record: EndpointRecord, vault: Vault, newest_secret: str) -> tuple[BodySignature | None, tuple[str, ...]]:
    """The second header, and the secrets that must not appear in a recorded answer.

    Raises:
        VaultError: its secret cannot be opened.
    """
    stored = record.signature_header
    if stored is None:
        return None, ()
    if stored.sealed_secret is None:
        return BodySignature(stored, newest_secret), ()
    secret = vault.open(stored.sealed_secret)
    return BodySignature(stored, secret), (secret,)


def opened_signature_header(record: EndpointRecord, vault: Vault) -> dict[str, object] | None:
    """The second header in the form of an API input, with its secret.

    Raises:
        VaultError: its secret cannot be opened.
    """
    stored = record.signature_header
    if stored is None:
        return None
    secret = None if stored.sealed_secret is None else vault.open(stored.sealed_secret)
    return {"name": stored.name, "encoding": stored.encoding, "prefix": stored.prefix, "secret": secret}


def valid_pairs(pairs: tuple[SealedKeyPair, ...], now: datetime) -> list[SealedKeyPair]:
    """The key pairs that are valid at this time."""
    return [pair for pair in pairs if pair.expires_at is None or pair.expires_at > now]
