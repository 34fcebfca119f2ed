"""The parts of the payload objects that the pipeline relies on: Order, Shipment and Stock Item.

Only these are validated: an OMS that adds, drops or retypes any other field must not break deliveries. ``objects`` has the
objects with every documented field.
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
    """Treat a value of an undocumented type as missing: the search loses a reference, but no delivery is lost."""
    try:
        return validate(value)
    except ValueError:
        return None


MAX_ELEMENTS = 1000
"""How many shipments, line items and lines of a manifest are searched for references; millions of them would take seconds."""

_Lenient = WrapValidator(_or_none)
_First = BeforeValidator(lambda elements: elements[:MAX_ELEMENTS] if isinstance(elements, list) else elements)
# An invalid element is dropped, and does not hide the others.
_Present = AfterValidator(lambda elements: elements and [element for element in elements if element is not None])


class _Part(BaseModel):
    """A part of a payload. Unknown fields are ignored: the payload is passed on as the received bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)  # as for the events


class VariantIdentity(_Part):
    """The SKU of a variant, if there is one."""

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
    """What the pipeline relies on in an Order: its number, and its shipments' numbers and SKUs if present."""

    number: str = Field(min_length=1, max_length=255, description="Order number: R and 9 digits, or a tenant's own prefix.")
    shipments: Annotated[list[Annotated[NumberedIdentity, _Lenient]] | None, _First, _Present, _Lenient] = None
    line_items: Annotated[list[Annotated[LineItemIdentity, _Lenient]] | None, _First, _Present, _Lenient] = None


class ShipmentIdentity(_Part):
    """What the pipeline relies on in a Shipment: its number, and its order's number and SKUs if present."""

    number: str = Field(min_length=1, max_length=255, description="Shipment number: H and 11 digits.")
    order_id: Annotated[str | None, _Lenient] = Field(default=None, description="The order NUMBER, a string.")
    manifest: Annotated[list[Annotated[ManifestItemIdentity, _Lenient]] | None, _First, _Present, _Lenient] = None


class StockItemIdentity(_Part):
    """What the pipeline relies on in a Stock Item: its id, and its SKU if present."""

    id: int = Field(description="Stock item id.")
    variant: Annotated[VariantIdentity | None, _Lenient] = None
