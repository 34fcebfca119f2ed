"""The JSON Schema of published events, for producers in any language. It is separate because no role needs it to run."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from schemas.event import OrderEvent, ShipmentEvent, StockItemEvent
from schemas.objects import Order, Shipment, StockItem


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
