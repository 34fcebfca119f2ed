"""The audit record in ``webhooks.audit``: who saw customers' data, who resent what, and who changed the API keys.

(Changes of endpoints are recorded in ``webhooks.endpoints``.)
"""

from __future__ import annotations

import enum
from typing import Literal

from schemas.api_key import Access
from schemas.event import SCHEMA_VERSION
from schemas.own_records import OwnRecord, Time


class AuditAction(enum.StrEnum):
    VIEW_BODY = "view_body"
    SEARCH_BODIES = "search_bodies"
    SQL = "sql"
    VIEW_DEAD_LETTER = "view_dead_letter"
    RESEND = "resend"
    RESEND_RUN = "resend_run"
    """The progress of a run of resends: ``detail`` is a :class:`ResendProgress`."""
    REPUBLISH = "republish"
    DISMISS_DEAD_LETTER = "dismiss_dead_letter"
    TEST = "test"
    CREATE_KEY = "create_key"
    REVOKE_KEY = "revoke_key"
    EXPORT_ENDPOINTS = "export_endpoints"
    IMPORT_ENDPOINTS = "import_endpoints"
    REPLAY = "replay"
    ERASE = "erase"
    DROP_HELD = "drop_held"
    CREATE_EVENT_TYPE = "create_event_type"
    UPDATE_EVENT_TYPE = "update_event_type"
    REMOVE_EVENT_TYPE = "remove_event_type"


class AuditEntry(OwnRecord, frozen=True, kw_only=True, gc=False):
    """Who did what to what. ``subject`` is a kind and an id (``attempt 1024``); ``detail`` contains neither bodies nor secrets."""

    schema_version: Literal[1] = SCHEMA_VERSION
    at: Time
    actor: str
    role: Access
    action: AuditAction
    subject: str
    detail: str = ""
    remote_address: str = ""
    actor_name: str = ""
    """The name of the actor at that time."""


class RunState(enum.StrEnum):
    """The state of a run of resends."""

    RUNNING = "running"
    CANCELLING = "cancelling"
    """It was asked to stop, and stops before its next batch."""
    DONE = "done"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    """Its process ended, another run was in progress, or the recorder was too far behind to know of one."""
    FAILED = "failed"
    """Kafka or ClickHouse stopped answering."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be sent."""
        return self not in (RunState.RUNNING, RunState.CANCELLING)


class ResendProgress(OwnRecord, frozen=True, kw_only=True, gc=False):
    """The progress of a run. ``resent`` counts what Kafka has acknowledged. Contains neither filters nor bodies.

    ``delivered``: acknowledged in the meantime, so not sent again. ``skipped``: it could not be sent again (endpoint deleted or
    paused, body gone). ``last_attempt_id`` is the last examined attempt; a run goes from the oldest notification to the newest.
    """

    state: RunState
    total: int
    resent: int = 0
    delivered: int = 0
    skipped: int = 0
    last_attempt_id: int | None = None
    problem: str = ""
