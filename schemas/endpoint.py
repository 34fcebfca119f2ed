"""The endpoint record in the compacted topic ``webhooks.endpoints`` (key: the endpoint's id).

A deleted endpoint keeps a last record with ``deleted`` set and without secrets, which says who deleted it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from msgspec import Meta, field

from schemas.authentication import AuthenticationRecord
from schemas.client_certificate import SealedCertificate
from schemas.event import SCHEMA_VERSION
from schemas.filter_texts import FilterValue
from schemas.own_records import Int64Value, OffsetValue, PartitionValue, RewrittenRecord, Time
from schemas.retry_policy import STANDARD
from schemas.signatures import SealedKeyPair, SignatureHeaderRecord
from schemas.verification import Verification

EXPRESSIONS_VERSION: Final = 2
"""The version of an endpoint's record whose filters cannot be expressed as paths with values."""


class SealedSecret(RewrittenRecord, frozen=True, kw_only=True, gc=False):
    """An encrypted signing secret. ``expires_at`` is set when it is rotated out (24 hours ahead, by default)."""

    sealed: str
    expires_at: Time | None = None


class HeldDrop(RewrittenRecord, frozen=True, kw_only=True, gc=False):
    """A decision not to send the held deliveries of the endpoint in one partition of ``webhooks.held``.

    It applies to records below the offset ``below`` that are not younger than ``until``, the time of the last of them.
    """

    partition: PartitionValue
    below: OffsetValue
    until: Time
    dropped_by: str
    dropped_at: Time


class EndpointRecord(RewrittenRecord, frozen=True, kw_only=True, gc=False):
    """One registered endpoint and who changed it last.

    ``filters`` maps a path in the payload (``channel``, ``ship_address.country_iso``) to its accepted values; an event matches if
    every path has one of its values. ``expressions`` are the filters as they were given. They mean the same, unless the record is
    of version 2: then only they count, and ``filters`` is empty.
    """

    newest_version: ClassVar[int] = EXPRESSIONS_VERSION

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    id: Int64Value
    target_url: str
    events: tuple[str, ...]
    description: str = ""
    active: bool = True
    filters: dict[str, tuple[FilterValue, ...]] = field(default_factory=dict)
    expressions: tuple[str, ...] = ()
    max_per_second: Annotated[int, Meta(ge=1)] | None = None
    """The most requests a second; None: no limit."""
    retry_policy: str = STANDARD
    """standard, patient, impatient, or delays such as 5s,1m,10m."""
    ordered: bool = False
    """Whether events with one key arrive one after the other, in the order of their offsets."""
    event_type_versions: dict[str, int] = field(default_factory=dict)
    """Event types whose version is pinned; of the others, every version is sent."""
    sealed_token: str | None = None
    """A bearer token."""
    authentication: AuthenticationRecord | None = None
    """Any other authentication; never together with a token."""
    key_pairs: tuple[SealedKeyPair, ...] = ()
    """For signatures of version v1a, newest first."""
    signature_header: SignatureHeaderRecord | None = None
    """A second header with an HMAC of the body."""
    client_certificate: SealedCertificate | None = None
    """For mutual TLS."""
    sealed_headers: dict[str, str] = field(default_factory=dict)
    """Custom headers: names, encrypted values."""
    secrets: tuple[SealedSecret, ...] = ()
    created_at: Time
    updated_at: Time
    version: Int64Value = 1
    """Rises by one with every change."""
    activated_version: Int64Value = 1
    """The version that last activated it (create, active: true if it was not active, a new target_url): earlier health facts do not
    apply.
    """
    drops: tuple[HeldDrop, ...] = ()
    """The last drop of each partition of webhooks.held."""
    disabled_at: Time | None = None
    """When it was disabled by hand; a disabled endpoint is not active either. An activation ends it."""
    disabled_by: str = ""
    verification: str = Verification.NONE.value
    """Whether and how it must be verified before it is used."""
    verified_url: str | None = None
    """The target_url that was verified; any other is unverified."""
    verified_at: Time | None = None
    verified_origin: str | None = None
    """The origin that it allowed in a handshake."""
    verification_problem: str = ""
    """Why the last verification failed; empty if it succeeded."""
    deleted: bool = False
    change: str = "create"
    """create, update, rotate_secret, drop_held, verify, delete"""
    changed_by: str = ""
