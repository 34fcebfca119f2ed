"""What a change makes of an endpoint's client certificate: the rules, without HTTP. Pure."""

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
    """The field ``client_certificate`` of a record, where the change says something about it.

    Raises:
        InvalidError: certificate or key cannot be used.
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
    """A client certificate is shown in TLS, and nowhere else.

    Raises:
        InvalidError: there is one, and the target_url has no TLS.
    """
    certificate = values.get("client_certificate", current.client_certificate if current else None)
    target_url = values.get("target_url", current.target_url if current else "")
    if certificate is not None and not target_url.lower().startswith("https://"):
        field = "client_certificate" if "client_certificate" in values else "target_url"
        raise InvalidError({field: [f"{field}: a client certificate needs an https:// target_url."]})


def shown_certificate(record: EndpointRecord) -> dict[str, Any] | None:
    """What is shown of an endpoint's client certificate: not its texts."""
    stored = record.client_certificate
    if stored is None:
        return None
    return {"subject": stored.subject, "expires_at": stored.expires_at, "fingerprint": stored.fingerprint}
