"""The signature fields of an endpoint's form. Secrets are never shown. An empty secret field keeps the stored secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from multidict import MultiDictProxy

from schemas.endpoint import EndpointRecord

SIGNATURE_FIELDS: Final = ("signatures", "v1a", "signature_name", "signature_encoding", "signature_prefix", "signature_secret")
CERTIFICATE_FIELDS: Final = ("certificate", "private_key", "remove_certificate")
"""The fields of the form. ``signatures`` is always sent with the others, because an unchecked box sends nothing."""
ENCODING_CHOICES: Final = (("hex", "hexadecimal"), ("base64", "base64"))


@dataclass(frozen=True, slots=True)
class SignatureForm:
    """The content of the fields, as text."""

    has_v1a: bool = False
    name: str = ""
    encoding: str = "hex"
    prefix: str = ""
    has_secret: bool = False


def shown_signature_form(record: EndpointRecord) -> SignatureForm:
    """The fields of an existing endpoint."""
    has_v1a, header = bool(record.key_pairs), record.signature_header
    if header is None:
        return SignatureForm(has_v1a)
    return SignatureForm(has_v1a, header.name, header.encoding, header.prefix, header.sealed_secret is not None)


def sent_signature_form(form: MultiDictProxy[str], stored: EndpointRecord | None) -> SignatureForm:
    """The fields as they were sent. If none were sent, the fields of the endpoint."""
    kept = shown_signature_form(stored) if stored is not None else SignatureForm()
    if "signatures" not in form:
        return kept
    name, encoding, prefix = (form.get(one, "") for one in ("signature_name", "signature_encoding", "signature_prefix"))
    return SignatureForm("v1a" in form, name, encoding, prefix, kept.has_secret)


def signatures_of_others(typed: SignatureForm, now: SignatureForm) -> dict[str, str]:
    """The current signatures in words, if what was typed differs from them. Secrets are not compared."""
    others: dict[str, str] = {}
    if typed.has_v1a != now.has_v1a:
        others["v1a_signature"] = (
            "on; if you save with it turned off, its key pair is deleted permanently" if now.has_v1a else "off"
        )
    ours, theirs = ((one.name.strip().lower(), one.encoding, one.prefix.strip()) for one in (typed, now))
    if ours != theirs and (ours[0] or theirs[0]):
        prefix = f", prefix {now.prefix}" if now.prefix else ""
        others["second_signature_header"] = f"{now.name} in {now.encoding}{prefix}" if now.name else "(none)"
    return others


def given_certificate(form: MultiDictProxy[str]) -> dict[str, Any]:
    """The field ``client_certificate`` in the API's format. Empty if the form does not set it."""
    if "remove_certificate" in form:
        return {"client_certificate": None}
    texts = {name: form.get(name, "").replace("\r\n", "\n").strip() for name in ("certificate", "private_key")}
    return {"client_certificate": texts} if any(texts.values()) else {}


def given_signatures(form: MultiDictProxy[str]) -> dict[str, Any]:
    """The fields in the API's format. Empty if the form does not set them."""
    if "signatures" not in form:
        return {}
    versions = ["v1", "v1a"] if "v1a" in form else ["v1"]
    name = form.get("signature_name", "").strip()
    if not name:
        return {"signature_versions": versions, "signature_header": None}
    header = {
        "name": name,
        "encoding": form.get("signature_encoding") or "hex",
        "prefix": form.get("signature_prefix", "").strip(),
        "secret": form.get("signature_secret") or None,
    }
    return {"signature_versions": versions, "signature_header": header}
