"""The rules for changing an endpoint's client certificate, without HTTP. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipeline.core.client_certificate import CertificateError, ClientIdentity, certificate_facts
from pipeline.endpoints.client_certificates import sealed_certificate
from pipeline.endpoints.vault import Vault
from pipeline.web.errors import InvalidError
from schemas.endpoint import EndpointRecord
from schemas.http.endpoints import EndpointInput


def certificate_values(given: EndpointInput, current: EndpointRecord | None, vault: Vault, now: datetime) -> dict[str, Any]:
    """The record's field ``client_certificate``, if the change affects it.

    Raises:
        InvalidError: the certificate or its key cannot be used.
    """
    if "client_certificate" not in given.model_fields_set:
        return {}
    asked = given.client_certificate
    if asked is None:
        return {"client_certificate": None}
    if asked.certificate is None or asked.private_key is None:
        if current is not None and current.client_certificate is not None:
            return {"client_certificate": current.client_certificate}
        raise InvalidError({"client_certificate": ["client_certificate needs certificate and private_key, both PEM."]})
    identity = ClientIdentity(asked.certificate.get_secret_value(), asked.private_key.get_secret_value())
    try:
        certificate_facts(identity, now)
        return {"client_certificate": sealed_certificate(identity, vault)}
    except CertificateError as error:
        raise InvalidError({"client_certificate": [f"client_certificate: {error}"]}) from None


def require_tls(values: Mapping[str, Any], current: EndpointRecord | None) -> None:
    """Make sure that an endpoint with a client certificate uses TLS.

    Raises:
        InvalidError: there is a certificate, and the target_url does not use TLS.
    """
    certificate = values.get("client_certificate", current.client_certificate if current else None)
    target_url = values.get("target_url", current.target_url if current else "")
    if certificate is not None and not target_url.lower().startswith("https://"):
        field = "client_certificate" if "client_certificate" in values else "target_url"
        raise InvalidError({field: [f"{field}: a client certificate needs an https:// target_url."]})


def shown_certificate(record: EndpointRecord) -> dict[str, Any] | None:
    """The public facts of an endpoint's client certificate, without the certificate and its key."""
    stored = record.client_certificate
    if stored is None:
        return None
    return {"subject": stored.subject, "expires_at": stored.expires_at, "fingerprint": stored.fingerprint}
