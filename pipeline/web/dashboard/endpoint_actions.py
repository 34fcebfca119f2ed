"""``/webhooks/endpoints/{id}/pause`` and the other actions on one endpoint: resume, verify, drop what is held, set a header, delete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Final

from aiohttp import web

from pipeline.endpoints.endpoint import Endpoint
from pipeline.web.api.held import drop_held
from pipeline.web.api.wrapped_input import validated
from pipeline.web.auth import principal_of
from pipeline.web.dashboard.auth_middleware import form_of
from pipeline.web.dashboard.endpoint_forms import LIST, page_of
from pipeline.web.dashboard.optional_reads import optional
from pipeline.web.dashboard.page import DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer, is_own_page
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.dashboard.text_filters import span
from pipeline.web.endpoint_changes import delete_endpoint, update_endpoint
from pipeline.web.endpoint_names import name_of
from pipeline.web.endpoint_writes import find_endpoint
from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.filter_check import CompilableEndpointInput
from pipeline.web.request_values import digits, path_id
from pipeline.web.services import EndpointActionServices
from pipeline.web.verification import verify_endpoint
from schemas.api_key import Access

_BACK: Final = "back"
"""The field with the page to return to, if the button is not on the endpoint's own page."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What a page asks before an action. ``fields`` are sent with the answer."""

    action: str
    title: str
    button: str
    sentences: Sequence[str]
    fields: Mapping[str, str] = field(default_factory=dict)


def endpoint_action_pages(renderer: PageRenderer, api: EndpointActionServices) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``."""
    handlers, one = _Handlers(renderer, api), "/endpoints/{id}"
    return [
        DashboardPage("GET", f"{one}/pause", handlers.ask_pause, Access.ADMIN),
        DashboardPage("POST", f"{one}/pause", handlers.pause, Access.ADMIN),
        DashboardPage("POST", f"{one}/resume", handlers.resume, Access.ADMIN, fields=(_BACK,)),
        DashboardPage("POST", f"{one}/verify", handlers.verify, Access.ADMIN, fields=(_BACK,)),
        DashboardPage("GET", f"{one}/drop", handlers.ask_drop, Access.ADMIN),
        DashboardPage("POST", f"{one}/drop", handlers.drop, Access.ADMIN, fields=("count",)),
        DashboardPage("GET", f"{one}/delete", handlers.ask_delete, Access.ADMIN),
        DashboardPage("POST", f"{one}/delete", handlers.delete, Access.ADMIN),
        DashboardPage("POST", f"{one}/headers", handlers.headers, Access.ADMIN, fields=("name", "value", "remove")),
    ]


class _Handlers:
    def __init__(self, renderer: PageRenderer, api: EndpointActionServices) -> None:
        self._renderer = renderer
        self._api = api

    async def ask_pause(self, request: web.Request) -> web.Response:
        api = self._api
        endpoint = find_endpoint(api, path_id(request))
        held = api.registry.held(endpoint).count
        day = (await optional(api, api.reports.endpoint_days(api.clock()))).found
        made = day[endpoint.id].succeeded + day[endpoint.id].failed if day and endpoint.id in day else 0
        sentences = [
            "It receives nothing until you resume it. Nothing is lost: new events and due retries are held and use up no attempts."
        ]
        if made:
            requests = _deliveries(made, "request", "requests")
            sentences.append(f"In the last 24 hours, it was sent {requests}. Expect about the same number to be held per day.")
        if held:
            sentences.append(f"{_deliveries(held, 'delivery is held', 'deliveries are held')} for it.")
        sentences += [
            f"When you resume it, the held deliveries are sent as fast as the endpoint's limits allow. After "
            f"{span(api.hold)}, held deliveries expire and are never sent.",
            "The endpoint's page shows how many deliveries are held. You can also drop them there.",
        ]
        return self._ask(request, endpoint, _Question("pause", "Pause this endpoint?", "Pause endpoint", sentences))

    async def pause(self, request: web.Request) -> web.Response:
        endpoint = await self._change(request, {"active": False})
        paused = f"The endpoint is paused. Its deliveries are held for up to {span(self._api.hold)}, until you resume it."
        return self._back(request, endpoint, Notice("good", paused))

    async def resume(self, request: web.Request) -> web.Response:
        waiting = self._api.registry.waiting(find_endpoint(self._api, path_id(request)))
        endpoint = await self._change(request, {"active": True})
        if endpoint.is_unverified:
            text = "The endpoint is no longer paused or disabled. It receives nothing until it is verified."
            return self._back(request, endpoint, Notice("warning", text))
        if endpoint.problem is not None:
            return self._back(
                request, endpoint, Notice("warning", "The endpoint is resumed, but nothing can be sent to it. See below.")
            )
        waited = f" {_deliveries(waiting, 'held delivery is', 'held deliveries are')} sent now." if waiting else ""
        return self._back(request, endpoint, Notice("good", f"The endpoint receives webhooks again.{waited}"))

    async def verify(self, request: web.Request) -> web.Response:
        endpoint = await verify_endpoint(self._api, path_id(request), principal_of(request).actor)
        if endpoint.is_unverified:
            return self._back(
                request, endpoint, Notice("bad", f"The endpoint is not verified. {endpoint.record.verification_problem}")
            )
        return self._back(request, endpoint, Notice("good", "The endpoint is verified."))

    async def ask_drop(self, request: web.Request) -> web.Response:
        endpoint = find_endpoint(self._api, path_id(request))
        count = self._api.registry.held(endpoint).count
        if not count:
            return self._back(request, endpoint, Notice("good", "Nothing is held for this endpoint."))
        what = _deliveries(count, "held delivery", "held deliveries")
        sentences = [
            "They will not be sent, even if you resume the endpoint. Each is recorded as not sent, with your name.",
            "Deliveries that are held later are kept. If the number changes before you confirm, nothing is dropped.",
        ]
        question = _Question("drop", f"Drop {what}?", f"Drop {what}", sentences, {"count": str(count)})
        return self._ask(request, endpoint, question)

    async def drop(self, request: web.Request) -> web.Response:
        api = self._api
        endpoint = find_endpoint(api, path_id(request))
        count = digits(form_of(request).get("count", "")) or 0
        try:
            await drop_held(api, api.audit.actor(request), endpoint.id, count)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            return self._back(request, endpoint, Notice("bad", str(error)))
        dropped = f"{_deliveries(count, 'held delivery is', 'held deliveries are')} dropped and will be recorded as not sent."
        return self._back(request, endpoint, Notice("good", dropped))

    async def ask_delete(self, request: web.Request) -> web.Response:
        endpoint = find_endpoint(self._api, path_id(request))
        sentences = [
            "It receives nothing more, not even retries that are due. Its signing secrets, token and headers are deleted "
            "permanently.",
            "Its recorded attempts are kept. To stop deliveries only for a while, pause the endpoint instead.",
        ]
        if waiting := self._api.registry.waiting(endpoint):
            still = _deliveries(waiting, "delivery still waits", "deliveries still wait")
            sentences.insert(0, f"{still} for this endpoint, and will be recorded as not sent.")
        return self._ask(request, endpoint, _Question("delete", "Delete this endpoint?", "Delete endpoint", sentences))

    async def delete(self, request: web.Request) -> web.Response:
        endpoint = find_endpoint(self._api, path_id(request))
        await delete_endpoint(self._api, endpoint.id, principal_of(request).actor)
        return self._renderer.redirect(request, LIST, Notice("good", f"The endpoint {endpoint.target_url} is deleted."))

    async def headers(self, request: web.Request) -> web.Response:
        """Set or remove one custom header of the endpoint. The values of the others stay hidden."""
        form = form_of(request)
        name, value = form.get("name", "").strip(), form.get("value", "")
        try:
            endpoint = await self._change(request, {"headers": {name: None if "remove" in form else value}})
        except InvalidError as error:
            endpoint = find_endpoint(self._api, path_id(request))
            return self._back(request, endpoint, *(Notice("bad", one) for one in error.sentences))
        done = f"{name} is no longer sent." if "remove" in form else f"{name} is sent with every request from now on."
        return self._back(request, endpoint, Notice("good", done))

    async def _change(self, request: web.Request, values: dict[str, object]) -> Endpoint:
        changes = validated(values, CompilableEndpointInput, types=self._api.events.types)
        return await update_endpoint(self._api, path_id(request), changes, principal_of(request).actor)

    def _back(self, request: web.Request, endpoint: Endpoint, *notices: Notice) -> web.Response:
        """Redirect to the page whose button was pressed. On another page than the endpoint's, the notices need its name."""
        back = form_of(request).get(_BACK, "") if request.method == "POST" else ""
        if not is_own_page(back):
            return self._renderer.redirect(request, page_of(endpoint), *notices)
        name = name_of(endpoint).name
        return self._renderer.redirect(request, back, *(replace(one, text=f"{name}: {one.text}") for one in notices))

    def _ask(self, request: web.Request, endpoint: Endpoint, question: _Question) -> web.Response:
        return self._renderer.show(
            request,
            "confirm.html",
            title=question.title,
            called=name_of(endpoint),
            subject=endpoint.target_url,
            sentences=question.sentences,
            button=question.button,
            fields=question.fields,
            is_harmful=question.action in {"delete", "drop"},
            action=f"{page_of(endpoint)}/{question.action}",
            back=page_of(endpoint),
        )


def _deliveries(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
