"""The audit record in ``webhooks.audit``: who looked at customers' data, who sent what again, who changed the API keys.

(Changes of endpoints are on record in ``webhooks.endpoints``.)
"""

from __future__ import annotations

import enum

from pydantic import AwareDatetime, BaseModel, ConfigDict

from schemas.api_key import Access
from schemas.event import SCHEMA_VERSION, SchemaVersion


class AuditAction(enum.StrEnum):
    """What was done."""

    VIEW_BODY = "view_body"
    SEARCH_BODIES = "search_bodies"
    SQL = "sql"
    VIEW_DEAD_LETTER = "view_dead_letter"
    RESEND = "resend"
    TEST = "test"
    CREATE_KEY = "create_key"
    REVOKE_KEY = "revoke_key"
    EXPORT_ENDPOINTS = "export_endpoints"
    IMPORT_ENDPOINTS = "import_endpoints"
    REPLAY = "replay"
    ERASE = "erase"


class AuditEntry(BaseModel):
    """Who did what to what. ``subject`` is a kind and an id (``attempt 1024``); ``detail`` holds neither bodies nor secrets."""

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: SchemaVersion = SCHEMA_VERSION
    at: AwareDatetime
    actor: str
    role: Access
    action: AuditAction
    subject: str
    detail: str = ""
    remote_address: str = ""
