"""Pages to register and change endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web
from multidict import MultiDictProxy

from pipeline.endpoints.endpoint import Endpoint
from pipeline.web.api.endpoint_preview import audited_preview, checked_preview
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
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.rotation_pages import SECRET_SHOWN
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.dashboard.signature_fields import ENCODING_CHOICES
from pipeline.web.endpoint_changes import create_endpoint, update_endpoint
from pipeline.web.endpoint_names import name_of
from pipeline.web.endpoint_values import check_target
from pipeline.web.endpoint_writes import find_endpoint
from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.request_values import path_id
from pipeline.web.services import EndpointFormServices
from pipeline.web.verification import verify_when_asked
from schemas.api_key import Access
from schemas.http.previews import PreviewAnswer
from schemas.topics import delay_label

LIST: Final = f"{PREFIX}/endpoints"
_EVERYTHING: Final = Notice(
    "warning",
    "This endpoint subscribes to all events. Every change to every order, shipment and stock item becomes a request to its "
    "server, and most of these are unnecessary. Select only the events that the receiver uses.",
)


def page_of(endpoint: Endpoint) -> str:
    """The path of an endpoint's page."""
    return f"{LIST}/{endpoint.id}"


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
        return self._renderer.redirect(request, page_of(endpoint), Notice("good", "Changes saved."), *self._warnings(endpoint))

    async def _mistakes(self, form: MultiDictProxy[str], found: InvalidError) -> Mapping[str, Sequence[str]]:
        """All errors together. The target of the URL is checked only if everything else is correct."""
        if "target_url" not in found.errors:
            try:
                await check_target(self._api, form.get("target_url", "").strip())
            except InvalidError as more:
                return {**found.errors, **more.errors}
        return found.errors

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
