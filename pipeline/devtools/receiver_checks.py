"""The sample receiver's requirements in addition to a signature with a secret, and its answer to a handshake."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pipeline.core.asymmetric_signing import PUBLIC_PREFIX
from pipeline.core.signing import SIGNATURE_HEADER, SignatureError, read_signed

_VERSION = "v1a,"
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class ReceiverChecks:
    """A request must meet all requirements that are set.

    Args:
        basic: user name and password of HTTP Basic, separated by a colon.
        api_key: the name of a header, a colon, and the key that it must contain.
        public_key: ``whpk_`` and the Ed25519 key in base64 that checks signatures of version v1a.
        allowed_origin: the sender that a handshake (OPTIONS) allows; ``*``: any; empty: none.

    Raises:
        ValueError: one of them is malformed; the message does not repeat it.
    """

    basic: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    public_key: str = ""
    allowed_origin: str = ""

    def __post_init__(self) -> None:
        """Refuse malformed values."""
        if self.basic and ":" not in self.basic:
            raise ValueError("Give user name and password, separated by a colon: user:password.")
        name, colon, key = self.api_key.partition(":")
        if self.api_key and not (colon and name.strip() and key.strip()):
            raise ValueError("Give the name of the header, a colon and the key: X-Api-Key: key.")
        if self.public_key:
            _public_key(self.public_key)

    def check(self, headers: Mapping[str, str], body: bytes, now: Callable[[], float]) -> None:
        """Check one request. Raises SignatureError if it is refused."""
        lowered = {name.lower(): value for name, value in headers.items()}
        if self.basic:
            expected = f"Basic {base64.b64encode(self.basic.encode()).decode()}"
            _compare(lowered.get("authorization"), expected, "The Authorization header does not match user and password.")
        if self.api_key:
            name, _, key = (part.strip() for part in self.api_key.partition(":"))
            _compare(lowered.get(name.lower()), key, f"The header {name} does not contain the key.")
        if self.public_key:
            self._check_signature(headers, body, int(now()))

    def _check_signature(self, headers: Mapping[str, str], body: bytes, now: int) -> None:
        message, signatures = read_signed(headers, body, now=now)
        key = _public_key(self.public_key)
        for signature in signatures:
            if signature.startswith(_VERSION) and _verifies(key, signature.removeprefix(_VERSION), message):
                return
        raise SignatureError(f"No signature of version v1a in {SIGNATURE_HEADER} matches the public key.")

    def handshake(self, headers: Mapping[str, str]) -> dict[str, str] | None:
        """The headers that answer a handshake; None if the origin is not allowed."""
        origin = next((value for name, value in headers.items() if name.lower() == "webhook-request-origin"), "")
        if not origin or self.allowed_origin not in ("*", origin):
            return None
        return {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*", "Allow": "POST"}


def _compare(given: str | None, expected: str, message: str) -> None:
    if not hmac.compare_digest((given or "").encode(errors="replace"), expected.encode()):
        raise SignatureError(message)


def _public_key(text: str) -> Ed25519PublicKey:
    try:
        raw = base64.b64decode(text.removeprefix(PUBLIC_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not text.startswith(PUBLIC_PREFIX) or len(raw) != _KEY_BYTES:
        raise ValueError(f"A public key is {PUBLIC_PREFIX} and {_KEY_BYTES} bytes in base64.")
    return Ed25519PublicKey.from_public_bytes(raw)


def _verifies(key: Ed25519PublicKey, signature: str, message: bytes) -> bool:
    try:
        key.verify(base64.b64decode(signature, validate=True), message)
    except (InvalidSignature, ValueError):  # binascii.Error is one
        return False
    return True
