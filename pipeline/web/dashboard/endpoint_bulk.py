"""``/webhooks/endpoints/several/change``: what is done to several endpoints at once. First what will happen, with the numbers; then it is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from aiohttp import web
from multidict import MultiDictProxy

from pipeline.endpoints.endpoint import Endpoint
from pipeline.web.api.wrapped_input import validated
from pipeline.web.auth import principal_of, require_role
from pipeline.web.dashboard.auth_middleware import form_of
from pipeline.web.dashboard.endpoint_names import EndpointName, endpoint_names
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer, is_own_page
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.dashboard.text_filters import span
from pipeline.web.endpoint_changes import update_endpoint
from pipeline.web.errors import ApiError, require_endpoints
from schemas.api_key import Access
from schemas.http.endpoints import EndpointInput

LIST: Final = f"{PREFIX}/endpoints"
_MOST: Final = 200
"""Endpoints at once: as many as a page of the list shows at most."""
_NONE: Final = Notice("warning", "Choose endpoints first: tick them in the list.")
_NEEDED: Final = {"pause": Access.ADMIN, "resume": Access.ADMIN, "disable": Access.ADMIN, "resend": Access.OPERATOR}
_CHANGES: Final[Mapping[str, Mapping[str, bool]]] = {
    "pause": {"active": False},
    "resume": {"active": True},
    "disable": {"disabled": True},
}
_DONE: Final = {"pause": "paused", "resume": "resumed", "disable": "disabled"}


@dataclass(frozen=True, slots=True)
class BulkChange:
    """What is about to be done. ``changed`` are the endpoints that it changes; of the others, nothing."""

    action: str
    title: str
    button: str
    sentences: Sequence[str]
    changed: Sequence[tuple[EndpointName, int]]
    """With how many deliveries are held for each."""


def endpoint_bulk_pages(desk: PageRenderer) -> Iterable[DashboardPage]:
    """The page, below ``/webhooks``."""

    async def several(request: web.Request) -> web.Response:
        api = desk.api
        require_endpoints(api.registry)
        form = form_of(request)
        action = form.get("do", "")
        if action not in _NEEDED:
            raise ApiError(422, "Choose what to do with the endpoints: pause, resume, disable or resend.")
        require_role(principal_of(request), _NEEDED[action])
        chosen = _chosen(desk, form)
        if not chosen:
            return desk.redirect(request, LIST, _NONE)
        back = given if is_own_page(given := form.get("back", "")) else LIST
        if action == "resend":
            pairs = [("q[endpoint_id_in][]", str(one.id)) for one in chosen]
            since = [("q[state_eq]", "failed"), ("q[created_at_gteq]", "-24h")]
            return desk.redirect(request, f"{PREFIX}/resends/new?{urlencode([*pairs, *since])}")
        change = _planned(desk, action, chosen)
        if "confirmed" not in form or not change.changed:
            return desk.show(request, "endpoints_confirm.html", change=change, back=back)
        return desk.redirect(request, back, *await _carried_out(desk, request, change))

    return [
        DashboardPage("POST", "/endpoints/several/change", several, Access.OPERATOR, fields=("do", "ids", "confirmed", "back")),
    ]


def _chosen(desk: PageRenderer, form: MultiDictProxy[str]) -> list[Endpoint]:
    wanted = {int(one) for one in form.getall("ids", [])[:_MOST] if one.isascii() and one.isdigit() and len(one) < 16}
    return [endpoint for endpoint in desk.api.registry.all() if endpoint.id in wanted]


def _is_changed(action: str, endpoint: Endpoint) -> bool:
    """Whether something changes. Who is disabled is resumed too, but need not be paused: it gets nothing either way."""
    if action == "disable":
        return endpoint.record.disabled_at is None
    return endpoint.active is (action == "pause")


def _planned(desk: PageRenderer, action: str, chosen: Sequence[Endpoint]) -> BulkChange:
    api = desk.api
    names = endpoint_names(chosen)
    changed = [one for one in chosen if _is_changed(action, one)]
    rows = [(names[one.id], api.registry.held(one).count) for one in changed]
    held = sum(count for _, count in rows)
    left = len(chosen) - len(changed)
    sentences = []
    if action in ("pause", "disable"):
        until = "until you resume them" if action == "pause" else "any more. Lists show them as disabled, and by whom"
        sentences = [
            f"They get nothing {until}. Nothing is lost by that: new events and retries that fall due are held, and use up no attempt.",
            f"When you resume them, all of that goes out. What has been held for {span(api.hold)} expires: it is not sent any more, and that is on record.",
        ]
        if held:
            sentences.append(f"{held:,} {'delivery is' if held == 1 else 'deliveries are'} held for them already.")
    elif held:
        sentences = [f"{held:,} {'held delivery goes' if held == 1 else 'held deliveries go'} out at once."]
    elif changed:
        sentences = ["Nothing is held for them. They get what happens from now on."]
    if left:
        state = {"pause": "gets nothing|get nothing", "resume": "is active|are active", "disable": "is disabled|are disabled"}[
            action
        ]
        one, many = state.split("|")
        sentences.append(f"{left:,} of those that you chose {one if left == 1 else many} already: nothing changes there.")
    verb, count = action.capitalize(), len(changed)
    what = f"{count:,} endpoint{'' if count == 1 else 's'}"
    return BulkChange(action, f"{verb} {what}?" if changed else "Nothing to do", f"{verb} {what}", sentences, rows)


async def _carried_out(desk: PageRenderer, request: web.Request, change: BulkChange) -> list[Notice]:
    actor = principal_of(request).actor
    values = validated(_CHANGES[change.action], EndpointInput)
    failed: list[str] = []
    for name, _ in change.changed:
        try:
            await update_endpoint(desk.api, name.id, values, actor)
        except ApiError as error:
            failed.append(f"{name.name}: {error}")
    done = len(change.changed) - len(failed)
    state = _DONE[change.action]
    notices = [Notice("good", f"{done:,} endpoint{' is' if done == 1 else 's are'} {state}.")] if done else []
    if failed:
        more = f" And {len(failed) - 1:,} more." if len(failed) > 1 else ""
        notices.append(Notice("bad", f"Not {state}: {failed[0]}{more}"))
    return notices
