"""The event record that OMS producers publish to ``oms.orders``, ``oms.shipments`` and ``oms.stock-items``.

The record's key is the order number (orders, shipments) or the stock item id (stock items). The value is JSON::

    {"id": "evt_01", "event_name": "order_completed", "occurred_at": "2026-03-02T15:04:00.512Z",
     "data": {…the Order…}, "references": {"subscription_id": "S1"}}

The envelope is validated strictly, the payload leniently (see payloads).
"""

from __future__ import annotations

import enum
import itertools
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from schemas.objects import Order, Shipment, StockItem
from schemas.payloads import OrderIdentity, ShipmentIdentity, StockItemIdentity

SCHEMA_VERSION = 1

# What our own records may hold: ClickHouse's columns take no more, and one row that does not fit would hold up all behind it.
SchemaVersion = Annotated[int, Field(strict=True, ge=1)]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
PartitionNumber = Annotated[int, Field(ge=0, lt=2**31)]
Offset = Annotated[int, Field(ge=0, lt=2**63)]

ElementT = TypeVar("ElementT")
# The first wrong element is enough: a record with a million of them would make a million errors, and take gigabytes.
Many: TypeAlias = Annotated[tuple[ElementT, ...], FailFast()]

MAX_REFERENCES = 100
"""Shipment numbers, and SKUs, that an event is found by."""
MAX_REFERENCE = 255
"""Characters of such a reference."""

# Printable, no spaces: the id is sent as the `webhook-id` header. No dot: a dot separates the parts of what is signed.
EventId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9_:=+/-]+$",
        description="Unique id of the event, kept by every repeat: a UUID or the like, without dots.",
    ),
]


_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt _]")


def _moment(value: object, validate: ValidatorFunctionWrapHandler) -> datetime:
    """Refuse what pydantic takes for a time besides (Unix times), and what has no equal in UTC."""
    if not isinstance(value, datetime) and not (isinstance(value, str) and _ISO_DATE.match(value)):
        raise PydanticCustomError("iso_8601", "Input should be an ISO 8601 time with an offset, such as 2026-03-02T15:04:00.512Z")
    moment: datetime = validate(value)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("iso_8601", "Input should be a time within the years 1 to 9999 in UTC") from None


# Lax within _moment: a wrapped validator gets the string as a Python object, which a strict one would refuse.
OccurredAt = Annotated[AwareDatetime, Field(strict=False), WrapValidator(_moment)]


class EventType(enum.StrEnum):
    """The seven event types (the product's fixed points)."""

    ORDER_COMPLETED = "order_completed"
    ORDER_CANCELLED = "order_cancelled"
    SHIPMENT_SHIPPED = "shipment_shipped"
    SHIPMENT_UPDATED = "shipment_updated"
    SHIPMENT_DELIVERY_STATUS_UPDATED = "shipment_delivery_status_updated"
    STOCK_ITEM_BACK_IN_STOCK = "stock_item_back_in_stock"
    STOCK_ITEM_OUT_OF_STOCK = "stock_item_out_of_stock"


EVENT_DESCRIPTIONS: dict[EventType, str] = {
    EventType.ORDER_COMPLETED: "An order is completed.",
    EventType.ORDER_CANCELLED: "An order is cancelled.",
    EventType.SHIPMENT_SHIPPED: "A shipment is shipped.",
    EventType.SHIPMENT_UPDATED: "A shipment changes in any other way (status, tracking details).",
    EventType.SHIPMENT_DELIVERY_STATUS_UPDATED: "A shipment's tracking code gets a delivery status update.",
    EventType.STOCK_ITEM_BACK_IN_STOCK: "A product variant is back in stock.",
    EventType.STOCK_ITEM_OUT_OF_STOCK: "A product variant goes out of stock.",
}


class EventReferences(BaseModel):
    """References that the payload itself does not hold; search finds the event's attempts by them."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    subscription_id: str | None = Field(default=None, max_length=255, description="The subscription that the event belongs to.")
    order_number: str | None = Field(default=None, max_length=255, description="Order number, when the payload has none.")


class _Envelope(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION, description="Major version of this envelope.")
    id: EventId
    occurred_at: OccurredAt = Field(description="When it happened: ISO 8601 with an offset; sent to receivers as created_at.")
    references: EventReferences = EventReferences()


class OrderEvent(_Envelope):
    """An event about an Order."""

    event_name: Literal[EventType.ORDER_COMPLETED, EventType.ORDER_CANCELLED]
    data: OrderIdentity


class ShipmentEvent(_Envelope):
    """An event about a Shipment."""

    event_name: Literal[EventType.SHIPMENT_SHIPPED, EventType.SHIPMENT_UPDATED, EventType.SHIPMENT_DELIVERY_STATUS_UPDATED]
    data: ShipmentIdentity


class StockItemEvent(_Envelope):
    """An event about a Stock Item."""

    event_name: Literal[EventType.STOCK_ITEM_BACK_IN_STOCK, EventType.STOCK_ITEM_OUT_OF_STOCK]
    data: StockItemIdentity


OmsEvent = Annotated[OrderEvent | ShipmentEvent | StockItemEvent, Field(discriminator="event_name")]
OMS_EVENT: TypeAdapter[OrderEvent | ShipmentEvent | StockItemEvent] = TypeAdapter(OmsEvent)


class PublishedOrderEvent(OrderEvent):
    """What a producer publishes to ``oms.orders``."""

    data: Order


class PublishedShipmentEvent(ShipmentEvent):
    """What a producer publishes to ``oms.shipments``."""

    data: Shipment


class PublishedStockItemEvent(StockItemEvent):
    """What a producer publishes to ``oms.stock-items``."""

    data: StockItem


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of what producers publish, for producers in any language."""
    published = Annotated[
        PublishedOrderEvent | PublishedShipmentEvent | PublishedStockItemEvent,
        Field(discriminator="event_name"),
    ]
    schema = TypeAdapter[Any](published).json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "OMS event",
        "description": "The value of a record in oms.orders, oms.shipments or oms.stock-items.",
        **schema,
    }


class EventMeta(BaseModel):
    """An event without its body: what every record about the event carries, and what search finds it by.

    ``created_at`` is the envelope's ``occurred_at``. References are taken from the payload once, by the fan-out. They are bounded,
    as this is a part of every record about the event: the first 100 shipment numbers and the first 100 SKUs, and none that is
    longer than 255 characters. What is beyond that is in the body, and is found by a search of bodies.

    ``received_at`` is when the event was written to Kafka, as its dispatch has it too: by it a search gets from an attempt to
    the body. Whoever makes another delivery of an event copies it; without it the search still works, but takes longer. None when the
    record's timestamp cannot be when it was written.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    event_name: str
    created_at: AwareDatetime
    order_number: str | None = None
    shipment_numbers: Many[str] = ()
    subscription_id: str | None = None
    stock_item_id: int | None = None
    skus: Many[str] = ()
    received_at: AwareDatetime | None = None


def event_meta(event: OrderEvent | ShipmentEvent | StockItemEvent, received_at: datetime | None = None) -> EventMeta:
    """Take the references out of an event's payload and envelope."""
    order_number = event.references.order_number
    shipment_numbers: tuple[str, ...] = ()
    stock_item_id = None
    match event:
        case OrderEvent(data=order):
            order_number = order.number
            shipment_numbers = unique(shipment.number for shipment in order.shipments or ())
            skus = unique(item.variant.sku for item in order.line_items or () if item.variant is not None)
        case ShipmentEvent(data=shipment):
            if shipment.order_id and len(shipment.order_id) <= MAX_REFERENCE:
                order_number = shipment.order_id
            shipment_numbers = (shipment.number,)
            skus = unique(item.sku for item in shipment.manifest or ())
        case StockItemEvent(data=stock_item):
            stock_item_id = stock_item.id
            skus = unique([stock_item.variant.sku] if stock_item.variant is not None else ())
    return EventMeta(
        id=event.id,
        event_name=event.event_name.value,
        created_at=event.occurred_at,
        received_at=received_at,
        order_number=order_number,
        shipment_numbers=shipment_numbers,
        subscription_id=event.references.subscription_id,
        stock_item_id=stock_item_id,
        skus=skus,
    )


def unique(values: Iterable[str | None]) -> tuple[str, ...]:
    """Each reference once, in their order, within the bounds that EventMeta promises."""
    known = dict.fromkeys([value for value in values if value and len(value) <= MAX_REFERENCE])
    return tuple(known) if len(known) <= MAX_REFERENCES else tuple(itertools.islice(known, MAX_REFERENCES))
