"""Pages to register, change, pause and delete endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Final

from aiohttp import web
from multidict import MultiDictProxy

from pipeline.endpoints.endpoint import Endpoint
from pipeline.web.api.endpoint_preview import audited_preview, checked_preview
from pipeline.web.api.held import drop_held
from pipeline.web.api.wrapped_input import validated
from pipeline.web.auth import principal_of
from pipeline.web.dashboard.auth_middleware import form_of
from pipeline.web.dashboard.authentication_fields import AUTHENTICATION_CHOICES, CLIENT_METHODS
from pipeline.web.dashboard.endpoint_fields import (
    FIELDS,
    VERIFICATION_CHOICES,
    EndpointForm,
    beside,
    given,
    retry_choices,
    sent,
    shown,
    subscribed,
    subscribes_to_all,
    version_choices,
)
from pipeline.web.dashboard.optional_reads import optional
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer, is_own_page
from pipeline.web.dashboard.rotation_pages import SECRET_SHOWN
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.dashboard.signature_fields import ENCODING_CHOICES
from pipeline.web.dashboard.text_filters import span
from pipeline.web.endpoint_changes import create_endpoint, delete_endpoint, update_endpoint
from pipeline.web.endpoint_names import name_of
from pipeline.web.endpoint_values import check_target
from pipeline.web.endpoint_writes import find_endpoint
from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.filter_check import CompilableEndpointInput
from pipeline.web.request_values import digits, path_id
from pipeline.web.services import EndpointFormServices
from pipeline.web.verification import verify_endpoint, verify_when_asked
from schemas.api_key import Access
from schemas.http.previews import PreviewAnswer
from schemas.topics import delay_label

_LIST: Final = f"{PREFIX}/endpoints"
_BACK: Final = "back"
"""The field with the page to return to, if the button is not on the endpoint's own page."""
_EVERYTHING: Final = Notice(
    "warning",
    "This endpoint subscribes to all events. Every change to every order, shipment and stock item becomes a request to its "
    "server, and most of these are unnecessary. Select only the events that the receiver uses.",
)


@dataclass(frozen=True, slots=True)
class _Question:
    """What a page asks before an action. ``fields`` are sent with the answer."""

    action: str
    title: str
    button: str
    sentences: Sequence[str]
    fields: Mapping[str, str] = field(default_factory=dict)


def page_of(endpoint: Endpoint) -> str:
    """The path of an endpoint's page."""
    return f"{_LIST}/{endpoint.id}"


def endpoint_form_pages(renderer: PageRenderer, api: EndpointFormServices) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``."""
    handlers, one = _Handlers(renderer, api), "/endpoints/{id}"
    return [
        DashboardPage("GET", "/endpoints/new", handlers.new, Access.ADMIN),
        DashboardPage("POST", "/endpoints", handlers.create, Access.ADMIN, fields=FIELDS),
        DashboardPage("POST", "/endpoints/new/preview", handlers.preview, Access.ADMIN, fields=FIELDS),
        DashboardPage("POST", f"{one}/preview", handlers.preview, Access.ADMIN, fields=FIELDS),
        DashboardPage("GET", f"{one}/edit", handlers.edit, Access.ADMIN),
        DashboardPage("POST", f"{one}/edit", handlers.update, Access.ADMIN, fields=FIELDS),
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
    def __init__(self, renderer: PageRenderer, api: EndpointFormServices) -> None:
        self._renderer = renderer
        self._api = api

    async def new(self, request: web.Request) -> web.Response:
        return self._form(request, EndpointForm())

    async def create(self, request: web.Request) -> web.Response:
        form = form_of(request)
        try:
            endpoint, secret = await create_endpoint(
                self._api, given(form, self._api.events.types, is_new=True), principal_of(request).actor
            )
        except InvalidError as error:
            return self._form(request, sent(form, await self._mistakes(form, error)), status=422)
        if secret is None:
            known = Notice("warning", "This URL is already registered. Nothing was changed. This is its endpoint.")
            return self._renderer.redirect(request, page_of(endpoint), known)
        endpoint = await verify_when_asked(self._api, endpoint, principal_of(request).actor)
        made = Notice("good", f"The endpoint is registered. {SECRET_SHOWN}", secret=secret)
        return self._renderer.redirect(request, page_of(endpoint), made, *self._warnings(endpoint))

    async def preview(self, request: web.Request) -> web.Response:
        """Show what the endpoint would have received with these values. Nothing is saved, and the form keeps its content."""
        api, form = self._api, form_of(request)
        endpoint = find_endpoint(api, path_id(request)) if "id" in request.match_info else None
        stored = None if endpoint is None else endpoint.record
        try:
            seen = await audited_preview(api, request, checked_preview(subscribed(form), api.events.types))
        except InvalidError as error:
            return self._form(request, sent(form, error.errors, stored), endpoint, status=422)
        return self._form(request, sent(form, {}, stored), endpoint, preview=seen)

    async def edit(self, request: web.Request) -> web.Response:
        endpoint = find_endpoint(self._api, path_id(request))
        return self._form(request, shown(endpoint.record), endpoint)

    async def update(self, request: web.Request) -> web.Response:
        api, form = self._api, form_of(request)
        endpoint = find_endpoint(api, path_id(request))
        # Changes that somebody else made in the meantime are shown before they are overwritten.
        expected = frozenset({form.get("version", "")})
        try:
            changes = given(form, self._api.events.types, is_new=False)
            endpoint = await update_endpoint(api, endpoint.id, changes, principal_of(request).actor, expected)
        except InvalidError as error:
            mistakes = await self._mistakes(form, error)
            return self._form(request, sent(form, mistakes, endpoint.record), endpoint, status=422)
        except ApiError as error:
            if error.status != HTTPStatus.PRECONDITION_FAILED:
                raise
            current = find_endpoint(api, endpoint.id)
            typed = beside(sent(form, {}, current.record), current.record)
            return self._form(request, typed, current, status=error.status)
        if endpoint.is_unverified and not endpoint.record.verification_problem:
            endpoint = await verify_when_asked(api, endpoint, principal_of(request).actor)
        return self._back(request, endpoint, Notice("good", "Changes saved."), *self._warnings(endpoint))

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
        return self._ask(request, endpoint, _Question("delete", "Delete this endpoint?", "Delete endpoint", sentences))

    async def delete(self, request: web.Request) -> web.Response:
        endpoint = find_endpoint(self._api, path_id(request))
        await delete_endpoint(self._api, endpoint.id, principal_of(request).actor)
        return self._renderer.redirect(request, _LIST, Notice("good", f"The endpoint {endpoint.target_url} is deleted."))

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

    async def _mistakes(self, form: MultiDictProxy[str], found: InvalidError) -> Mapping[str, Sequence[str]]:
        """All errors together. The target of the URL is checked only if everything else is correct."""
        if "target_url" not in found.errors:
            try:
                await check_target(self._api, form.get("target_url", "").strip())
            except InvalidError as more:
                return {**found.errors, **more.errors}
        return found.errors

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

    def _warnings(self, endpoint: Endpoint) -> Sequence[Notice]:
        return [_EVERYTHING] if subscribes_to_all(endpoint.record.events, self._api.events.types) else []

    def _form(
        self,
        request: web.Request,
        form: EndpointForm,
        endpoint: Endpoint | None = None,
        *,
        status: int = 200,
        preview: PreviewAnswer | None = None,
    ) -> web.Response:
        api = self._api
        events = [
            (one.name, one.description, api.catalogue.origin(one.name) == "api") for one in api.events.types.by_name.values()
        ]
        conflict = status == HTTPStatus.PRECONDITION_FAILED
        policies = self._api.policies
        return self._renderer.show(
            request,
            "endpoint_form.html",
            status,
            form=form,
            endpoint=endpoint,
            called=None if endpoint is None else name_of(endpoint),
            events=events,
            conflict=conflict,
            preview=preview,
            authentication_choices=AUTHENTICATION_CHOICES,
            client_methods=CLIENT_METHODS,
            encoding_choices=ENCODING_CHOICES,
            retry_choices=retry_choices(policies),
            versions=version_choices(self._api.events.types),
            verification_choices=VERIFICATION_CHOICES,
            delays=", ".join(map(delay_label, policies.delays)),
        )

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
