"""The JSON Schema by which producers check their events: what it consists of, and that it agrees with the decoder.

The checker below knows only the keywords that the schema uses; a test fails if another one appears.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from schemas.codec import InvalidRecordError
from schemas.event import EventType
from schemas.event_codec import decode_event
from schemas.published_event import json_schema
from tests.unit.sample_events import event_of

SCHEMA = json_schema()
# JSON Schema 2020-12, core and validation; "discriminator" is OpenAPI's, and validators ignore it.
ANNOTATIONS = {"$schema", "$defs", "title", "description", "default", "discriminator"}
ASSERTIONS = {
    "$ref",
    "anyOf",
    "oneOf",
    "type",
    "enum",
    "properties",
    "required",
    "items",
    "pattern",
    "format",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
}
TYPES: dict[str, Any] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


def resolve(reference: str) -> dict[str, Any]:
    assert reference.startswith("#/$defs/")
    found: dict[str, Any] = SCHEMA["$defs"][reference.removeprefix("#/$defs/")]
    return found


def subschemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    nested = [
        *schema.get("$defs", {}).values(),
        *schema.get("properties", {}).values(),
        *schema.get("anyOf", ()),
        *schema.get("oneOf", ()),
    ]
    for part in [*nested, *([schema["items"]] if "items" in schema else [])]:
        yield from subschemas(part)


def accepts(schema: dict[str, Any], value: Any) -> bool:
    return all(_holds(keyword, schema[keyword], value) for keyword in schema if keyword in ASSERTIONS)


def _holds(keyword: str, rule: Any, value: Any) -> bool:
    match keyword:
        case "$ref":
            return accepts(resolve(rule), value)
        case "anyOf":
            return any(accepts(part, value) for part in rule)
        case "oneOf":
            return sum(accepts(part, value) for part in rule) == 1
        case "type":
            return any(TYPES[name](value) for name in ([rule] if isinstance(rule, str) else rule))
        case "enum":
            return value in rule
        case "minimum":
            return not isinstance(value, int | float) or value >= rule
        case "maximum":
            return not isinstance(value, int | float) or value <= rule
    if isinstance(value, dict):
        return _holds_for_object(keyword, rule, value)
    if isinstance(value, str):
        return _holds_for_text(keyword, rule, value)
    return keyword != "items" or not isinstance(value, list) or all(accepts(rule, part) for part in value)


def _holds_for_object(keyword: str, rule: Any, value: dict[str, Any]) -> bool:
    if keyword == "required":
        return all(name in value for name in rule)
    return keyword != "properties" or all(accepts(part, value[name]) for name, part in rule.items() if name in value)


def _holds_for_text(keyword: str, rule: Any, value: str) -> bool:
    match keyword:
        case "pattern":
            return re.search(rule, value) is not None
        case "minLength":
            return len(value) >= int(rule)
        case "maxLength":
            return len(value) <= int(rule)
        case "format":
            assert rule == "date-time"
            return datetime.fromisoformat(value).tzinfo is not None
    return True


def test_it_is_a_2020_12_schema_of_known_keywords() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    for schema in subschemas(SCHEMA):
        assert set(schema) <= ANNOTATIONS | ASSERTIONS, sorted(set(schema) - ANNOTATIONS - ASSERTIONS)
        assert schema.get("format", "date-time") == "date-time"
        if "type" in schema:
            assert set([schema["type"]] if isinstance(schema["type"], str) else schema["type"]) <= set(TYPES)
        if "pattern" in schema:
            re.compile(schema["pattern"])
        if "$ref" in schema:
            assert resolve(schema["$ref"])
        assert set(schema.get("required", ())) <= set(schema.get("properties", {}))


def test_nothing_forbids_unknown_members() -> None:
    assert all("additionalProperties" not in schema for schema in subschemas(SCHEMA))


def test_each_event_type_is_in_one_branch() -> None:
    names = [name for branch in SCHEMA["oneOf"] for name in resolve(branch["$ref"])["properties"]["event_name"]["enum"]]

    assert sorted(names) == sorted(EventType)


@pytest.mark.parametrize("event_type", EventType)
def test_it_accepts_the_samples(event_type: EventType) -> None:
    assert accepts(SCHEMA, json.loads(event_of(event_type)))
    assert accepts(
        SCHEMA, json.loads(event_of(event_type, more=',"schema_version":1,"references":{"subscription_id":null},"new":{}'))
    )


@pytest.mark.parametrize("event_type", EventType)
def test_documented_fields_may_be_null_or_missing(event_type: EventType) -> None:
    sample = json.loads(event_of(event_type))
    needed = "id" if event_type.value.startswith("stock") else "number"
    nulls = {name: value if name == needed else None for name, value in sample["data"].items()}

    assert accepts(SCHEMA, sample | {"data": nulls})
    assert accepts(SCHEMA, sample | {"data": {needed: sample["data"][needed]}})
    assert decode_event(json.dumps(sample | {"data": nulls}).encode(), max_bytes=10_000).meta.id == "evt_1"


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": "a.b"},
        {"id": "a b"},
        {"id": "e" * 129},
        {"id": 5},
        {"event_name": "order_paid"},
        {"event_name": "shipment_shipped", "data": {"id": 5}},
        {"event_name": None},
        {"occurred_at": 5},
        {"data": None},
        {"data": []},
        {"data": {}},
        {"data": {"number": ""}},
        {"data": {"number": "R" * 256}},
        {"schema_version": 0},
        {"schema_version": "1"},
        {"references": None},
        {"references": {"subscription_id": 5}},
    ],
)
def test_the_decoder_refuses_what_the_schema_refuses(change: dict[str, Any]) -> None:
    value = json.loads(event_of(EventType.ORDER_COMPLETED)) | change

    assert not accepts(SCHEMA, value)
    with pytest.raises(InvalidRecordError):
        decode_event(json.dumps(value).encode(), max_bytes=100_000)


@pytest.mark.parametrize("missing", ["id", "event_name", "occurred_at", "data"])
def test_schema_and_decoder_require_the_same_members(missing: str) -> None:
    value = {name: part for name, part in json.loads(event_of(EventType.ORDER_COMPLETED)).items() if name != missing}

    assert not accepts(SCHEMA, value)
    with pytest.raises(InvalidRecordError):
        decode_event(json.dumps(value).encode(), max_bytes=100_000)


@pytest.mark.parametrize(
    "data",
    [
        {"total": 12.5},
        {"total": "12,50"},
        {"completed_at": 5},
        {"line_items": {}},
        {"tag_list": [1]},
        {"covered_by_store_credit": "no"},
    ],
)
def test_it_is_stricter_than_the_decoder_about_the_payload(data: dict[str, Any]) -> None:
    """It tells producers what is documented; events are delivered even if an OMS sends something else."""
    value = json.loads(event_of(EventType.ORDER_COMPLETED))
    value["data"] |= data

    assert not accepts(SCHEMA, value)
    assert decode_event(json.dumps(value).encode(), max_bytes=100_000).meta.id == "evt_1"


def test_it_refuses_a_newer_version_as_the_decoder_does() -> None:
    assert not accepts(SCHEMA, json.loads(event_of(EventType.ORDER_COMPLETED)) | {"schema_version": 2})


DOCUMENTED = {
    "Order": (
        "id user_id canceler_id total_quantity number state payment_state shipment_state email currency channel locale "
        "special_instructions item_total total ship_total adjustment_total payment_total included_tax_total additional_tax_total "
        "tax_total order_total_after_store_credit total_applicable_store_credit covered_by_store_credit created_at updated_at "
        "completed_at bill_address ship_address metadata gift_note permissions line_items payments shipments adjustments "
        "payment_methods credit_cards checkout_steps tag_list"
    ),
    "Shipment": (
        "id number state tracking tracking_url stock_location_name carrier order_id cost shipped_at selected_shipping_rate "
        "shipping_rates shipping_methods manifest adjustments fulfillment_service delivery_status tracking_detail"
    ),
    "StockItem": "id count_on_hand stock_location_id variant_id backorderable variant",
    "LineItem": (
        "id quantity variant_id price total single_display_amount display_amount variant adjustments subscription_type is_bundle "
        "parts gift_cards metadata"
    ),
    "BundlePart": "sku quantity",
    "Address": (
        "id name address1 address2 city zipcode phone company country_id country_iso state_id state_name state_text country state"
    ),
    "Variant": (
        "id name sku weight height width depth is_master slug description price display_price options_text in_stock "
        "is_backorderable total_on_hand option_values images"
    ),
    "Payment": "id source_type amount display_amount payment_method_id state avs_response payment_method source",
    "PaymentSource": "month year cc_type last_digits name",
}
# Each of these has its text for people beside it.
DISPLAYED = (
    "item_total total ship_total adjustment_total payment_total included_tax_total additional_tax_total tax_total "
    "order_total_after_store_credit total_applicable_store_credit"
)
DOCUMENTED["Order"] += "".join(f" display_{name}" for name in DISPLAYED.split())


@pytest.mark.parametrize("name", DOCUMENTED)
def test_it_contains_the_documented_fields_of_the_payload(name: str) -> None:
    assert set(DOCUMENTED[name].split()) == set(SCHEMA["$defs"][name]["properties"])


def test_it_does_not_require_the_guest_token() -> None:
    assert "token" not in SCHEMA["$defs"]["Order"]["properties"]


def undocumented(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """Return the members of a value that its schema does not name, where it names any."""
    shapes = [resolve(one["$ref"]) if "$ref" in one else one for one in (schema, *schema.get("anyOf", ()))]
    properties = {name: part for shape in shapes for name, part in shape.get("properties", {}).items()}
    if isinstance(value, dict) and properties:
        for name, part in value.items():
            yield from undocumented(properties[name], part, f"{path}.{name}") if name in properties else [f"{path}.{name}"]
    for element in value if isinstance(value, list) else ():
        for shape in shapes:
            yield from undocumented(shape.get("items", {}), element, path)


@pytest.mark.parametrize("event_type", EventType)
def test_every_member_of_the_samples_is_documented(event_type: EventType) -> None:
    branch = next(
        resolve(one["$ref"]) for one in SCHEMA["oneOf"] if event_type in resolve(one["$ref"])["properties"]["event_name"]["enum"]
    )

    found = set(undocumented(branch, json.loads(event_of(event_type)), "event"))

    # The guest token is a credential: it is removed, and documented nowhere.
    assert found - {"event.data.token"} == set()
