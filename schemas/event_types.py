"""The event types of a deployment: a value that is created at the start and passed on."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from schemas.configured_events import FIRST_VERSION, ConfiguredEventType
from schemas.event import EVENT_DESCRIPTIONS, EventType, OrderEvent, ShipmentEvent, StockItemEvent, names_of
from schemas.samples import sample_payload

_SOURCES: Final = {
    **dict.fromkeys(names_of(OrderEvent), "oms.orders"),
    **dict.fromkeys(names_of(ShipmentEvent), "oms.shipments"),
    **dict.fromkeys(names_of(StockItemEvent), "oms.stock-items"),
}
SOURCE_TOPICS: Final = tuple(dict.fromkeys(_SOURCES.values()))
"""The topics of the built-in event types, without the deployment's prefix."""
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_VERSION: Final = re.compile(r"[vV]?[0-9]+")


@dataclass(frozen=True, slots=True)
class EventTypeSpec:
    """One event type: its name, its topic (without the deployment's prefix), and a sentence about when it is published."""

    name: str
    topic: str
    description: str


class EventTypes:
    """All event types of a deployment, in order: the built-in ones, then its own."""

    def __init__(self, configured: Iterable[ConfiguredEventType] = (), former_topics: Iterable[str] = ()) -> None:
        """``former_topics``: of event types that were removed or moved to another topic; without the prefix."""
        self.configured: Mapping[str, ConfiguredEventType] = {one.name: one for one in configured}
        """Those that the deployment adds."""
        built_in = [EventTypeSpec(name, _SOURCES[name], EVENT_DESCRIPTIONS[name]) for name in EventType]
        added = [EventTypeSpec(one.name, one.topic, one.description) for one in self.configured.values()]
        self.by_name: Mapping[str, EventTypeSpec] = {str(one.name): one for one in (*built_in, *added)}
        self.names: tuple[str, ...] = tuple(self.by_name)
        self._former_topics = tuple(former_topics)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventTypes) and list(self.configured.values()) == list(other.configured.values())

    def __hash__(self) -> int:
        return hash(self.names)

    @property
    def more_topics(self) -> tuple[str, ...]:
        """Topics of events in addition to the three, without the deployment's prefix."""
        return tuple(dict.fromkeys(one.topic for one in self.configured.values() if one.topic not in SOURCE_TOPICS))

    @property
    def former_topics(self) -> tuple[str, ...]:
        """Former topics of events, which are still read."""
        current = {*SOURCE_TOPICS, *self.more_topics}
        return tuple(dict.fromkeys(topic for topic in self._former_topics if topic not in current))

    def published_schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of what producers publish, for producers in any language."""
        from schemas.published_event import json_schema  # noqa: PLC0415 - no role needs it to run

        schema = json_schema()
        envelope = schema["$defs"]["PublishedOrderEvent"]["properties"] if self.configured else {}
        for name, one in self.configured.items():
            properties = {**envelope, "event_name": {"const": name}, "data": one.any_schema()}
            required = ["id", "occurred_at", "event_name", "data"]
            schema["$defs"][name] = {
                "title": name,
                "description": one.description,
                "type": "object",
                "properties": properties,
                "required": required,
            }
            schema["oneOf"].append({"$ref": f"#/$defs/{name}"})
            schema["discriminator"]["mapping"][name] = f"#/$defs/{name}"
        return schema

    def sample(self, name: str, version: int | None = None) -> Any:
        """A payload of this type; of its newest version by default."""
        if (configured := self.configured.get(name)) is not None:
            return configured.in_version(version).sample
        return sample_payload(EventType(name))

    def versions(self, name: str) -> tuple[int, ...]:
        """The versions of an event type's payload, newest last. Built-in event types have one."""
        configured = self.configured.get(name)
        return (FIRST_VERSION,) if configured is None else configured.versions

    def version_getter(self, name: str, payload: Callable[[], Any]) -> Callable[[], int | None] | None:
        """A function that returns the version of a payload; None for a built-in event type, which has only one.

        An added event type that has one version now may have had others, which endpoints still pin.
        """
        configured = self.configured.get(name)
        if configured is None:
            return None
        return (lambda: configured.version_of(payload())) if configured.earlier else (lambda: configured.version)

    def in_order(self, names: Iterable[str]) -> tuple[str, ...]:
        """Each event type once, in our order; unknown ones last."""
        return tuple(
            sorted(dict.fromkeys(names), key=lambda name: self.names.index(name) if name in self.by_name else len(self.names))
        )


BUILT_IN: Final = EventTypes()
"""The event types of every deployment."""


def types_in(info: ValidationInfo) -> EventTypes:
    """The event types of a model's validation context; by default, the built-in ones."""
    return info.context if isinstance(info.context, EventTypes) else BUILT_IN


class EventNameSchema:
    """Annotates the name of an event type: documented as an enumeration, checked by code that knows the deployment's types."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.str_schema()

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(TypeAdapter(EventType).core_schema)


EventName: TypeAlias = Annotated[str, EventNameSchema()]


def known_name(text: str, names: Collection[str]) -> str:
    """The event type that a name in another convention means, or the text unchanged.

    The last parts of ``com.example.order_completed``, ``com.example.order.completed.v1``, ``OrderCompleted`` and
    ``order-completed`` are compared with the names, longest first. Parts are separated by dots, slashes or colons; a version at
    the end is left out.
    """
    if text in names or len(text) > 1000:
        return text
    parts = [part for part in re.split(r"[./:#]", text) if part]
    if len(parts) > 1 and _VERSION.fullmatch(parts[-1]):
        parts.pop()
    snake = [_CAMEL.sub("_", part).replace("-", "_").lower() for part in parts[-5:]]
    for start in range(len(snake)):
        if (name := "_".join(snake[start:])) in names:
            return name
    return text
