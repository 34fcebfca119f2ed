"""``/api/webhook/event_types``: list the event types, with a sample and a JSON Schema of each webhook body, and change them."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, create_model

from pipeline.web.api.send_test_event import sample_event
from pipeline.web.api.wrapped_input import parse_wrapped
from pipeline.web.auth import principal_of
from pipeline.web.errors import ApiError, not_found
from pipeline.web.event_type_changes import (
    create_event_type,
    remove_event_type,
    require_changeable,
    require_new,
    update_event_type,
)
from pipeline.web.request_values import read_body
from pipeline.web.responses import answer
from pipeline.web.routes import Route
from pipeline.web.services import EventTypeServices
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.event import EventId
from schemas.event_types import BUILT_IN, EventTypes
from schemas.http.operations import (
    EventTypeAnswer,
    EventTypeBody,
    EventTypeInput,
    EventTypesAnswer,
    EventTypeShown,
    EventTypeVersionAnswer,
    EventTypeWritten,
    RemovedEventTypeAnswer,
    UnusableEventTypeAnswer,
)
from schemas.objects import Order, Shipment, StockItem

_PAYLOADS: Final[dict[str, type[BaseModel]]] = {"order": Order, "shipment": Shipment, "stock": StockItem}
_SAMPLE_TIME: Final = datetime(2026, 3, 2, 15, 4, 0, 512_000, UTC)


_WRAPPER: Final = (
    'The fields of an event type must be wrapped: {"event_type": {"name": "refund_issued", "topic": "oms.orders", …}}.'
)
_NAME: Final = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,99}$"}
_RULES: Final = (
    "The fields are those of the file of event types (docs/event-types.md). Every process knows the event type within seconds, "
    "without a restart. A missing topic is created. If this process may not create it, the response is 409 and says what to do. "
)


async def index(api: EventTypeServices, _: web.Request) -> web.Response:
    return answer(
        EventTypesAnswer(
            event_types=[_shown(api, name) for name in api.events.types.names],
            removed_event_types=[
                RemovedEventTypeAnswer(name=one.name, removed_at=one.updated_at) for one in api.catalogue.removed()
            ],
            unusable_event_types=[
                UnusableEventTypeAnswer(name=name, problem=problem) for name, problem in api.catalogue.unusable().items()
            ],
        )
    )


async def show(api: EventTypeServices, request: web.Request) -> web.Response:
    name = request.match_info["id"]
    if name not in api.events.types.by_name:
        raise not_found()
    configured, record = api.events.types.configured.get(name), api.catalogue.get(name)
    is_made = api.catalogue.origin(name) == "api"
    return answer(
        EventTypeShown(
            event_type=_shown(api, name),
            entry=configured.entry() if configured is not None else None,
            updated_at=record.updated_at if record is not None and is_made else None,
        )
    )


async def create(api: EventTypeServices, request: web.Request) -> web.Response:
    wanted = await _given(request)
    await require_new(api, wanted.entry())  # before the audit record, so that a refused change is not recorded
    name = str(wanted.name)[:100]
    await api.audit.put(request, AuditAction.CREATE_EVENT_TYPE, f"event type {name}", str(wanted.topic)[:200])
    notes = await create_event_type(api, wanted.entry(), principal_of(request).actor)
    return answer(EventTypeWritten(event_type=_shown(api, name), changes=[f"{name}: It is new.", *notes]), 201)


async def update(api: EventTypeServices, request: web.Request) -> web.Response:
    wanted, name = await _given(request), request.match_info["id"]
    require_changeable(api, name)
    detail = "breaking changes allowed" if wanted.allow_breaking else ""
    await api.audit.put(request, AuditAction.UPDATE_EVENT_TYPE, f"event type {name}", detail)
    found, notes = await update_event_type(
        api, name, wanted.entry(), principal_of(request).actor, allow_breaking=wanted.allow_breaking
    )
    changed = [f"{one.path or name}: {one.message}" for one in found]
    return answer(EventTypeWritten(event_type=_shown(api, name), changes=[*changed, *notes]))


async def remove(api: EventTypeServices, request: web.Request) -> web.Response:
    name = request.match_info["id"]
    require_changeable(api, name)
    await api.audit.put(request, AuditAction.REMOVE_EVENT_TYPE, f"event type {name}")
    await remove_event_type(api, name, principal_of(request).actor)
    return web.Response(status=204)


EVENT_TYPE_ROUTES: Final[Sequence[Route[EventTypeServices]]] = (
    Route(
        "POST",
        "/webhook/event_types",
        create,
        Access.ADMIN,
        "Add an event type",
        {201: EventTypeWritten},
        _RULES,
        body=EventTypeBody,
        errors=(409, 503),
    ),
    Route(
        "GET",
        "/webhook/event_types/{id}",
        show,
        Access.VIEWER,
        "Get an event type, with its entry for the file of event types",
        {200: EventTypeShown},
        id_schema=_NAME,
    ),
    Route(
        "PUT",
        "/webhook/event_types/{id}",
        update,
        Access.ADMIN,
        "Change an event type that was added with the API",
        {200: EventTypeWritten},
        _RULES + "A change that breaks producers or receivers is refused with 409 and the reason, unless allow_breaking is true.",
        body=EventTypeBody,
        errors=(409, 503),
        id_schema=_NAME,
    ),
    Route(
        "DELETE",
        "/webhook/event_types/{id}",
        remove,
        Access.ADMIN,
        "Remove an event type that was added with the API",
        {204: None},
        "While endpoints subscribe to it, the response is 409 and names them. Events that are still published become dead "
        "letters.",
        errors=(409, 503),
        id_schema=_NAME,
    ),
    Route(
        "GET",
        "/webhook/event_types",
        index,
        Access.VIEWER,
        "List event types, with samples and JSON Schemas",
        {200: EventTypesAnswer},
    ),
)


async def _given(request: web.Request) -> EventTypeInput:
    return parse_wrapped(await read_body(request), "event_type", EventTypeInput, hint=_WRAPPER)


def _shown(api: EventTypeServices, name: str) -> EventTypeAnswer:
    found = next((one for one in event_types(api.events.types).event_types if one.name == name), None)
    if found is None:
        raise ApiError(409, f"{name} was changed by someone else at the same time. List the event types.")
    return found.model_copy(update={"origin": api.catalogue.origin(name)})


@functools.lru_cache(maxsize=4)
def event_types(types: EventTypes = BUILT_IN) -> EventTypesAnswer:
    """The event types, each with its sample and its schema."""
    built_in = {} if types == BUILT_IN else {one.name: one for one in event_types().event_types}
    return EventTypesAnswer(
        event_types=[
            built_in.get(one.name)
            or EventTypeAnswer(
                name=one.name,
                description=one.description,
                sample=json.loads(sample_event(one.name, f"evt-{number}", _SAMPLE_TIME, types).body),
                json_schema=_json_schema(one.name, types),
                version=types.versions(one.name)[-1],
                versions=_versions(one.name, types),
                topic=one.topic,
            )
            for number, one in enumerate(types.by_name.values(), 1)
        ]
    )


def _versions(event_type: str, types: EventTypes) -> list[EventTypeVersionAnswer]:
    return [
        EventTypeVersionAnswer(
            version=version,
            sample=json.loads(sample_event(event_type, "evt-1", _SAMPLE_TIME, types, version).body),
            json_schema=_json_schema(event_type, types, version),
        )
        for version in types.versions(event_type)[:-1]
    ]


def _json_schema(event_type: str, types: EventTypes, version: int | None = None) -> dict[str, Any]:
    """The schema of a webhook body for receivers. The body may contain members that the schema does not name."""
    configured = types.configured.get(event_type)
    payload = dict[str, Any] if configured else _PAYLOADS[event_type.partition("_")[0]]
    body = create_model(
        "WebhookBody", id=(EventId, ...), event_name=(str, ...), created_at=(AwareDatetime, ...), data=(payload, ...)
    )
    schema = body.model_json_schema()
    schema["properties"]["event_name"] = {"const": event_type}
    if configured:
        schema["properties"]["data"] = configured.embedded_schema(version)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": event_type}
