"""Registering, changing, pausing and deleting endpoints, and giving them new secrets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web
from multidict import MultiDictProxy

from pipeline.endpoints.endpoint import Endpoint
from pipeline.web.audit import asker
from pipeline.web.auth import principal_of
from pipeline.web.dashboard.desk import Desk
from pipeline.web.dashboard.endpoint_input import FIELDS, EndpointForm, given, hears_everything, sent, shown
from pipeline.web.dashboard.gate import form_of
from pipeline.web.dashboard.pages import PREFIX, Page
from pipeline.web.dashboard.sessions import Notice
from pipeline.web.dashboard.texts import span
from pipeline.web.endpoint_changes import (
    check_target,
    create_endpoint,
    delete_endpoint,
    find_endpoint,
    rotate_secret,
    update_endpoint,
)
from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.held_drops import drop_held
from pipeline.web.queries import path_id
from pipeline.web.wrapped_input import validated
from schemas.api_key import Access
from schemas.event import EVENT_DESCRIPTIONS
from schemas.http_api import EndpointInput

_LIST: Final = f"{PREFIX}/endpoints"
_SECRET: Final = "Copy the signing secret now: it is shown this once. The receiver checks signatures with it."
_EVERYTHING: Final = Notice(
    "warning",
    "This endpoint hears of everything. Every change of every order, shipment and stock item becomes a request to its server, most of "
    "them for nothing: choose only the events that the receiver acts on.",
)


def page_of(endpoint: Endpoint) -> str:
    """Where an endpoint's page is."""
    return f"{_LIST}/{endpoint.id}"


def endpoint_form_pages(desk: Desk) -> Iterable[Page]:
    """The pages, below ``/webhooks``."""
    handlers, one = _Handlers(desk), "/endpoints/{id}"
    return [
        Page("GET", "/endpoints/new", handlers.new, Access.ADMIN),
        Page("POST", "/endpoints", handlers.create, Access.ADMIN, fields=FIELDS),
        Page("GET", f"{one}/edit", handlers.edit, Access.ADMIN),
        Page("POST", f"{one}/edit", handlers.update, Access.ADMIN, fields=FIELDS),
        Page("GET", f"{one}/pause", handlers.ask_pause, Access.ADMIN),
        Page("POST", f"{one}/pause", handlers.pause, Access.ADMIN),
        Page("POST", f"{one}/resume", handlers.resume, Access.ADMIN),
        Page("GET", f"{one}/drop", handlers.ask_drop, Access.ADMIN),
        Page("POST", f"{one}/drop", handlers.drop, Access.ADMIN, fields=("count",)),
        Page("GET", f"{one}/rotate", handlers.ask_rotate, Access.ADMIN),
        Page("POST", f"{one}/rotate", handlers.rotate, Access.ADMIN),
        Page("GET", f"{one}/delete", handlers.ask_delete, Access.ADMIN),
        Page("POST", f"{one}/delete", handlers.delete, Access.ADMIN),
        Page("POST", f"{one}/headers", handlers.headers, Access.ADMIN, fields=("name", "value", "remove")),
    ]


class _Handlers:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def new(self, request: web.Request) -> web.Response:
        return self._form(request, EndpointForm())

    async def create(self, request: web.Request) -> web.Response:
        form = form_of(request)
        try:
            endpoint, secret = await create_endpoint(self._desk.api, given(form, is_new=True), principal_of(request).actor)
        except InvalidError as error:
            return self._form(request, sent(form, await self._mistakes(form, error)), status=422)
        if secret is None:
            known = Notice("warning", "This URL was registered already: here is its endpoint. Nothing was changed.")
            return self._desk.redirect(request, page_of(endpoint), known)
        made = Notice("good", f"The endpoint is registered. {_SECRET}", secret=secret)
        return self._desk.redirect(request, page_of(endpoint), made, *_warnings(endpoint))

    async def edit(self, request: web.Request) -> web.Response:
        endpoint = find_endpoint(self._desk.api, path_id(request))
        return self._form(request, shown(endpoint.record), endpoint)

    async def update(self, request: web.Request) -> web.Response:
        api, form = self._desk.api, form_of(request)
        endpoint = find_endpoint(api, path_id(request))
        # What somebody else changed meanwhile is not overwritten unseen.
        expected = frozenset({form.get("version", "")})
        try:
            changes = given(form, is_new=False)
            endpoint = await update_endpoint(api, endpoint.id, changes, principal_of(request).actor, expected)
        except InvalidError as error:
            has_token = endpoint.record.sealed_token is not None
            return self._form(request, sent(form, await self._mistakes(form, error), has_token=has_token), endpoint, status=422)
        return self._back(request, endpoint, Notice("good", "The changes are saved."), *_warnings(endpoint))

    async def ask_pause(self, request: web.Request) -> web.Response:
        endpoint = find_endpoint(self._desk.api, path_id(request))
        return self._ask(
            request,
            endpoint,
            "pause",
            "Pause this endpoint?",
            "Pause the endpoint",
            "It gets nothing until you resume it. Nothing is lost by that: new events and repeats that fall due are held, and use up no attempt.",
            f"When you resume it, all of that goes out at the endpoint's own pace. What has been held for {span(self._desk.api.hold)} expires: it is "
            "not sent any more, and that is on record.",
            "The page of the endpoint says how many deliveries are held. There you can drop them, too.",
        )

    async def pause(self, request: web.Request) -> web.Response:
        endpoint = await self._change(request, {"active": False})
        paused = f"The endpoint is paused. What is due for it is held for up to {span(self._desk.api.hold)}, and goes out when you resume it."
        return self._back(request, endpoint, Notice("good", paused))

    async def resume(self, request: web.Request) -> web.Response:
        held = self._desk.api.registry.held(find_endpoint(self._desk.api, path_id(request))).count
        endpoint = await self._change(request, {"active": True})
        waited = f" {_deliveries(held, 'held delivery goes', 'held deliveries go')} out now." if held else ""
        return self._back(request, endpoint, Notice("good", f"The endpoint gets webhooks again.{waited}"))

    async def ask_drop(self, request: web.Request) -> web.Response:
        endpoint = find_endpoint(self._desk.api, path_id(request))
        count = self._desk.api.registry.held(endpoint).count
        if not count:
            return self._back(request, endpoint, Notice("good", "Nothing is held for this endpoint."))
        what = _deliveries(count, "held delivery", "held deliveries")
        return self._ask(
            request,
            endpoint,
            "drop",
            f"Drop {what}?",
            f"Drop {what}",
            "They will not be sent, also when you resume the endpoint. Each ends on record as discarded, with your name.",
            "What is held from now on stays. If the number has changed by the time you confirm, nothing is dropped.",
            count=str(count),
        )

    async def drop(self, request: web.Request) -> web.Response:
        api, given_count = self._desk.api, form_of(request).get("count", "")
        endpoint = find_endpoint(api, path_id(request))
        try:
            count = int(given_count) if given_count.isascii() and given_count.isdigit() and len(given_count) < 16 else 0
            await drop_held(api, asker(api, request), endpoint.id, count)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            return self._back(request, endpoint, Notice("bad", str(error)))
        dropped = f"{_deliveries(count, 'held delivery is', 'held deliveries are')} dropped, and will be on record as discarded."
        return self._back(request, endpoint, Notice("good", dropped))

    async def ask_rotate(self, request: web.Request) -> web.Response:
        endpoint = find_endpoint(self._desk.api, path_id(request))
        return self._ask(
            request,
            endpoint,
            "rotate",
            "Give it a new signing secret?",
            "Make a new secret",
            "Requests are signed with the new secret from now on, and with the present one too for 24 hours: that is the time to "
            "give the new one to the receiver.",
            "The new secret is shown once, on the next page.",
        )

    async def rotate(self, request: web.Request) -> web.Response:
        endpoint, secret = await rotate_secret(self._desk.api, path_id(request), principal_of(request).actor)
        grace = f"There is a new signing secret; the one before it is valid for another 24 hours. {_SECRET}"
        return self._back(request, endpoint, Notice("good", grace, secret=secret))

    async def ask_delete(self, request: web.Request) -> web.Response:
        endpoint = find_endpoint(self._desk.api, path_id(request))
        return self._ask(
            request,
            endpoint,
            "delete",
            "Delete this endpoint?",
            "Delete the endpoint",
            "It gets nothing any more, repeats that are due included. Its signing secrets, token and headers are removed for good.",
            "Attempts that were made stay on record. To stop it for a while only, pause it.",
        )

    async def delete(self, request: web.Request) -> web.Response:
        endpoint = find_endpoint(self._desk.api, path_id(request))
        await delete_endpoint(self._desk.api, endpoint.id, principal_of(request).actor)
        return self._desk.redirect(request, _LIST, Notice("good", f"The endpoint {endpoint.target_url} is deleted."))

    async def headers(self, request: web.Request) -> web.Response:
        """Set one header of the endpoint's own, or take one away: nobody sees the values of the others."""
        form = form_of(request)
        name, value = form.get("name", "").strip(), form.get("value", "")
        try:
            endpoint = await self._change(request, {"headers": {name: None if "remove" in form else value}})
        except InvalidError as error:
            endpoint = find_endpoint(self._desk.api, path_id(request))
            return self._back(request, endpoint, *(Notice("bad", one) for found in error.errors.values() for one in found))
        done = f"{name} is not sent any more." if "remove" in form else f"{name} is sent with every request from now on."
        return self._back(request, endpoint, Notice("good", done))

    async def _mistakes(self, form: MultiDictProxy[str], found: InvalidError) -> Mapping[str, Sequence[str]]:
        """All that is wrong at once: where the URL leads is looked at only when everything else is right."""
        if "target_url" not in found.errors:
            try:
                await check_target(self._desk.api, form.get("target_url", "").strip())
            except InvalidError as more:
                return {**found.errors, **more.errors}
        return found.errors

    async def _change(self, request: web.Request, values: dict[str, object]) -> Endpoint:
        changes = validated(values, EndpointInput)
        return await update_endpoint(self._desk.api, path_id(request), changes, principal_of(request).actor)

    def _back(self, request: web.Request, endpoint: Endpoint, *notices: Notice) -> web.Response:
        return self._desk.redirect(request, page_of(endpoint), *notices)

    def _form(
        self, request: web.Request, form: EndpointForm, endpoint: Endpoint | None = None, *, status: int = 200
    ) -> web.Response:
        events = [(event.value, text) for event, text in EVENT_DESCRIPTIONS.items()]
        return self._desk.show(request, "endpoint_form.html", status, form=form, endpoint=endpoint, events=events)

    def _ask(
        self, request: web.Request, endpoint: Endpoint, what: str, title: str, button: str, *sentences: str, **fields: str
    ) -> web.Response:
        return self._desk.show(
            request,
            "confirm.html",
            title=title,
            subject=endpoint.target_url,
            sentences=sentences,
            button=button,
            fields=fields,
            is_harmful=what in {"delete", "drop"},
            action=f"{page_of(endpoint)}/{what}",
            back=page_of(endpoint),
        )


def _deliveries(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _warnings(endpoint: Endpoint) -> Sequence[Notice]:
    return [_EVERYTHING] if hears_everything(endpoint.record.events) else []
