"""The CSRF token of forms, masked differently in each page, so that the length of a compressed page does not reveal it (BREACH)."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets


def masked(token: str) -> str:
    """A token for a form: random bytes, and the token masked with them."""
    plain = token.encode()
    mask = secrets.token_bytes(len(plain))
    return base64.urlsafe_b64encode(mask + _under(mask, plain)).decode()


def is_token(given: str, token: str) -> bool:
    """Whether a form has the token of its session. Pages from the previous release have it unmasked."""
    if hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
        return True
    try:
        both = base64.urlsafe_b64decode(given.encode())
    except (ValueError, binascii.Error):
        return False
    half = len(both) // 2
    return hmac.compare_digest(_under(both[:half], both[half:]), token.encode())


def _under(mask: bytes, text: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(mask, text, strict=False))
