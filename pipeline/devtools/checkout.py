"""The Order, Shipment and Stock Item objects that the simulated shop publishes, with every field of the Solidus API.

Amounts are Decimals inside and decimal strings outside. They add up exactly: an order's total is the sum of item_total,
ship_total and adjustment_total, and its adjustments are its own and those of its line items. A tax that is included in prices is
also listed as an adjustment, but not added to any total.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from pipeline.devtools.catalog import Country, Currency, Rate
from pipeline.devtools.population import Customer, Ids, Json, Stock
from schemas.codec import format_time

ZERO = Decimal(0)
_CHECKOUT_STEPS = ("address", "delivery", "payment", "confirm", "complete")


@dataclass(frozen=True, slots=True)
class Purchase:
    """The cart and the payment: everything from which an Order object is built."""

    number: str
    customer: Customer
    picks: tuple[tuple[Stock, int], ...]
    shipment_numbers: dict[int, str]
    promotion: tuple[str, Decimal] | None
    subscription_id: str | None
    token: str
    card: tuple[str, str]
    special_instructions: str | None
    started_at: datetime
    completed_at: datetime


def money(amount: Decimal) -> str:
    """A decimal string as the API writes it: ``60.25``, ``48.0``, ``0.0``."""
    text = format(amount.normalize(), "f")
    return text if "." in text else f"{text}.0"


def variant(stock: Stock, currency: Currency) -> Json:
    """A Variant with its price in the currency and the current stock."""
    product, (code, shown) = stock.product, stock.option
    price = currency.price(product.price)
    slug = product.name.lower().replace(" ", "-")
    return {
        "id": stock.variant_id, "name": product.name, "sku": stock.sku, "weight": product.weight,
        "height": "30.0", "width": "12.0", "depth": "12.0", "is_master": False, "slug": slug,
        "description": product.description, "track_inventory": True, "cost_price": None,
        "price": money(price), "display_price": currency.display(price),
        "options_text": f"{product.option_type.capitalize()}: {shown}",
        "in_stock": stock.on_hand > 0, "is_backorderable": False, "is_destroyed": False, "total_on_hand": stock.on_hand,
        "metadata": {},
        "option_values": [{
            "id": stock.option_id, "name": code.lower(), "presentation": shown, "option_type_name": product.option_type,
            "option_type_id": 2, "option_type_presentation": product.option_type.capitalize(),
        }],
        "images": [],
    }  # fmt: skip


def stock_item(stock: Stock, currency: Currency) -> Json:
    """A Stock Item in its current state, with the pictures of its variant."""
    images = [_image(stock, position) for position in (1, 2)]
    return {
        "id": stock.id, "count_on_hand": stock.on_hand, "backorderable": False, "stock_location_id": stock.location.id,
        "variant_id": stock.variant_id, "variant": variant(stock, currency) | {"images": images},
    }  # fmt: skip


def _image(stock: Stock, position: int) -> Json:
    folder = f"https://shop.example.com/images/{stock.sku}/{position}"
    return {
        "id": stock.variant_id * 10 + position, "position": position, "alt": f"{stock.product.name}, {stock.option[1]}",
        "attachment_content_type": "image/jpeg", "attachment_file_name": f"{position}.jpg",
        "attachment_width": 1200, "attachment_height": 1200,
        "mini_url": f"{folder}/mini.jpg", "small_url": f"{folder}/small.jpg", "product_url": f"{folder}/product.jpg",
        "large_url": f"{folder}/large.jpg",
    }  # fmt: skip


def order(purchase: Purchase, ids: Ids) -> Json:
    """The Order at the moment of its completion, with shipments that are ready."""
    market = purchase.customer.market
    currency = market.currency
    line_items = [_line_item(purchase, stock, quantity, ids) for stock, quantity in purchase.picks]
    shipments = [_shipment(purchase, number, location_id, ids) for location_id, number in purchase.shipment_numbers.items()]
    item_total = sum((currency.price(stock.product.price) * quantity for stock, quantity in purchase.picks), ZERO)
    ship_total = sum((Decimal(shipment["cost"]) for shipment in shipments), ZERO)
    tax = sum((Decimal(adjustment["amount"]) for item in line_items for adjustment in item["adjustments"]), ZERO)
    included, additional = (tax, ZERO) if market.tax_included else (ZERO, tax)
    discount = currency.price(purchase.promotion[1]) if purchase.promotion else ZERO
    total = item_total + ship_total + additional + discount
    identity = ids.next("order")
    return {
        "id": identity, "number": purchase.number, "state": "complete", "payment_state": "paid", "shipment_state": "ready",
        "user_id": purchase.customer.user_id, "canceler_id": None, "email": purchase.customer.email,
        "created_at": format_time(purchase.started_at), "updated_at": format_time(purchase.completed_at),
        "completed_at": format_time(purchase.completed_at),
        "special_instructions": purchase.special_instructions,
        "channel": "subscriptions" if purchase.subscription_id else "spree",
        "currency": currency.code, "locale": market.locale, "total_quantity": sum(quantity for _, quantity in purchase.picks),
        "covered_by_store_credit": False, "payment_total": money(total),
        **_totals(currency, item_total=item_total, total=total, ship_total=ship_total, tax_total=tax,
                  included_tax_total=included, additional_tax_total=additional,
                  order_total_after_store_credit=total, total_applicable_store_credit=ZERO),
        "adjustment_total": money(additional + discount),
        "display_total_available_store_credit": currency.display(ZERO),
        "display_store_credit_remaining_after_capture": currency.display(ZERO),
        "metadata": {}, "tag_list": [], "gift_note": None, "token": purchase.token, "checkout_steps": list(_CHECKOUT_STEPS),
        "bill_address": purchase.customer.bill_address, "ship_address": purchase.customer.ship_address,
        "line_items": line_items, "payments": [_payment(purchase, total, ids)], "shipments": shipments,
        "adjustments": [_promotion(purchase, purchase.promotion[0], identity, discount, ids)] if purchase.promotion else [],
        "permissions": {"can_update": True}, "credit_cards": [],
    }  # fmt: skip


def _totals(currency: Currency, **amounts: Decimal) -> Json:
    """Every amount as a decimal string and as a text for people."""
    texts = {name: money(amount) for name, amount in amounts.items()}
    return texts | {f"display_{name}": currency.display(amount) for name, amount in amounts.items()}


def _line_item(purchase: Purchase, stock: Stock, quantity: int, ids: Ids) -> Json:
    market = purchase.customer.market
    currency = market.currency
    identity = ids.next("line_item")
    price = currency.price(stock.product.price)
    amount = price * quantity
    rate = purchase.customer.city.tax / 100
    tax = currency.round(amount - amount / (1 + rate) if market.tax_included else amount * rate)
    return {
        "id": identity, "quantity": quantity, "price": money(price), "variant_id": stock.variant_id, "metadata": {},
        "single_display_amount": currency.display(price), "display_amount": currency.display(amount),
        "total": money(amount if market.tax_included else amount + tax),
        "subscription_type": "recurring" if purchase.subscription_id else None,
        "is_bundle": False, "parts": [], "gift_cards": [], "variant": variant(stock, currency),
        "adjustments": [_tax(purchase, identity, tax, ids)] if tax else [],
    }  # fmt: skip


def _tax(purchase: Purchase, line_item_id: int, amount: Decimal, ids: Ids) -> Json:
    market, city = purchase.customer.market, purchase.customer.city
    label = f"{market.tax_label} {city.tax}%"
    label = f"{label} (Included in Price)" if market.tax_included else f"{city.abbr} {label}"
    adjustment = _adjustment(purchase, amount, label, ids)
    return adjustment | {
        "source_type": "Spree::TaxRate", "source_id": city.state_id,
        "adjustable_type": "Spree::LineItem", "adjustable_id": line_item_id,
    }  # fmt: skip


def _promotion(purchase: Purchase, code: str, order_id: int, amount: Decimal, ids: Ids) -> Json:
    adjustment = _adjustment(purchase, amount, f"Promotion ({code})", ids)
    return adjustment | {
        "source_type": "Spree::PromotionAction", "source_id": 7, "adjustable_type": "Spree::Order", "adjustable_id": order_id,
    }  # fmt: skip


def _adjustment(purchase: Purchase, amount: Decimal, label: str, ids: Ids) -> Json:
    """The common part of all adjustments; the caller adds who made it and what it adjusts."""
    made_at = format_time(purchase.completed_at - timedelta(milliseconds=2400))
    return {
        "id": ids.next("adjustment"), "amount": money(amount), "label": label,
        "finalized": True, "eligible": True, "promotion_code_id": None, "created_at": made_at, "updated_at": made_at,
        "display_amount": purchase.customer.market.currency.display(amount),
    }  # fmt: skip


def _payment(purchase: Purchase, total: Decimal, ids: Ids) -> Json:
    source_id = ids.next("credit_card")
    cc_type, last_digits = purchase.card
    return {
        "id": ids.next("payment"), "source_type": "Spree::CreditCard", "source_id": source_id, "amount": money(total),
        "display_amount": purchase.customer.market.currency.display(total), "payment_method_id": 2, "state": "completed",
        "avs_response": None, "created_at": format_time(purchase.completed_at - timedelta(milliseconds=1500)),
        "updated_at": format_time(purchase.completed_at - timedelta(milliseconds=95)),
        "payment_method": {"id": 2, "name": "Credit Card"},
        "source": {
            "id": source_id, "month": "8", "year": str(purchase.completed_at.year + 3), "cc_type": cc_type,
            "last_digits": last_digits, "name": purchase.customer.name,
        },
    }  # fmt: skip


def _shipment(purchase: Purchase, number: str, location_id: int, ids: Ids) -> Json:
    """A shipment of everything in the purchase from one location, at the carrier's cheapest rate."""
    picks = [(stock, quantity) for stock, quantity in purchase.picks if stock.location.id == location_id]
    location = picks[0][0].location
    currency = purchase.customer.market.currency
    rates = [_rate(rate, currency, ids, selected=rate is location.carrier.rates[0]) for rate in location.carrier.rates]
    return {
        "id": ids.next("shipment"), "tracking": None, "tracking_url": None, "number": number, "cost": rates[0]["cost"],
        "shipped_at": None, "state": "ready", "order_id": purchase.number, "stock_location_name": location.name,
        "carrier": None, "external_tracking_url": None, "fulfillment_service": {"name": location.service},
        "shipping_rates": rates, "selected_shipping_rate": rates[0],
        "shipping_methods": [_shipping_method(rate, purchase.customer.market.country) for rate in location.carrier.rates],
        "manifest": [
            {"variant_id": stock.variant_id, "sku": stock.sku, "quantity": quantity, "states": {"on_hand": quantity}}
            for stock, quantity in picks
        ],
        "adjustments": [],
    }  # fmt: skip


def _rate(rate: Rate, currency: Currency, ids: Ids, *, selected: bool) -> Json:
    cost = currency.price(rate.cost)
    return {
        "id": ids.next("shipping_rate"), "name": rate.name, "cost": money(cost), "selected": selected,
        "shipping_method_id": rate.id, "shipping_method_code": rate.code, "display_cost": currency.display(cost),
    }  # fmt: skip


def _shipping_method(rate: Rate, country: Country) -> Json:
    return {
        "id": rate.id, "code": rate.code, "name": rate.name,
        "zones": [{"id": 1, "name": country.iso, "description": country.name}],
        "shipping_categories": [{"id": 1, "name": "Default"}],
    }  # fmt: skip
