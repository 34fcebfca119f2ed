"""Every route below ``/api``: the only list of them."""

from __future__ import annotations

from pipeline.web.api import Api
from pipeline.web.attempts_api import attempt_routes
from pipeline.web.backup_api import backup_routes
from pipeline.web.dead_letters_api import dead_letter_routes
from pipeline.web.encryption_api import encryption_routes
from pipeline.web.endpoints_api import endpoint_routes
from pipeline.web.erasures_api import erasure_routes
from pipeline.web.event_types_api import event_type_routes
from pipeline.web.export_api import export_routes
from pipeline.web.held_drops import held_drop_routes
from pipeline.web.keys_api import key_routes
from pipeline.web.reference import reference_routes
from pipeline.web.replays_api import replay_routes
from pipeline.web.resend_api import resend_routes
from pipeline.web.resend_runs_api import resend_run_routes
from pipeline.web.routes import Route
from pipeline.web.sql_api import sql_routes
from pipeline.web.stats_api import stats_routes
from pipeline.web.trial_api import trial_routes


def api_routes(api: Api) -> list[Route]:
    """The routes, those about the same thing side by side."""
    routes = [
        *endpoint_routes(api),
        *trial_routes(api),
        *held_drop_routes(api),
        *stats_routes(api),
        *export_routes(api),
        *attempt_routes(api),
        *resend_routes(api),
        *resend_run_routes(api),
        *sql_routes(api),
        *event_type_routes(),
        *dead_letter_routes(api),
        *key_routes(api),
        *encryption_routes(api),
        *backup_routes(api),
        *replay_routes(api),
        *erasure_routes(api),
    ]
    routes += reference_routes(lambda: routes)
    return routes
