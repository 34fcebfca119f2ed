"""An endpoint's client certificate for mutual TLS: the stored record, and the accepted input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from schemas.own_records import RewrittenRecord, Time

_READ: Final = frozenset({"subject", "expires_at", "fingerprint"})
"""Members of answers, so that an answer can be sent back unchanged."""
_GIVEN: Final = frozenset({"certificate", "private_key"})


class SealedCertificate(RewrittenRecord, frozen=True, kw_only=True, gc=False):
    """``sealed`` is a JSON object of the PEM texts ``certificate`` and ``private_key``; the rest may be shown."""

    sealed: str
    subject: str
    expires_at: Time
    fingerprint: str


def check_client_certificate(value: object) -> dict[str, Any] | None:
    """Read the field ``client_certificate``: both PEM texts, or neither. Messages never contain them.

    Raises:
        ValueError: a sentence that says what is wrong.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping) or (unknown := value.keys() - _READ - _GIVEN):
        has = "" if not isinstance(value, Mapping) else f" It has no {str(min(unknown))[:50]!r}."
        raise ValueError(f"client_certificate must be an object with certificate and private_key, both PEM, or null.{has}")
    given = {name: value[name] for name in _GIVEN if value.get(name) is not None}
    if len(given) == 1 or not all(isinstance(text, str) and text.isascii() for text in given.values()):
        raise ValueError("client_certificate needs certificate and private_key, both PEM.")
    return given
