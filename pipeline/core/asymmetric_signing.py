"""Asymmetric signatures according to Standard Webhooks: ``v1a,`` and the base64 of Ed25519 over ``id.timestamp.body``. Pure.

The public key can check a delivery, but cannot sign one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Final

SECRET_PREFIX: Final = "whsk_"
PUBLIC_PREFIX: Final = "whpk_"
_VERSION: Final = "v1a,"
_SEED_BYTES: Final = 32


class SigningKeyPair:
    """A private key, parsed once. Never shows its key."""

    __slots__ = ("_private", "public_key")

    def __init__(self, secret: str) -> None:
        """Parse ``whsk_`` and the base64 of the 32 bytes of an Ed25519 private key.

        Raises:
            ValueError: the secret has another form. The message does not repeat the secret.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - every role loads this file
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

        try:
            seed = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            seed = b""
        if not secret.startswith(SECRET_PREFIX) or len(seed) != _SEED_BYTES:
            raise ValueError(f"A private key is {SECRET_PREFIX} and {_SEED_BYTES} bytes in base64.")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        raw = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public_key = PUBLIC_PREFIX + base64.b64encode(raw).decode()

    def __repr__(self) -> str:
        return f"SigningKeyPair({self.public_key})"

    def signature(self, message: bytes) -> str:
        """Sign ``id.timestamp.body``."""
        return _VERSION + base64.b64encode(self._private.sign(message)).decode("ascii")


def new_key_pair() -> str:
    """Generate a private key: ``whsk_`` and its base64."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: PLC0415

    seed = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return SECRET_PREFIX + base64.b64encode(seed).decode()


def key_id(public_key: str) -> str:
    """The id of a public key in a JWKS: its thumbprint (RFC 7638)."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": _x(public_key)}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest()
    return _url_base64(digest)


def jwk(public_key: str) -> dict[str, str]:
    """A public key as a JSON Web Key (RFC 8037)."""
    kid = key_id(public_key)
    return {"kty": "OKP", "crv": "Ed25519", "x": _x(public_key), "kid": kid, "use": "sig", "alg": "EdDSA"}


def _x(public_key: str) -> str:
    return _url_base64(base64.b64decode(public_key.removeprefix(PUBLIC_PREFIX)))


def _url_base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
