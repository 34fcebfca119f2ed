"""An endpoint as the roles use it. Its secrets are decrypted once, when its record is read, and not for each delivery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from msgspec import structs

from pipeline.core.client_certificate import ClientIdentity
from pipeline.core.filters.stored import Filters, filters_of
from pipeline.core.redaction import Redactor
from pipeline.core.signing import Signer, SigningKey
from pipeline.core.token_response import TokenRequest
from pipeline.endpoints.authentication import Credential, HeaderCredential, open_credential
from pipeline.endpoints.client_certificates import open_identity
from pipeline.endpoints.signatures import BodySignature, OpenPairs, open_body_signature, open_key_pairs
from pipeline.endpoints.vault import UnknownEncryptionKeyError, Vault, VaultError
from schemas.authentication import AuthenticationRecord
from schemas.custom_headers import is_reserved
from schemas.endpoint import EndpointRecord
from schemas.health import HealthRecord
from schemas.signatures import SignatureHeaderRecord
from schemas.verification import Verification

_Keys = tuple[tuple[SigningKey, datetime | None], ...]
_NO_SECRETS: Final = Redactor()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A registered endpoint. ``repr`` shows no secrets.

    ``problem`` is a sentence that says why nothing can be sent to it (its secrets cannot be decrypted), and what to do. Until that
    is fixed, its deliveries wait, unlike those of a deleted endpoint.
    """

    id: int
    target_url: str
    events: frozenset[str]
    filters: Filters
    problem: str | None
    record: EndpointRecord = field(repr=False)
    credential: Credential | None = field(repr=False)
    """How its requests authenticate, in addition to their signature."""
    headers: Mapping[str, str] = field(repr=False)
    """Custom headers of every request, without ``unsent_headers``. The values are secrets."""
    _keys: _Keys = field(repr=False)
    disabled: HealthRecord | None = None
    """When and why a delivering process disabled it; None if it is not disabled."""
    is_current: bool = True
    """Whether all its secrets are encrypted with the first encryption key."""
    is_encrypted_with_unknown_key: bool = False
    """Whether its problem is that none of the encryption keys decrypts its secrets."""
    identity: ClientIdentity | None = field(default=None, repr=False)
    """The client certificate for TLS."""
    body_signature: BodySignature | None = field(default=None, repr=False)
    """A second header with an HMAC of the body."""
    _pairs: OpenPairs = field(default=(), repr=False)
    redactor: Redactor = field(default=_NO_SECRETS, repr=False)
    """Removes its credentials, header values and signing secrets from its answers."""

    @property
    def token(self) -> str | None:
        """The bearer token, if it has one."""
        credential = self.header_credential
        return credential.secrets[0] if credential is not None and self.record.sealed_token else None

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the signature in its requests is specific to it."""
        return (
            self.credential is None
            and not self.headers
            and self.body_signature is None
            and self.identity is None
            and self.record.verified_origin is None
        )

    @property
    def token_request(self) -> TokenRequest | None:
        """The request for an access token, if it uses access tokens."""
        return self.credential if isinstance(self.credential, TokenRequest) else None

    @property
    def header_credential(self) -> HeaderCredential | None:
        """The header that authenticates, if it is the same for every request."""
        return self.credential if isinstance(self.credential, HeaderCredential) else None

    @property
    def active(self) -> bool:
        """Whether requests are sent to it: it is neither paused nor disabled, and it is verified if that is required."""
        return self.record.active and not self.record.deleted and self.disabled is None and not self.is_unverified

    @property
    def is_unverified(self) -> bool:
        """Whether its target_url must still be verified."""
        record = self.record
        return record.verification != Verification.NONE and record.verified_url != record.target_url

    @property
    def unsent_headers(self) -> tuple[str, ...]:
        """Names of headers that an older release accepted, but that a receiver may confuse with the sender's own."""
        return tuple(sorted(filter(is_reserved, self.record.sealed_headers)))

    def keys(self, now: datetime) -> list[SigningKey]:
        """The keys to sign with: the newest, and a rotated one until its grace period is over.

        If all grace periods are over, the newest is used. There is always a key, unless the endpoint has a problem.
        """
        valid = [key for key, expires_at in self._keys if expires_at is None or expires_at > now]
        return valid or [key for key, _ in self._keys[:1]]

    def signers(self, now: datetime) -> Sequence[Signer]:
        """What signs a request: the keys, then the valid key pairs."""
        keys = self.keys(now)
        if not self._pairs:
            return keys
        return [*keys, *(pair for pair, expires_at in self._pairs if expires_at is None or expires_at > now)]


def open_endpoint(record: EndpointRecord, vault: Vault) -> Endpoint:
    """Decrypt a record's secrets. If that fails, the endpoint has a problem, and neither a credential nor keys."""
    opened, problem, is_encrypted_with_unknown_key = _Opened(), None, False
    try:
        opened = _opened(record, vault)
    except VaultError as error:
        problem, is_encrypted_with_unknown_key = str(error), isinstance(error, UnknownEncryptionKeyError)
    return Endpoint(
        id=record.id,
        target_url=record.target_url,
        events=frozenset(record.events),
        filters=filters_of(record),
        problem=problem,
        record=record,
        credential=opened.credential,
        headers=opened.headers,
        _keys=opened.keys,
        is_current=problem is None and all(map(vault.is_current, _sealed(record))),
        is_encrypted_with_unknown_key=is_encrypted_with_unknown_key,
        identity=opened.identity,
        body_signature=opened.body_signature,
        _pairs=opened.pairs,
        redactor=opened.redactor,
    )


def renewed(record: EndpointRecord, vault: Vault) -> dict[str, object]:
    """The fields of a record that hold secrets, all encrypted with the first encryption key.

    Raises:
        VaultError: one cannot be decrypted.
    """
    return {
        "sealed_token": vault.renew(record.sealed_token) if record.sealed_token else record.sealed_token,
        "authentication": _renewed_authentication(record, vault),
        "key_pairs": tuple(structs.replace(pair, sealed=vault.renew(pair.sealed)) for pair in record.key_pairs),
        "signature_header": _renewed_signature_header(record, vault),
        "client_certificate": record.client_certificate
        and structs.replace(record.client_certificate, sealed=vault.renew(record.client_certificate.sealed)),
        "sealed_headers": {name: vault.renew(sealed) for name, sealed in record.sealed_headers.items()},
        "secrets": tuple(structs.replace(secret, sealed=vault.renew(secret.sealed)) for secret in record.secrets),
    }


def _renewed_authentication(record: EndpointRecord, vault: Vault) -> AuthenticationRecord | None:
    stored = record.authentication
    return stored and structs.replace(stored, sealed_secret=vault.renew(stored.sealed_secret))


def _renewed_signature_header(record: EndpointRecord, vault: Vault) -> SignatureHeaderRecord | None:
    stored = record.signature_header
    if stored is None or stored.sealed_secret is None:
        return stored
    return structs.replace(stored, sealed_secret=vault.renew(stored.sealed_secret))


def _sealed(record: EndpointRecord) -> list[str]:
    token = [record.sealed_token] if record.sealed_token else []
    secret = [record.authentication.sealed_secret] if record.authentication else []
    pairs = [pair.sealed for pair in record.key_pairs]
    if record.signature_header is not None and record.signature_header.sealed_secret is not None:
        secret.append(record.signature_header.sealed_secret)
    if record.client_certificate is not None:
        secret.append(record.client_certificate.sealed)
    return [*token, *secret, *pairs, *record.sealed_headers.values(), *(secret.sealed for secret in record.secrets)]


@dataclass(frozen=True, slots=True)
class _Opened:
    credential: Credential | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    keys: _Keys = ()
    pairs: OpenPairs = ()
    body_signature: BodySignature | None = None
    identity: ClientIdentity | None = None
    redactor: Redactor = _NO_SECRETS


def _opened(record: EndpointRecord, vault: Vault) -> _Opened:
    if not record.secrets:
        raise VaultError("The endpoint has no signing secret; delete it and register it again.")
    credential = open_credential(record, vault)
    secrets = [(vault.open(secret.sealed), secret.expires_at) for secret in record.secrets]
    headers = {name: vault.open(sealed) for name, sealed in record.sealed_headers.items()}
    body_signature, body_secrets = open_body_signature(record, vault, secrets[0][0])
    values = [*headers.values(), *(credential.secrets if credential else ()), *body_secrets]
    return _Opened(
        credential,
        {name: value for name, value in headers.items() if not is_reserved(name)},
        tuple((_signing_key(secret), expires_at) for secret, expires_at in secrets),
        open_key_pairs(record, vault),
        body_signature,
        open_identity(record.client_certificate, vault),
        Redactor(values, [secret for secret, _ in secrets]),
    )


def _signing_key(secret: str) -> SigningKey:
    try:
        return SigningKey(secret)
    except ValueError as error:  # its message does not repeat the secret
        raise VaultError(
            f"The endpoint's signing secret is invalid; delete the endpoint and register it again. ({error})"
        ) from None
