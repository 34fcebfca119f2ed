"""The fast path for documented events: msgspec, with the same result as the models in event and payloads.

If it cannot read an event, those models decide whether it is accepted, and explain why not. There is one difference: whole
numbers of thousands of digits in unused members are refused by the models and accepted here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from schemas.event import (
    MAX_REFERENCE,
    SCHEMA_VERSION,
    EventMeta,
    OrderEvent,
    ShipmentEvent,
    StockItemEvent,
    names_of,
    unique,
)
from schemas.payloads import MAX_ELEMENTS

_Number = Annotated[str, Meta(min_length=1, max_length=255)]
_Reference = Annotated[str, Meta(max_length=255)]


class _References(Struct, gc=False, frozen=True):
    subscription_id: _Reference | None = None
    order_number: _Reference | None = None


class _Envelope(Struct, gc=False):
    # The anchor is \Z: Python's $ also matches before a line break at the end.
    id: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_:=+/-]+\Z")]
    event_name: str
    occurred_at: str
    data: Raw
    schema_version: Raw = Raw(str(SCHEMA_VERSION))
    references: _References = _References()


class _Sku(Struct, gc=False):
    sku: str | None = None


class _LineItem(Struct, gc=False):
    variant: _Sku | None = None


class _Numbered(Struct, gc=False):
    number: str | None = None


class _Order(Struct, gc=False):
    number: _Number
    shipments: list[_Numbered] | None = None
    line_items: list[_LineItem] | None = None
    token: Raw = Raw()


class _Shipment(Struct, gc=False):
    number: _Number
    order_id: str | None = None
    manifest: list[_Sku] | None = None


class _StockItem(Struct, gc=False):
    id: int
    variant: _Sku | None = None


_envelope: Final = msgspec.json.Decoder(_Envelope)
_order: Final = msgspec.json.Decoder(_Order)
_shipment: Final = msgspec.json.Decoder(_Shipment)
_stock_item: Final = msgspec.json.Decoder(_StockItem)

_CURRENT: Final = str(SCHEMA_VERSION).encode()
_NESTED: Final = 200
"""The depth that pydantic's parser accepts. With no more brackets than that, nothing can be nested deeper."""
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
)


def decode_event_fast(value: bytes, received_at: datetime | None = None) -> tuple[EventMeta, bytes, bool] | None:
    """An event's metadata, its payload's bytes, and whether that is an Order with a guest token; None: use the models."""
    if value.count(b"{") + value.count(b"[") > _NESTED:
        return None
    try:
        value.decode()  # msgspec does not decode what it skips, and the payload is passed on as text
        envelope = _envelope.decode(value)
        if bytes(envelope.schema_version) != _CURRENT or not _TIME.fullmatch(envelope.occurred_at):
            return None
        created_at = datetime.fromisoformat(envelope.occurred_at).astimezone(UTC)
        if read := _READERS.get(envelope.event_name):
            return read(envelope, created_at, received_at)
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError):
        pass  # the models say what is wrong, if anything
    return None


def _of_an_order(envelope: _Envelope, created_at: datetime, received_at: datetime | None) -> tuple[EventMeta, bytes, bool]:
    order = _order.decode(envelope.data)
    meta = EventMeta(
        id=envelope.id,
        event_name=envelope.event_name,
        created_at=created_at,
        order_number=order.number,
        shipment_numbers=unique([one.number for one in order.shipments[:MAX_ELEMENTS]]) if order.shipments else (),
        subscription_id=envelope.references.subscription_id,
        skus=unique([item.variant.sku for item in (order.line_items or ())[:MAX_ELEMENTS] if item.variant is not None]),
        received_at=received_at,
    )
    return meta, bytes(envelope.data), bool(bytes(order.token))


def _of_a_shipment(envelope: _Envelope, created_at: datetime, received_at: datetime | None) -> tuple[EventMeta, bytes, bool]:
    shipment, references = _shipment.decode(envelope.data), envelope.references
    order_id = shipment.order_id
    meta = EventMeta(
        id=envelope.id,
        event_name=envelope.event_name,
        created_at=created_at,
        order_number=order_id if order_id and len(order_id) <= MAX_REFERENCE else references.order_number,
        shipment_numbers=(shipment.number,),
        subscription_id=references.subscription_id,
        skus=unique([item.sku for item in (shipment.manifest or ())[:MAX_ELEMENTS]]),
        received_at=received_at,
    )
    return meta, bytes(envelope.data), False


def _of_a_stock_item(envelope: _Envelope, created_at: datetime, received_at: datetime | None) -> tuple[EventMeta, bytes, bool]:
    stock_item, references = _stock_item.decode(envelope.data), envelope.references
    meta = EventMeta(
        id=envelope.id,
        event_name=envelope.event_name,
        created_at=created_at,
        order_number=references.order_number,
        subscription_id=references.subscription_id,
        stock_item_id=stock_item.id,
        skus=unique([stock_item.variant.sku]) if stock_item.variant is not None else (),
        received_at=received_at,
    )
    return meta, bytes(envelope.data), False


_READERS: Final = {
    name.value: read
    for envelope, read in ((OrderEvent, _of_an_order), (ShipmentEvent, _of_a_shipment), (StockItemEvent, _of_a_stock_item))
    for name in names_of(envelope)
}
