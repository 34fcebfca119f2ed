"""The only list of all pages below ``/webhooks``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.web.dashboard.api_keys import key_pages
from pipeline.web.dashboard.attempt_list import attempt_search_pages
from pipeline.web.dashboard.attempt_live import attempt_live_pages
from pipeline.web.dashboard.attempt_page import attempt_detail_pages
from pipeline.web.dashboard.dead_letters import dead_letter_pages
from pipeline.web.dashboard.endpoint_actions import endpoint_action_pages
from pipeline.web.dashboard.endpoint_bulk import endpoint_bulk_pages
from pipeline.web.dashboard.endpoint_forms import endpoint_form_pages
from pipeline.web.dashboard.endpoint_list import endpoint_list_pages
from pipeline.web.dashboard.endpoint_page import endpoint_pages
from pipeline.web.dashboard.event_types import event_type_pages
from pipeline.web.dashboard.login import public_pages
from pipeline.web.dashboard.overview import overview_pages
from pipeline.web.dashboard.page import DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.quick_search import quick_search_pages
from pipeline.web.dashboard.resend_runs import resend_pages
from pipeline.web.dashboard.rotation_pages import rotation_pages
from pipeline.web.dashboard.time_zone_page import time_zone_pages
from pipeline.web.dashboard.timelines import timeline_pages
from pipeline.web.services import Api


def dashboard_pages(renderer: PageRenderer, api: Api, warnings: Callable[[], Mapping[str, str]]) -> list[DashboardPage]:
    """The pages, grouped by topic. Each group gets the services that it needs.

    ``warnings`` returns the problems of this process, by the name of the check.
    """
    return [
        *public_pages(renderer, api),
        *time_zone_pages(renderer),
        *overview_pages(renderer, api, warnings),
        *quick_search_pages(renderer, api),
        *endpoint_list_pages(renderer, api),
        *endpoint_bulk_pages(renderer, api),
        *endpoint_form_pages(renderer, api),
        *endpoint_action_pages(renderer, api),
        *endpoint_pages(renderer, api),
        *rotation_pages(renderer, api),
        *event_type_pages(renderer, api),
        *key_pages(renderer, api),
        *attempt_search_pages(renderer, api),
        *attempt_live_pages(renderer, api),
        *attempt_detail_pages(renderer, api),
        *timeline_pages(renderer, api),
        *resend_pages(renderer, api),
        *dead_letter_pages(renderer, api),
    ]
