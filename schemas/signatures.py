"""An endpoint's signatures in addition to that of its signing secret: the stored records, and the accepted values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from schemas.custom_headers import check_header_name
from schemas.own_records import RewrittenRecord, Time

SIGNATURE_VERSIONS: Final = ("v1", "v1a")
MAX_OVERLAP_HOURS: Final = 168
DEFAULT_OVERLAP_HOURS: Final = 24
_PREFIX: Final = re.compile(r"[\x21-\x7e]{0,32}")
_SECRET: Final = re.compile(r"[\x20-\x7e]{8,1024}")
_ENCODINGS: Final = ("hex", "base64")


class SealedKeyPair(RewrittenRecord, frozen=True, kw_only=True, gc=False):
    """A key pair for signatures of version v1a. ``expires_at`` is set when it is rotated out."""

    sealed: str
    public_key: str
    expires_at: Time | None = None


class SignatureHeaderRecord(RewrittenRecord, frozen=True, kw_only=True, gc=False):
    """A second header with an HMAC-SHA256 of the body. Without a secret, the text of the newest signing secret is the key."""

    name: str
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    sealed_secret: str | None = None


def check_signature_versions(value: object) -> tuple[str, ...]:
    """Read the field ``signature_versions``.

    Raises:
        ValueError: a sentence that says what is wrong.
    """
    given = value if isinstance(value, list | tuple) else ()
    if "v1" not in given or not all(isinstance(one, str) and one in SIGNATURE_VERSIONS for one in given):
        raise ValueError('signature_versions must be ["v1"], or ["v1", "v1a"] for Ed25519 signatures too.')
    return tuple(version for version in SIGNATURE_VERSIONS if version in given)


def check_signature_header(value: object) -> dict[str, Any] | None:
    """Read the field ``signature_header``. Messages never contain the secret.

    Raises:
        ValueError: a sentence that says what is wrong.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError(  # noqa: TRY004 - pydantic turns a ValueError into a finding
            'signature_header must be an object such as {"name": "X-Signature", "encoding": "hex"}, or null.'
        )
    given = {name: content for name, content in value.items() if content is not None and name != "has_secret"}
    if unknown := sorted(name[:50] for name in given.keys() - {"name", "encoding", "prefix", "secret"}):
        raise ValueError(f"signature_header has no {unknown[0]!r}; it has name, encoding, prefix, secret.")
    given["name"] = check_header_name(given["name"], "signature_header.name")
    if given.setdefault("encoding", "hex") not in _ENCODINGS:
        raise ValueError("signature_header.encoding must be hex or base64.")
    if not isinstance(given.setdefault("prefix", ""), str) or not _PREFIX.fullmatch(given["prefix"]):
        raise ValueError("signature_header.prefix must be at most 32 visible ASCII characters, such as sha256=.")
    if "secret" in given and not (isinstance(given["secret"], str) and _SECRET.fullmatch(given["secret"])):
        raise ValueError("signature_header.secret must be 8 to 1024 ASCII characters without control characters.")
    return given
