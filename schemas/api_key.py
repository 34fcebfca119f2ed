"""The record of an API key in the compacted topic ``webhooks.api-keys`` (key: the API key's id), with only a digest of the key."""

from __future__ import annotations

import enum
from typing import Annotated, Literal

from msgspec import Meta

from schemas.event import SCHEMA_VERSION
from schemas.own_records import RewrittenRecord, Time


class Access(enum.StrEnum):
    """What a key may do. Each level includes those before it."""

    VIEWER = "viewer"
    """See endpoints and attempts, without bodies."""
    OPERATOR = "operator"
    """See bodies, which contain customers' data; resend; send test events."""
    ADMIN = "admin"
    """Change endpoints and API keys."""

    def covers(self, needed: Access) -> bool:
        """Whether this is ``needed`` or more."""
        order = list(Access)
        return order.index(self) >= order.index(needed)


class ApiKeyRecord(RewrittenRecord, frozen=True, kw_only=True, gc=False):
    """One API key. ``sha256`` is the digest of the whole key in hex; ``id`` is its beginning, and identifies the key in audits.

    A revoked key keeps its record, which says who revoked it.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    name: str
    role: Access
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    created_at: Time
    created_by: str
    is_first: bool = False
    """Created because there was no admin key; void if there is one already."""
    revoked_at: Time | None = None
    revoked_by: str = ""
    owner: str = ""
    """The person who is responsible for it."""
    last_used_at: Time | None = None
    """Set in the record of a use, with the key used:<id>. That is not an API key: older releases read it as a revoked one."""
