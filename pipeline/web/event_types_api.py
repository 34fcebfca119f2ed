"""``GET /api/webhook/event_types``: what there is to subscribe to, with a sample and a JSON Schema of each webhook body."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, create_model

from pipeline.web.answers import answer
from pipeline.web.routes import Route
from pipeline.web.trial_api import sample_event
from schemas.api_key import Access
from schemas.event import EVENT_DESCRIPTIONS, EventId, EventType
from schemas.http_operations import EventTypeAnswer, EventTypesAnswer
from schemas.objects import Order, Shipment, StockItem

_PAYLOADS: Final[dict[str, type[BaseModel]]] = {"order": Order, "shipment": Shipment, "stock": StockItem}
_SAMPLE_TIME: Final = datetime(2026, 3, 2, 15, 4, 0, 512_000, UTC)


def event_type_routes() -> Iterable[Route]:
    """The route, below ``/api``."""

    async def index(_: web.Request) -> web.Response:
        return answer(event_types())

    return [
        Route(
            "GET",
            "/webhook/event_types",
            index,
            Access.VIEWER,
            "The event types, with samples and JSON Schema",
            {200: EventTypesAnswer},
        )
    ]


@functools.cache
def event_types() -> EventTypesAnswer:
    """The event types, each with its sample and its schema."""
    return EventTypesAnswer(
        event_types=[
            EventTypeAnswer(
                name=event_type,
                description=EVENT_DESCRIPTIONS[event_type],
                sample=json.loads(sample_event(event_type, f"evt-{number}", _SAMPLE_TIME).body),
                json_schema=_json_schema(event_type),
            )
            for number, event_type in enumerate(EventType, 1)
        ]
    )


def _json_schema(event_type: EventType) -> dict[str, Any]:
    """A receiver's view: what the body of a webhook looks like. It may hold members beside those that are named."""
    payload = _PAYLOADS[event_type.value.partition("_")[0]]
    body = create_model(
        "WebhookBody", id=(EventId, ...), event_name=(str, ...), created_at=(AwareDatetime, ...), data=(payload, ...)
    )
    schema = body.model_json_schema()
    schema["properties"]["event_name"] = {"const": event_type.value}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": event_type.value}
