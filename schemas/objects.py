"""The payload objects with every documented field (the Solidus API's objects): Order, Shipment, Stock Item, and their parts.

The JSON Schemas for producers and receivers are generated from them (``oms-webhooks schema``, ``GET event_types``). Every
documented field may be null or missing, and there may be others: nothing is validated against them during a delivery (see
payloads).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, TypeAdapter, WithJsonSchema
from pydantic_core import CoreSchema

from schemas.payloads import OrderIdentity, ShipmentIdentity, StockItemIdentity


def _documented(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema(schema)


class _Shaped:
    """Shapes the JSON Schema like another type, and accepts everything."""

    def __init__(self, shape: Any) -> None:
        self._shape = shape

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(TypeAdapter(self._shape).core_schema)


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
Display = Annotated[Any, _documented({"type": ["string", "null"], "description": "The amount for display, with its currency."})]
Size = Annotated[
    Any, _documented({"type": ["string", "null"], "pattern": r"^-?\d+(\.\d+)?$", "description": "Decimal number as a string."})
]
Time = Annotated[Any, _documented({"type": ["string", "null"], "format": "date-time", "description": "ISO 8601, UTC."})]
Thing = Annotated[Any, _documented({"type": ["object", "null"]})]
Things = Annotated[Any, _documented({"type": ["array", "null"], "items": {"type": "object"}})]
Texts = Annotated[Any, _documented({"type": ["array", "null"], "items": {"type": "string"}})]


class _Object(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Address(_Object):
    """A billing or shipping address."""

    id: Whole = None
    name: Text = None
    address1: Text = None
    address2: Text = None
    city: Text = None
    zipcode: Text = None
    phone: Text = None
    company: Text = None
    country_id: Whole = None
    country_iso: Text = None
    state_id: Whole = None
    state_name: Text = None
    state_text: Text = None
    country: Thing = None
    state: Thing = None


class Variant(_Object):
    """A variant of a product."""

    id: Whole = None
    name: Text = None
    sku: Text = None
    weight: Size = None
    height: Size = None
    width: Size = None
    depth: Size = None
    is_master: Flag = None
    slug: Text = None
    description: Text = None
    price: Money = None
    display_price: Display = None
    options_text: Text = None
    in_stock: Flag = None
    is_backorderable: Flag = None
    total_on_hand: Whole = None
    option_values: Things = None
    images: Things = None


class BundlePart(_Object):
    """How much of one SKU a bundle contains."""

    sku: Text = None
    quantity: Whole = None


class LineItem(_Object):
    """A line of an order."""

    id: Whole = None
    quantity: Whole = None
    variant_id: Whole = None
    price: Money = None
    total: Money = None
    single_display_amount: Display = None
    display_amount: Display = None
    variant: Annotated[Any, _Shaped(Variant | None)] = None
    adjustments: Things = None
    subscription_type: Text = None
    is_bundle: Flag = None
    parts: Annotated[Any, _Shaped(list[BundlePart] | None)] = None
    gift_cards: Things = None
    metadata: Thing = None


class PaymentSource(_Object):
    """What is known about a card."""

    month: Annotated[Any, _documented({"type": ["string", "integer", "null"]})] = None
    year: Annotated[Any, _documented({"type": ["string", "integer", "null"]})] = None
    cc_type: Text = None
    last_digits: Text = None
    name: Text = None


class Payment(_Object):
    """A payment of an order."""

    id: Whole = None
    source_type: Text = None
    amount: Money = None
    display_amount: Display = None
    payment_method_id: Whole = None
    state: Text = None
    avs_response: Text = None
    payment_method: Thing = None
    source: Annotated[Any, _Shaped(PaymentSource | None)] = None


class ManifestItem(_Object):
    """How much of one variant a shipment contains: ``states`` counts its units by state."""

    variant_id: Whole = None
    sku: Text = None
    quantity: Whole = None
    states: Thing = None


class FulfillmentService(_Object):
    """Who fulfils a shipment."""

    name: Text = None


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
    manifest: Annotated[Any, _Shaped(list[ManifestItem] | None)] = None
    selected_shipping_rate: Thing = None
    shipping_rates: Things = None
    shipping_methods: Things = None
    adjustments: Things = None
    fulfillment_service: Annotated[Any, _Shaped(FulfillmentService | None)] = None
    delivery_status: Text = Field(
        default=None,
        description="unknown pre_transit in_transit out_for_delivery delivered available_for_pickup return_to_sender "
        "failure cancelled error",
    )
    tracking_detail: Text = None


class Order(OrderIdentity):
    """An Order as the OMS publishes it. The guest ``token`` is a credential: the pipeline removes it (see event_codec)."""

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
    display_item_total: Display = None
    total: Money = None
    display_total: Display = None
    ship_total: Money = None
    display_ship_total: Display = None
    adjustment_total: Money = None
    display_adjustment_total: Display = None
    payment_total: Money = None
    display_payment_total: Display = None
    included_tax_total: Money = None
    display_included_tax_total: Display = None
    additional_tax_total: Money = None
    display_additional_tax_total: Display = None
    tax_total: Money = None
    display_tax_total: Display = None
    order_total_after_store_credit: Money = None
    display_order_total_after_store_credit: Display = None
    total_applicable_store_credit: Money = None
    display_total_applicable_store_credit: Display = None
    covered_by_store_credit: Flag = None
    created_at: Time = None
    updated_at: Time = None
    completed_at: Time = None
    bill_address: Annotated[Any, _Shaped(Address | None)] = None
    ship_address: Annotated[Any, _Shaped(Address | None)] = None
    metadata: Thing = None
    gift_note: Annotated[Any, _documented({"type": ["object", "string", "null"]})] = None
    permissions: Thing = None
    line_items: Annotated[Any, _Shaped(list[LineItem] | None)] = None
    shipments: Annotated[Any, _Shaped(list[Shipment] | None)] = None
    payments: Annotated[Any, _Shaped(list[Payment] | None)] = None
    adjustments: Things = None
    payment_methods: Things = None
    credit_cards: Things = None
    checkout_steps: Texts = None
    tag_list: Texts = None


class StockItem(StockItemIdentity):
    """A Stock Item as the OMS publishes it."""

    count_on_hand: Whole = None
    backorderable: Flag = None
    stock_location_id: Whole = None
    variant_id: Whole = None
    variant: Annotated[Any, _Shaped(Variant | None)] = None
