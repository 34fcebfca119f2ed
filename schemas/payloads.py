"""The payload objects of the events: Order, Shipment and Stock Item (the Solidus API's objects).

Two layers of the same objects:

* ``OrderIdentity``, ``ShipmentIdentity``, ``StockItemIdentity`` hold what the pipeline relies on. Only these are validated
  on the way: an OMS that adds, drops or retypes any other field must not break deliveries.
* ``Order``, ``Shipment``, ``StockItem`` add every documented field, for the JSON Schema that producers check themselves
  against (``oms-webhooks schema``). Every documented field may be null.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)


def _or_none(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Take a value that has another type than documented for absent: search loses a reference, nobody loses a delivery."""
    try:
        return validate(value)
    except ValueError:
        return None


MAX_ELEMENTS = 1000
"""Shipments, line items and lines of a manifest that references are looked for in; millions of them would take seconds."""

_Lenient = WrapValidator(_or_none)
_First = BeforeValidator(lambda elements: elements[:MAX_ELEMENTS] if isinstance(elements, list) else elements)
# An element that is odd is left out, and hides no other.
_Present = AfterValidator(lambda elements: elements and [element for element in elements if element is not None])


def _documented(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema(schema)


# Documented types: they shape the JSON Schema and accept everything.
Text = Annotated[Any, _documented({"type": ["string", "null"]})]
Whole = Annotated[Any, _documented({"type": ["integer", "null"]})]
Flag = Annotated[Any, _documented({"type": ["boolean", "null"]})]
Money = Annotated[
    Any,
    _documented(
        {
            "type": ["string", "null"],
            "pattern": r"^-?\d+(\.\d+)?$",
            "description": "Decimal amount as a string.",
        }
    ),
]
Time = Annotated[Any, _documented({"type": ["string", "null"], "format": "date-time", "description": "ISO 8601, UTC."})]
Thing = Annotated[Any, _documented({"type": ["object", "null"]})]
Things = Annotated[Any, _documented({"type": ["array", "null"], "items": {"type": "object"}})]
Texts = Annotated[Any, _documented({"type": ["array", "null"], "items": {"type": "string"}})]


class _Part(BaseModel):
    """A piece of a payload. Unknown fields are none of our business: the payload travels as the bytes that came."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class VariantIdentity(_Part):
    """The SKU of a variant, as far as there is one."""

    sku: Annotated[str | None, _Lenient] = None


class LineItemIdentity(_Part):
    """The SKU of a line item, by its variant."""

    variant: Annotated[VariantIdentity | None, _Lenient] = None


class ManifestItemIdentity(_Part):
    """The SKU of a line of a shipment's manifest."""

    sku: Annotated[str | None, _Lenient] = None


class NumberedIdentity(_Part):
    """The number of a shipment inside an order."""

    number: Annotated[str | None, _Lenient] = None


class OrderIdentity(_Part):
    """What the pipeline relies on in an Order: its number; and, where present, its shipments' numbers and SKUs."""

    number: str = Field(min_length=1, max_length=255, description="Order number: R and 9 digits, or a tenant's own prefix.")
    shipments: Annotated[list[Annotated[NumberedIdentity, _Lenient]] | None, _First, _Present, _Lenient] = None
    line_items: Annotated[list[Annotated[LineItemIdentity, _Lenient]] | None, _First, _Present, _Lenient] = None


class ShipmentIdentity(_Part):
    """What the pipeline relies on in a Shipment: its number; and, where present, its order's number and SKUs."""

    number: str = Field(min_length=1, max_length=255, description="Shipment number: H and 11 digits.")
    order_id: Annotated[str | None, _Lenient] = Field(default=None, description="The order NUMBER, a string.")
    manifest: Annotated[list[Annotated[ManifestItemIdentity, _Lenient]] | None, _First, _Present, _Lenient] = None


class StockItemIdentity(_Part):
    """What the pipeline relies on in a Stock Item: its id; and, where present, its SKU."""

    id: int = Field(description="Stock item id.")
    variant: Annotated[VariantIdentity | None, _Lenient] = None


class Order(OrderIdentity):
    """An Order as the OMS publishes it. The guest ``token`` is a credential: the pipeline takes it out (see codec)."""

    id: Whole = None
    state: Text = Field(
        default=None,
        description="cart address delivery payment confirm complete canceled awaiting_return returned resumed",
    )
    payment_state: Text = Field(default=None, description="balance_due paid credit_owed failed void null")
    shipment_state: Text = Field(default=None, description="pending ready partial shipped backorder canceled null")
    email: Text = None
    currency: Text = None
    channel: Text = Field(default=None, description="spree by default; subscriptions for an instalment of a subscription")
    locale: Text = None
    user_id: Whole = None
    canceler_id: Whole = None
    total_quantity: Whole = None
    special_instructions: Text = None
    item_total: Money = None
    total: Money = None
    ship_total: Money = None
    adjustment_total: Money = None
    payment_total: Money = None
    included_tax_total: Money = None
    additional_tax_total: Money = None
    tax_total: Money = None
    order_total_after_store_credit: Money = None
    total_applicable_store_credit: Money = None
    covered_by_store_credit: Flag = None
    created_at: Time = None
    updated_at: Time = None
    completed_at: Time = None
    bill_address: Thing = None
    ship_address: Thing = None
    metadata: Thing = None
    gift_note: Annotated[Any, _documented({"type": ["object", "string", "null"]})] = None
    permissions: Thing = None
    payments: Things = None
    adjustments: Things = None
    payment_methods: Things = None
    credit_cards: Things = None
    checkout_steps: Texts = None
    tag_list: Texts = None


class Shipment(ShipmentIdentity):
    """A Shipment as the OMS publishes it."""

    id: Whole = None
    state: Text = Field(default=None, description="pending ready shipped canceled")
    tracking: Text = None
    tracking_url: Text = None
    stock_location_name: Text = None
    carrier: Text = None
    cost: Money = None
    shipped_at: Time = None
    selected_shipping_rate: Thing = None
    shipping_rates: Things = None
    shipping_methods: Things = None
    adjustments: Things = None
    fulfillment_service: Thing = None
    delivery_status: Text = Field(
        default=None,
        description="unknown pre_transit in_transit out_for_delivery delivered available_for_pickup return_to_sender "
        "failure cancelled error",
    )
    tracking_detail: Text = None


class StockItem(StockItemIdentity):
    """A Stock Item as the OMS publishes it."""

    count_on_hand: Whole = None
    backorderable: Flag = None
    stock_location_id: Whole = None
    variant_id: Whole = None
