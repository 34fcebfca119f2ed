"""Every page below ``/webhooks``: the only list of them."""

from __future__ import annotations

from pipeline.web.dashboard.attempt_detail import attempt_detail_pages
from pipeline.web.dashboard.attempt_search import attempt_search_pages
from pipeline.web.dashboard.dead_letter_pages import dead_letter_pages
from pipeline.web.dashboard.desk import Desk
from pipeline.web.dashboard.endpoint_forms import endpoint_form_pages
from pipeline.web.dashboard.endpoint_list import endpoint_list_pages
from pipeline.web.dashboard.endpoint_page import endpoint_pages
from pipeline.web.dashboard.key_pages import key_pages
from pipeline.web.dashboard.overview import overview_pages
from pipeline.web.dashboard.pages import Page
from pipeline.web.dashboard.public import public_pages
from pipeline.web.dashboard.resend_pages import resend_pages
from pipeline.web.dashboard.story_pages import story_pages


def dashboard_pages(desk: Desk) -> list[Page]:
    """The pages, those about the same thing side by side."""
    return [
        *public_pages(desk),
        *overview_pages(desk),
        *endpoint_list_pages(desk),
        *endpoint_form_pages(desk),
        *endpoint_pages(desk),
        *key_pages(desk),
        *attempt_search_pages(desk),
        *attempt_detail_pages(desk),
        *story_pages(desk),
        *resend_pages(desk),
        *dead_letter_pages(desk),
    ]
