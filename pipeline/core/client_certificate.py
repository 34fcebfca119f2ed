"""Checks an endpoint's client certificate and its key: whether they are valid, belong together, and when they expire. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

MAX_PEM: Final = 32_768
_MAX_CHAIN: Final = 10


@dataclass(frozen=True, slots=True)
class ClientIdentity:
    """A certificate with its chain, and the private key, both as PEM."""

    certificate: str
    private_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """The facts of a certificate that may be shown. ``fingerprint`` is its SHA-256 in hexadecimal."""

    subject: str
    expires_at: datetime
    fingerprint: str


class CertificateError(ValueError):
    """A certificate or a key cannot be used; ``str(error)`` says why, without any part of the key."""


def certificate_facts(identity: ClientIdentity, now: datetime | None = None) -> CertificateFacts:
    """Check a certificate and its key. A certificate that has expired at ``now`` is refused too.

    Raises:
        CertificateError: they cannot be used.
    """
    from cryptography import x509  # noqa: PLC0415 - every role loads this file, and few endpoints have certificates
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    if max(len(identity.certificate), len(identity.private_key)) > MAX_PEM:
        raise CertificateError(f"certificate and private_key may have at most {MAX_PEM:,} characters each.")
    try:
        chain = x509.load_pem_x509_certificates(identity.certificate.encode())
    except ValueError:
        raise CertificateError("certificate must be PEM: the client's certificate, followed by its CA certificates.") from None
    if len(chain) > _MAX_CHAIN:
        raise CertificateError(f"certificate has {len(chain)} certificates; at most {_MAX_CHAIN} are accepted.")
    leaf = chain[0]
    if _public_bytes(identity.private_key) != leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise CertificateError("private_key is not the key of the first certificate.")
    if now is not None and leaf.not_valid_after_utc <= now:
        raise CertificateError(f"certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}.")
    return CertificateFacts(leaf.subject.rfc4514_string()[:500], leaf.not_valid_after_utc, leaf.fingerprint(SHA256()).hex())


def _public_bytes(private_key: str) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see certificate_facts
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(private_key.encode(), password=None)
    except TypeError:
        raise CertificateError("private_key is encrypted: provide it without a passphrase. It is stored encrypted.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError("private_key must be a private key in PEM, without a passphrase.") from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
