"""The only list of all routes below ``/api``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pipeline.web.api.attempt_events import ATTEMPT_EVENT_ROUTES
from pipeline.web.api.attempts import ATTEMPT_ROUTES
from pipeline.web.api.backups import BACKUP_ROUTES
from pipeline.web.api.dead_letters import DEAD_LETTER_ROUTES
from pipeline.web.api.encryption import ENCRYPTION_ROUTES
from pipeline.web.api.endpoint_preview import PREVIEW_ROUTES
from pipeline.web.api.endpoints import ENDPOINT_ROUTES
from pipeline.web.api.erasures import ERASURE_ROUTES
from pipeline.web.api.event_types import EVENT_TYPE_ROUTES
from pipeline.web.api.exports import EXPORT_ROUTES
from pipeline.web.api.held import HELD_DROP_ROUTES
from pipeline.web.api.keys import KEY_ROUTES
from pipeline.web.api.resending import REPLAY_ROUTES, RESEND_ROUTES, RESEND_RUN_ROUTES
from pipeline.web.api.send_test_event import SEND_TEST_EVENT_ROUTES
from pipeline.web.api.sql import SQL_ROUTES
from pipeline.web.api.stats import STATS_ROUTES
from pipeline.web.api.verify import VERIFY_ROUTES
from pipeline.web.reference import reference_routes
from pipeline.web.routes import Route
from pipeline.web.services import Api

API_ROUTES: Final[Sequence[Route[Api]]] = (
    *ENDPOINT_ROUTES,
    *SEND_TEST_EVENT_ROUTES,
    *VERIFY_ROUTES,
    *HELD_DROP_ROUTES,
    *STATS_ROUTES,
    *EXPORT_ROUTES,
    *ATTEMPT_EVENT_ROUTES,
    *ATTEMPT_ROUTES,
    *RESEND_ROUTES,
    *RESEND_RUN_ROUTES,
    *SQL_ROUTES,
    *EVENT_TYPE_ROUTES,
    *DEAD_LETTER_ROUTES,
    *KEY_ROUTES,
    *ENCRYPTION_ROUTES,
    *BACKUP_ROUTES,
    *PREVIEW_ROUTES,
    *REPLAY_ROUTES,
    *ERASURE_ROUTES,
    *reference_routes(lambda: API_ROUTES),
)
"""Grouped by topic."""
