from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline.devtools.catalog import EUR, JPY, PLN, USD
from pipeline.devtools.checkout import money
from schemas.event import EventType
from schemas.event_codec import decode_event, webhook_body
from schemas.objects import Order, Shipment, StockItem
from tests.unit.devtools.parsed_events import ParsedEvent, named, parsed_events


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ORDER_KEYS = words(
    """id number item_total total ship_total state adjustment_total user_id created_at updated_at completed_at payment_total
    shipment_state payment_state email special_instructions channel included_tax_total additional_tax_total
    display_included_tax_total display_additional_tax_total tax_total currency covered_by_store_credit
    display_total_applicable_store_credit order_total_after_store_credit display_order_total_after_store_credit
    total_applicable_store_credit display_total_available_store_credit display_store_credit_remaining_after_capture
    canceler_id metadata locale tag_list gift_note display_item_total total_quantity display_total display_ship_total
    display_tax_total token checkout_steps bill_address ship_address line_items payments shipments adjustments permissions
    credit_cards"""
)
LINE_ITEM_KEYS = words(
    """id quantity price variant_id metadata single_display_amount display_amount total subscription_type is_bundle parts
    gift_cards variant adjustments"""
)
VARIANT_KEYS = words(
    """id name sku weight height width depth is_master slug description track_inventory cost_price price display_price
    options_text in_stock is_backorderable is_destroyed total_on_hand metadata option_values images"""
)
ADDRESS_KEYS = words(
    """id name address1 address2 city zipcode phone company alternative_phone country_id country_iso state_id state_name
    state_text country state"""
)
SHIPMENT_KEYS = words(
    """id tracking tracking_url number cost shipped_at state order_id stock_location_name carrier external_tracking_url
    fulfillment_service shipping_rates selected_shipping_rate shipping_methods manifest adjustments"""
)
STOCK_ITEM_KEYS = words("id count_on_hand backorderable stock_location_id variant_id variant")


@pytest.fixture(scope="module")
def events() -> list[ParsedEvent]:
    return parsed_events(seed=7, count=3000)


def test_payloads_have_every_field(events: list[ParsedEvent]) -> None:
    for parsed in named(events, EventType.ORDER_COMPLETED, EventType.ORDER_CANCELLED):
        assert parsed.data.keys() == ORDER_KEYS
        assert parsed.data["token"]
        assert parsed.data["bill_address"].keys() == parsed.data["ship_address"].keys() == ADDRESS_KEYS
        for item in parsed.data["line_items"]:
            assert item.keys() == LINE_ITEM_KEYS
            assert item["variant"].keys() == VARIANT_KEYS
        for shipment in parsed.data["shipments"]:
            assert shipment.keys() == SHIPMENT_KEYS
    for parsed in named(events, EventType.SHIPMENT_UPDATED, EventType.SHIPMENT_SHIPPED):
        assert parsed.data.keys() == SHIPMENT_KEYS
    for parsed in named(events, EventType.SHIPMENT_DELIVERY_STATUS_UPDATED):
        assert parsed.data.keys() == SHIPMENT_KEYS | {"delivery_status", "tracking_detail"}
    for parsed in named(events, EventType.STOCK_ITEM_BACK_IN_STOCK, EventType.STOCK_ITEM_OUT_OF_STOCK):
        assert parsed.data.keys() == STOCK_ITEM_KEYS
        assert parsed.data["variant"].keys() == VARIANT_KEYS


def test_documented_fields_have_the_documented_types(events: list[ParsedEvent]) -> None:
    kinds = {"string": str, "integer": int, "boolean": bool, "object": dict, "array": list, "null": type(None)}
    models: dict[str, type[BaseModel]] = {"orders": Order, "shipments": Shipment, "stock_items": StockItem}
    properties = {kind: model.model_json_schema()["properties"] for kind, model in models.items()}
    for parsed in events[:1000]:
        for name, schema in properties[parsed.event.topic_kind].items():
            types = schema.get("type", [])
            allowed = tuple(kinds[kind] for kind in ([types] if isinstance(types, str) else types))
            if name in parsed.data and allowed:
                assert isinstance(parsed.data[name], allowed), name


def test_guest_token_does_not_reach_the_webhook_body(events: list[ParsedEvent]) -> None:
    for parsed in named(events, EventType.ORDER_COMPLETED)[:50]:
        body = webhook_body(decode_event(parsed.event.value, max_bytes=64 * 1024))

        assert parsed.data["token"].encode() not in body
        assert json.loads(body)["data"] == {name: value for name, value in parsed.data.items() if name != "token"}


def test_bodies_have_realistic_sizes(events: list[ParsedEvent]) -> None:
    sizes = sorted(len(parsed.event.value) for parsed in events)
    order_sizes = sorted(len(parsed.event.value) for parsed in named(events, EventType.ORDER_COMPLETED))

    assert sizes[0] > 1_200
    assert sizes[-1] < 13_000
    assert sizes[len(sizes) * 9 // 10] < 6_000
    assert 4_000 < order_sizes[len(order_sizes) // 2] < 6_000


def test_non_ascii_text_is_written_as_utf_8(events: list[ParsedEvent]) -> None:
    everything = b"".join(parsed.event.value for parsed in events).decode()

    for text in ("Günther", "Łódź", "São Paulo", "東京", "花子"):
        assert text in everything


def amounts(objects: Sequence[dict[str, Any]], name: str) -> Decimal:
    return sum((Decimal(item[name]) for item in objects), Decimal(0))


def test_totals_add_up(events: list[ParsedEvent]) -> None:
    promotions = 0
    for parsed in named(events, EventType.ORDER_COMPLETED, EventType.ORDER_CANCELLED):
        order = parsed.data
        totals = {name: Decimal(order[name]) for name in ORDER_KEYS if name.endswith("_total") and "display" not in name}
        total = Decimal(order["total"])
        items = order["line_items"]
        taxes = amounts([adjustment for item in items for adjustment in item["adjustments"]], "amount")

        assert totals["item_total"] == sum((Decimal(item["price"]) * item["quantity"] for item in items), Decimal(0))
        assert amounts(items, "total") == totals["item_total"] + totals["additional_tax_total"]
        assert totals["tax_total"] == totals["included_tax_total"] + totals["additional_tax_total"] == taxes
        assert totals["ship_total"] == amounts(order["shipments"], "cost")
        assert totals["adjustment_total"] == totals["additional_tax_total"] + amounts(order["adjustments"], "amount")
        assert total == totals["item_total"] + totals["ship_total"] + totals["adjustment_total"]
        assert total > 0
        assert amounts(order["payments"], "amount") == total == Decimal(order["order_total_after_store_credit"])
        assert order["total_quantity"] == sum(item["quantity"] for item in items)
        assert totals["payment_total"] == (0 if order["state"] == "canceled" else total)
        promotions += len(order["adjustments"])
    assert promotions


def test_money_is_formatted_as_in_the_api() -> None:
    assert [money(Decimal(text)) for text in ("60.25", "48.00", "0", "7.50", "1200", "-5.00")] == [
        *("60.25", "48.0", "0.0", "7.5", "1200.0", "-5.0"),
    ]
    assert USD.display(Decimal("1204.5")) == "$1,204.50"
    assert USD.display(Decimal(-5)) == "-$5.00"
    assert PLN.display(Decimal(48)) == "48.00 zł"
    assert JPY.display(JPY.price(Decimal("17.50"))) == "¥2,625"
    assert EUR.price(Decimal("17.50")) == Decimal("16.63")


def test_times_are_consistent(events: list[ParsedEvent]) -> None:
    for parsed in named(events, EventType.ORDER_COMPLETED, EventType.ORDER_CANCELLED):
        order = parsed.data
        adjusted = [adjustment["created_at"] for item in order["line_items"] for adjustment in item["adjustments"]]
        paid = [payment["created_at"] for payment in order["payments"]]
        assert order["created_at"] < min([*adjusted, *paid]) < order["completed_at"] <= order["updated_at"]
        assert order["updated_at"] == parsed.envelope["occurred_at"]
