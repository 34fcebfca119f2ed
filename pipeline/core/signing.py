"""Signatures according to Standard Webhooks 1.0.0: ``v1,`` and the base64 of HMAC-SHA256 over ``id.timestamp.body``."""

from __future__ import annotations

import binascii
import hmac
import secrets
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"

HOW_TO_MAKE_A_SECRET = "echo whsec_$(openssl rand -base64 32)"
"""A shell command."""

_PREFIX = "whsec_"
_VERSION = "v1,"
_NEW_KEY_BYTES = 32
# The specification's limits for a symmetric key.
_MIN_KEY_BYTES, _MAX_KEY_BYTES = 24, 64


class SignatureError(Exception):
    """A delivery with an invalid signature; ``str(error)`` says why, but never contains a key or the expected signature."""


class Signer(Protocol):
    """Creates one of the signatures of a request."""

    def signature(self, message: bytes) -> str:
        """Sign ``id.timestamp.body``: the version, a comma, and the signature in base64."""


class SigningKey:
    """A secret, decoded once. Never shows its key."""

    __slots__ = ("_hmac",)

    def __init__(self, secret: str) -> None:
        """Parse ``whsec_`` and the base64 of 24 to 64 bytes.

        Raises:
            ValueError: the secret has another form. The message does not repeat the secret.
        """
        if not secret.startswith(_PREFIX):
            message = (
                f"The signing secret must start with {_PREFIX}, followed by {_MIN_KEY_BYTES} to {_MAX_KEY_BYTES} bytes in base64; "
                f"make one: {HOW_TO_MAKE_A_SECRET}"
            )
            raise ValueError(message)
        try:
            key = b64decode(secret[len(_PREFIX) :], validate=True)
        except ValueError:
            # Without its cause: a UnicodeEncodeError contains the secret.
            message = f"The signing secret is not base64 after {_PREFIX}; copy it whole, without spaces or line breaks."
            raise ValueError(message) from None
        if not _MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES:
            message = f"The signing secret holds {len(key)} bytes; it must hold {_MIN_KEY_BYTES} to {_MAX_KEY_BYTES}."
            raise ValueError(message)
        # A copy of it signs 2 KB in two thirds of the time of hmac.digest(), because the key's own blocks are hashed only here.
        self._hmac = HMAC(key, SHA256())

    def __repr__(self) -> str:
        return "SigningKey(***)"

    def signature(self, message: bytes) -> str:
        """Sign ``id.timestamp.body``: ``v1,`` and the base64 of the HMAC-SHA256."""
        signing = self._hmac.copy()
        signing.update(message)
        return _VERSION + binascii.b2a_base64(signing.finalize(), newline=False).decode("ascii")


def new_secret(token_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Generate a secret of 32 random bytes: ``whsec_`` and their base64. ``token_bytes`` is the source of randomness."""
    return _PREFIX + binascii.b2a_base64(token_bytes(_NEW_KEY_BYTES), newline=False).decode("ascii")


def sign(keys: Sequence[Signer], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature``: one signature for each key, separated by spaces (two keys during a rotation).

    Args:
        keys: every key that is valid now, newest first.
        webhook_id: the event's id; it must not contain a dot, which separates the parts of the signed text.
        timestamp: the attempt's time in whole seconds since 1970.
        body: the bytes as they are sent.

    Raises:
        ValueError: there is no key.
    """
    if not keys:
        message = "There is no key to sign with; give the endpoint a signing secret."
        raise ValueError(message)
    message_bytes = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)
    return " ".join([key.signature(message_bytes) for key in keys])


def verify(keys: Sequence[SigningKey], headers: Mapping[str, str], body: bytes, *, now: int, tolerance: int = 300) -> None:
    """Check a delivery against every key that the receiver considers valid.

    Args:
        keys: the keys; one that matches one of the signatures is enough.
        headers: the request's headers; the case of their names does not matter.
        body: the bytes as they were received.
        now: the receiver's time in whole seconds since 1970.
        tolerance: how many seconds the timestamp may differ from ``now``, in either direction.

    Raises:
        SignatureError: a header is missing or malformed, the timestamp is too old or too new, or no signature matches.
    """
    message, signatures = read_signed(headers, body, now=now, tolerance=tolerance)
    expected = [key.signature(message) for key in keys]
    given = [signature for signature in signatures if signature.startswith(_VERSION)]
    if not any(hmac.compare_digest(ours, theirs) for ours in expected for theirs in given):
        error = f"No signature in {SIGNATURE_HEADER} matches: the secret is another one, or the body was changed on the way."
        raise SignatureError(error)


def read_signed(headers: Mapping[str, str], body: bytes, *, now: int, tolerance: int = 300) -> tuple[bytes, list[str]]:
    """The signed bytes, and the signatures of all versions.

    Raises:
        SignatureError: a header is missing or malformed, or the timestamp is too old or too new.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    webhook_id = _header(lowered, ID_HEADER)
    timestamp = _header(lowered, TIMESTAMP_HEADER)
    signatures = _header(lowered, SIGNATURE_HEADER)
    _check_age(timestamp, now, tolerance)
    # The header's literal text was signed, so it is not parsed and formatted again.
    return f"{webhook_id}.{timestamp}.".encode("ascii") + body, signatures.split(" ")


def _header(lowered: Mapping[str, str], name: str) -> str:
    value = lowered.get(name, "")
    if not value:
        message = f"The header {name} is missing."
        raise SignatureError(message)
    if not value.isascii():
        message = f"The header {name} is not ASCII."
        raise SignatureError(message)
    return value


def _check_age(timestamp: str, now: int, tolerance: int) -> None:
    # 15 digits reach millions of years ahead; int() of a longer text only costs time.
    if not timestamp.isdigit() or len(timestamp) > 15:
        message = f"The header {TIMESTAMP_HEADER} is not a whole number of seconds since 1970."
        raise SignatureError(message)
    age = now - int(timestamp)
    if age > tolerance:
        message = f"The timestamp is too old: {age} seconds, at most {tolerance} are accepted."
        raise SignatureError(message)
    if -age > tolerance:
        message = f"The timestamp is too new: {-age} seconds ahead, at most {tolerance} are accepted; check the clock."
        raise SignatureError(message)
