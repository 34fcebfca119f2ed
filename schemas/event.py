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
from typing import Annotated, Any, Final, Literal, get_args

from msgspec import Meta
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from schemas.event_key import MAX_EVENT_KEY
from schemas.own_records import OffsetValue, RewrittenRecord, Time
from schemas.payloads import OrderIdentity, ShipmentIdentity, StockItemIdentity

SCHEMA_VERSION: Final = 1

MAX_REFERENCES = 100
"""How many shipment numbers, and how many SKUs, an event can be found by."""
MAX_REFERENCE = 255
"""The most characters of such a reference."""

# Printable, no spaces: the id is sent as the `webhook-id` header. No dot: a dot separates the parts of the signed text.
EventId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9_:=+/-]+$",
        description="Unique id of the event, the same in every retry. A UUID is a good choice; dots are not allowed.",
    ),
]


_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt _]")


def _moment(value: object, validate: ValidatorFunctionWrapHandler) -> datetime:
    """Refuse times that pydantic accepts but that are not ISO 8601 (Unix times) or have no equivalent in UTC."""
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
    """The built-in event types (a fixed requirement of the product)."""

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
    """References that are not in the payload itself; search finds the event's attempts by them."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    subscription_id: str | None = Field(default=None, max_length=255, description="The subscription that the event belongs to.")
    order_number: str | None = Field(default=None, max_length=255, description="Order number, when the payload has none.")


class _Envelope(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, defer_build=True)
    # Built when the first event needs it: few do (see schemas.event_fast_path), and every role loads this file.

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
OMS_EVENT: TypeAdapter[OrderEvent | ShipmentEvent | StockItemEvent] = TypeAdapter(OmsEvent, config=ConfigDict(defer_build=True))


def names_of(envelope: type[OrderEvent | ShipmentEvent | StockItemEvent]) -> tuple[EventType, ...]:
    """The possible ``event_name`` values of an envelope."""
    names: tuple[EventType, ...] = get_args(envelope.model_fields["event_name"].annotation)
    return names


class ConfiguredEvent(_Envelope):
    """An event of a type that the deployment adds; its own schema checks its payload."""

    event_name: str
    data: dict[str, Any]


class EventMeta(RewrittenRecord, frozen=True, kw_only=True, gc=False):
    """An event without its body: what every record about the event contains, and what searches find it by.

    ``created_at`` is the envelope's ``occurred_at``. The fan-out extracts the references from the payload once. They are limited,
    because every record about the event contains them: the first 100 shipment numbers and the first 100 SKUs, and none that is
    longer than 255 characters. Others are in the body, and can be found by a search of bodies.

    ``received_at`` is when the event was written to Kafka, the same time as in its dispatch. A search uses it to get from an
    attempt to the body; without it, the search works but takes longer. Code that makes another delivery of an event copies it.
    None if the record's timestamp cannot be the time of writing.

    ``key`` and ``sequence`` are the event key and the offset (see `schemas.event_key`). None for tests, for a record without a
    key, and in records of releases that did not write them.
    """

    id: str
    event_name: str
    created_at: Time
    order_number: str | None = None
    shipment_numbers: tuple[str, ...] = ()
    subscription_id: str | None = None
    stock_item_id: int | None = None
    skus: tuple[str, ...] = ()
    received_at: Time | None = None
    key: Annotated[str, Meta(max_length=MAX_EVENT_KEY, pattern=r"^[!-~]+\Z")] | None = None
    sequence: OffsetValue | None = None


def event_meta(event: OrderEvent | ShipmentEvent | StockItemEvent, received_at: datetime | None = None) -> EventMeta:
    """Extract the references from an event's payload and envelope."""
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
    """Each reference once, in order, within the limits of EventMeta."""
    known = dict.fromkeys([value for value in values if value and len(value) <= MAX_REFERENCE])
    return tuple(known) if len(known) <= MAX_REFERENCES else tuple(itertools.islice(known, MAX_REFERENCES))
