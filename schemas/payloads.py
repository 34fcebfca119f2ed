"""What the pipeline relies on in the payload objects of the events: Order, Shipment and Stock Item.

Only this is validated on the way: an OMS that adds, drops or retypes any other field must not break deliveries. The objects with
every documented field are in ``objects``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
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


class _Part(BaseModel):
    """A piece of a payload. Unknown fields do not concern us: the payload travels as the bytes that came."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)  # as of the events


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
