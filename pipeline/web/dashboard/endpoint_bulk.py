"""``/webhooks/endpoints/several/change``: change several endpoints together, after a page that shows the effects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from aiohttp import web
from multidict import MultiDictProxy

from pipeline.core.counted import counted
from pipeline.endpoints.endpoint import Endpoint
from pipeline.web.api.wrapped_input import validated
from pipeline.web.auth import principal_of, require_role
from pipeline.web.dashboard.auth_middleware import form_of
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer, is_own_page
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.dashboard.text_filters import span
from pipeline.web.endpoint_changes import update_endpoint
from pipeline.web.endpoint_names import EndpointName, endpoint_names
from pipeline.web.errors import ApiError, require_endpoints
from pipeline.web.request_values import digits
from pipeline.web.services import PauseServices
from schemas.api_key import Access
from schemas.http.endpoints import EndpointInput

LIST: Final = f"{PREFIX}/endpoints"
_MOST: Final = 200
"""The most endpoints in one change: as many as a page of the list shows."""
_NONE: Final = Notice("warning", "Select endpoints in the list first.")
_NEEDED: Final = {"pause": Access.ADMIN, "resume": Access.ADMIN, "disable": Access.ADMIN, "resend": Access.OPERATOR}
_CHANGES: Final[Mapping[str, Mapping[str, bool]]] = {
    "pause": {"active": False},
    "resume": {"active": True},
    "disable": {"disabled": True},
}
_DONE: Final = {"pause": "paused", "resume": "resumed", "disable": "disabled"}


@dataclass(frozen=True, slots=True)
class BulkChange:
    """A planned change. ``changed`` are the endpoints that it changes; the others stay as they are."""

    action: str
    title: str
    button: str
    sentences: Sequence[str]
    changed: Sequence[tuple[EndpointName, int]]
    """The number of held deliveries of each endpoint."""


def endpoint_bulk_pages(renderer: PageRenderer, api: PauseServices) -> Iterable[DashboardPage]:
    """The page, below ``/webhooks``."""

    async def several(request: web.Request) -> web.Response:
        require_endpoints(api.registry)
        form = form_of(request)
        action = form.get("do", "")
        if action not in _NEEDED:
            raise ApiError(422, "Choose an action for the endpoints: pause, resume, disable or resend.")
        require_role(principal_of(request), _NEEDED[action])
        chosen = _chosen(api, form)
        if not chosen:
            return renderer.redirect(request, LIST, _NONE)
        back = given if is_own_page(given := form.get("back", "")) else LIST
        if action == "resend":
            pairs = [("q[endpoint_id_in][]", str(one.id)) for one in chosen]
            since = [("q[state_eq]", "failed"), ("q[created_at_gteq]", "-24h")]
            return renderer.redirect(request, f"{PREFIX}/resends/new?{urlencode([*pairs, *since])}")
        change = _planned(api, action, chosen)
        if "confirmed" not in form or not change.changed:
            return renderer.show(request, "endpoints_confirm.html", change=change, back=back)
        return renderer.redirect(request, back, *await _carried_out(api, request, change))

    return [
        DashboardPage("POST", "/endpoints/several/change", several, Access.OPERATOR, fields=("do", "ids", "confirmed", "back")),
    ]


def _chosen(api: PauseServices, form: MultiDictProxy[str]) -> list[Endpoint]:
    wanted = {digits(one) for one in form.getall("ids", [])[:_MOST]}
    return [endpoint for endpoint in api.registry.all() if endpoint.id in wanted]


def _is_changed(action: str, endpoint: Endpoint) -> bool:
    """Whether the action changes the endpoint. A disabled one can be resumed, but not paused: it already receives nothing.

    One that is not verified receives nothing either, but it can be paused: otherwise, it would receive webhooks once it is verified.
    """
    if action == "disable":
        return endpoint.record.disabled_at is None
    is_stopped = not endpoint.record.active or endpoint.disabled is not None
    return is_stopped is (action == "resume")


def _planned(api: PauseServices, action: str, chosen: Sequence[Endpoint]) -> BulkChange:
    names = endpoint_names(chosen)
    is_resume = action == "resume"
    affected = [one for one in chosen if _is_changed(action, one)]
    unverified = sum(one.is_unverified for one in affected) if is_resume else 0
    counts = {one.id: api.registry.waiting(one) if is_resume else api.registry.held(one).count for one in affected}
    changed = [(names[one.id], counts[one.id]) for one in affected]
    held = sum(counts[one.id] for one in affected if not (is_resume and one.is_unverified))
    verb, count = action.capitalize(), len(changed)
    what = counted(count, "endpoint")
    title = f"{verb} {what}?" if changed else "Nothing to do"
    sentences = _effects(action, count, len(chosen) - count, held, unverified, api.hold)
    return BulkChange(action, title, f"{verb} {what}", sentences, changed)


def _effects(action: str, changed: int, left: int, held: int, unverified: int, hold: timedelta) -> Sequence[str]:
    """What the action does to endpoints for which ``held`` deliveries are held. It does not change ``left`` other ones.

    Of those that are resumed, ``unverified`` stay without deliveries.
    """
    sentences: list[str] = []
    they, are, them = ("It", "is", "it") if changed == 1 else ("They", "are", "them")
    if changed and action in ("pause", "disable"):
        receive = "receives" if changed == 1 else "receive"
        listed = "" if action == "pause" else f" Lists show that {they.lower()} {are} disabled, and by whom."
        sentences = [
            f"{they} {receive} nothing until you resume {them}.{listed} Nothing is lost: new events and due retries are held and use up "
            "no attempts.",
            f"When you resume {them}, the held deliveries are sent. After {span(hold)}, held deliveries expire and are never sent.",
        ]
        if held:
            sentences.append(f"{held:,} {'delivery is' if held == 1 else 'deliveries are'} already held for {them}.")
    elif held:
        sentences = [f"{held:,} {'held delivery is' if held == 1 else 'held deliveries are'} sent immediately."]
    elif changed > unverified:
        start = "starts" if changed == 1 else "start"
        sentences = [f"Nothing is held for {them}. {they} {start} receiving new events now."]
    if unverified:
        is_so, until = ("is", "until it is") if unverified == 1 else ("are", "until they are")
        sentences.append(f"{unverified:,} of them {is_so} not verified: nothing is sent {until}.")
    if left:
        state = {"pause": "already paused or disabled", "resume": "neither paused nor disabled", "disable": "already disabled"}[
            action
        ]
        is_so, them = ("is", "it") if left == 1 else ("are", "them")
        sentences.append(f"{left:,} of the selected endpoints {is_so} {state}, so nothing changes for {them}.")
    return sentences


async def _carried_out(api: PauseServices, request: web.Request, change: BulkChange) -> list[Notice]:
    actor = principal_of(request).actor
    values = validated(_CHANGES[change.action], EndpointInput)
    failed: list[str] = []
    for name, _ in change.changed:
        try:
            await update_endpoint(api, name.id, values, actor)
        except ApiError as error:
            failed.append(f"{name.name}: {error}")
    done = len(change.changed) - len(failed)
    state = _DONE[change.action]
    notices = [Notice("good", f"{counted(done, 'endpoint is', 'endpoints are')} {state}.")] if done else []
    if failed:
        more = f" And {len(failed) - 1:,} more." if len(failed) > 1 else ""
        notices.append(Notice("bad", f"Not {state}: {failed[0]}{more}"))
    return notices
