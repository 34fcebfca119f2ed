"""The record of an API key in the compacted topic ``webhooks.api-keys`` (key: the API key's id). It holds no key, only a digest."""

from __future__ import annotations

import enum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.event import SCHEMA_VERSION, SchemaVersion


class Access(enum.StrEnum):
    """What a key may do; each may do all that those before it may."""

    VIEWER = "viewer"
    """Look at endpoints and attempts, without bodies."""
    OPERATOR = "operator"
    """See bodies, which hold customers' data; resend; send test events."""
    ADMIN = "admin"
    """Change endpoints and API keys."""

    def covers(self, needed: Access) -> bool:
        """Whether this is ``needed`` or more."""
        order = list(Access)
        return order.index(self) >= order.index(needed)


class ApiKeyRecord(BaseModel):
    """One API key. ``sha256`` is the digest of the whole key in hex; ``id`` is its beginning, and names the key in audits.

    A revoked key keeps its record, so that who revoked it stays known.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: SchemaVersion = SCHEMA_VERSION
    id: str
    name: str
    role: Access
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: AwareDatetime
    created_by: str
    is_first: bool = Field(default=False, description="Made because there was no admin key; void when there is one already.")
    revoked_at: AwareDatetime | None = None
    revoked_by: str = ""
