"""Encrypts and decrypts an endpoint's client certificate. Pure."""

from __future__ import annotations

import json

from pipeline.core.client_certificate import ClientIdentity, certificate_facts
from pipeline.endpoints.vault import Vault, VaultError
from schemas.client_certificate import SealedCertificate


def sealed_certificate(identity: ClientIdentity, vault: Vault) -> SealedCertificate:
    """The certificate as it is stored.

    Raises:
        CertificateError: it cannot be used.
    """
    facts = certificate_facts(identity)
    sealed = vault.seal(json.dumps({"certificate": identity.certificate, "private_key": identity.private_key}))
    return SealedCertificate(sealed=sealed, subject=facts.subject, expires_at=facts.expires_at, fingerprint=facts.fingerprint)


def open_identity(stored: SealedCertificate | None, vault: Vault) -> ClientIdentity | None:
    """The certificate and its key.

    Raises:
        VaultError: they cannot be opened.
    """
    if stored is None:
        return None
    try:
        opened = json.loads(vault.open(stored.sealed))
        return ClientIdentity(opened["certificate"], opened["private_key"])
    except (ValueError, KeyError, TypeError):
        raise VaultError("The endpoint's client certificate is damaged; set it again.") from None
