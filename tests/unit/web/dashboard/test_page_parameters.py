"""Pages report unknown parameters; forms and exports refuse them."""

from __future__ import annotations

from typing import cast

import pytest

from pipeline.web.dashboard.page import DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.page_table import dashboard_pages
from pipeline.web.services import Api
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import Service

PAGES = [page for page in dashboard_pages(cast("PageRenderer", None), cast("Api", None), dict) if page.access is not None]
NOTE = 'id="ignored-parameters"'


def path_of(page: DashboardPage) -> str:
    identifier = "0123456789abcdef" if page.path.startswith("/resends") else "1"
    return "/webhooks" + page.path.replace("{id}", identifier).replace("{number}", "R1")


async def test_every_page_reports_parameters_without_effect(service: Service, admin: Visitor) -> None:
    await service.create()
    for page in PAGES:
        if not page.acts and page.path not in ("/", "/endpoints/{id}/drop"):  # these redirect: here, nothing is held
            seen = await admin.go(f"{path_of(page)}?order_number_eq=R100")
            is_part = page.path in ("/live", "/resends/{id}/progress") or seen.redirects > 0
            assert seen.status == 404 or is_part or (NOTE in seen.html and "order_number_eq: unknown parameter" in seen.text), (
                page.path
            )


async def test_every_form_and_export_refuses_unknown_parameters(service: Service, admin: Visitor) -> None:
    await service.create()
    token = [pair for pair in (await admin.go("/webhooks/keys")).form("/webhooks/logout").fields if pair[0] == "csrf"]
    before = len(service.kafka.records)
    for page in PAGES:
        if page.acts:
            path = path_of(page)
            address = f"{path}?filter[a]=1"
            by_address = await (admin.post(address, token) if page.method == "POST" else admin.go(address))
            assert (by_address.status, "unknown parameter" in by_address.text) == (422, True), path
        if page.method == "POST":
            by_field = await admin.post(path_of(page), [*token, ("dry_run", "1")])
            assert (by_field.status, "unknown field" in by_field.text) == (422, True), page.path
    assert (len(service.kafka.records), service.attempts.queries) == (before, [])


async def test_a_search_with_ignored_filters_is_neither_exported_nor_resent(service: Service, admin: Visitor) -> None:
    service.attempts.rows = (attempt_row(id=1, endpoint_id=1),)
    for query in ("q[endpoint_id_eq]=1&order_number_eq=R100", "q[endpoint_id_eq]=1&q[order_nummer_eq]=R100"):
        seen = await admin.go(f"/webhooks/attempts?{query}")
        assert "Correct or remove what could not be used" in seen.text
        assert not any(part in seen.html for part in ("export.csv", "resends/new"))
    seen = await admin.go("/webhooks/attempts?q[endpoint_id_eq]=1")
    assert all(part in seen.html for part in ("export.csv", "resends/new"))


async def test_parameters_without_effect_are_reported_after_a_redirect_too(service: Service, admin: Visitor) -> None:
    seen = await admin.go("/webhooks/attempts?q[endpoint_id_eq]=1&q[state_eq]=&Q[order_number_eq]=R100")
    assert (seen.redirects, NOTE in seen.html) == (1, True)


@pytest.mark.parametrize("query", ["q[endpoint_id_eq]=1&order_number_eq=R100", "q[endpoint_id_eq]=1&q[order_number_eq]="])
async def test_a_typo_prevents_resending(service: Service, admin: Visitor, query: str) -> None:
    await service.create()
    service.attempts.rows = (attempt_row(id=1, endpoint_id=1),)
    seen = await admin.go(f"/webhooks/resends/new?{query}")
    assert '<button class="button primary">' not in seen.html
    token = [pair for pair in seen.form("/webhooks/logout").fields if pair[0] == "csrf"]
    await admin.post(f"/webhooks/resends?{query}", token)
    assert (service.runs._task, service.kafka.to("webhooks.delay.0s")) == (None, [])
