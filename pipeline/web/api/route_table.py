"""The only list of all routes below ``/api``."""

from __future__ import annotations

from pipeline.web.api.attempt_events import attempt_event_routes
from pipeline.web.api.attempts import attempt_routes
from pipeline.web.api.backups import backup_routes
from pipeline.web.api.dead_letters import dead_letter_routes
from pipeline.web.api.encryption import encryption_routes
from pipeline.web.api.endpoint_preview import preview_routes
from pipeline.web.api.endpoints import endpoint_routes
from pipeline.web.api.erasures import erasure_routes
from pipeline.web.api.event_types import event_type_routes
from pipeline.web.api.exports import export_routes
from pipeline.web.api.held import held_drop_routes
from pipeline.web.api.keys import key_routes
from pipeline.web.api.resending import replay_routes, resend_routes, resend_run_routes
from pipeline.web.api.send_test_event import send_test_event_routes
from pipeline.web.api.sql import sql_routes
from pipeline.web.api.stats import stats_routes
from pipeline.web.api.verify import verify_routes
from pipeline.web.reference import reference_routes
from pipeline.web.routes import Route
from pipeline.web.services import Api


def api_routes(api: Api) -> list[Route]:
    """The routes, grouped by topic."""
    routes = [
        *endpoint_routes(api),
        *send_test_event_routes(api),
        *verify_routes(api),
        *held_drop_routes(api),
        *stats_routes(api),
        *export_routes(api),
        *attempt_event_routes(api),
        *attempt_routes(api),
        *resend_routes(api),
        *resend_run_routes(api),
        *sql_routes(api),
        *event_type_routes(api),
        *dead_letter_routes(api),
        *key_routes(api),
        *encryption_routes(api),
        *backup_routes(api),
        *preview_routes(api),
        *replay_routes(api),
        *erasure_routes(api),
    ]
    routes += reference_routes(lambda: routes, lambda: api.events.types.names)
    return routes
