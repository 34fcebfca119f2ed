"""What the HTTP API accepts as an endpoint: every error is a sentence, and no error contains a token."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.event import EventType
from schemas.http.endpoints import EndpointInput, in_order


def take(**fields: Any) -> EndpointInput:
    return EndpointInput.model_validate(fields)


def sentences(**fields: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        take(**fields)
    return [finding["msg"].removeprefix("Value error, ") for finding in caught.value.errors()]


def test_given_fields_are_kept() -> None:
    endpoint = take(
        target_url="https://hooks.example.com",
        events=["shipment_shipped", "order_completed", "shipment_shipped"],
        token="t0ken",
        filters={"channel": "spree", "line_items.variant.sku": ["A", None, True, 1, 2.5]},
        active=False,
        description="ERP\nsecond line",
    )

    assert endpoint.events == (EventType.ORDER_COMPLETED, EventType.SHIPMENT_SHIPPED)
    assert endpoint.filters == ('data.channel == "spree"', 'data.line_items.variant.sku in ["A", null, true, 1, 2.5]')
    assert endpoint.token is not None
    assert endpoint.token.get_secret_value() == "t0ken"
    assert "t0ken" not in repr(endpoint)
    assert "t0ken" not in endpoint.model_dump_json()


def test_omitted_fields_are_known() -> None:
    assert take(active=True).model_fields_set == {"active"}
    assert take(token=None, filters=None, description=None) == take(token=None, filters={}, description="")
    assert take(colour="red").model_extra == {"colour": "red"}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"target_url": ""}, "target_url must be a URL"),
        ({"target_url": 5}, "target_url must be a URL"),
        ({"target_url": None}, "target_url must be a URL"),
        ({"events": []}, "events must be a list of one or more event types: order_completed, "),
        ({"events": "order_completed"}, "events must be a list"),
        ({"events": None}, "events must be a list"),
        ({"events": [["order_completed"]]}, "events must be a list"),
        (
            {"events": ["order_completed", "order_paid"]},
            "events has unknown event types: 'order_paid'. Known types: order_completed, ",
        ),
        ({"events": list("abcdef")}, "events has unknown event types: 'a', 'b', 'c', 'd', 'e' and more."),
        ({"token": ""}, "token must be 1 to 1024 visible ASCII characters without spaces, or null to remove it."),
        ({"token": "two words"}, "token must be"),
        ({"token": "line\nbreak"}, "token must be"),
        ({"token": "line-break\n"}, "token must be"),
        ({"token": "é"}, "token must be"),
        ({"token": "x" * 1025}, "token must be"),
        ({"token": ["x"]}, "token must be"),
        ({"filters": "data.a == 1"}, "filters must be a list of expressions"),
        ({"filters": ["data.a == 1"] * 21}, "filters must be a list of expressions"),
        ({"filters": ["data.a == 1", 7]}, "filters must be a list of expressions"),
        ({"filters": [" "]}, "filters must be a list of expressions"),
        ({"filters": ["data.a == 1 //" + "x" * 2000]}, "filters must be a list of expressions"),
        ({"filters": {str(number): "x" for number in range(51)}}, "filters must be expressions, or an object of paths"),
        ({"filters": {"": "x"}}, "filters must be expressions, or an object of paths"),
        ({"filters": {"a..b": "x"}}, "filters must be expressions, or an object of paths"),
        ({"filters": {"a" * 256: "x"}}, "filters must be expressions, or an object of paths"),
        ({"filters": {"a": []}}, "filters must give 'a' a string, a number, true, false or null"),
        ({"filters": {"a": {}}}, "filters must give 'a' a string"),
        ({"filters": {"a": [["x"]]}}, "filters must give 'a' a string"),
        ({"filters": {"a": ["x"] * 101}}, "filters must give 'a' a string"),
        ({"filters": {"a": "x" * 1001}}, "filters must give 'a' texts of at most 1000 characters."),
        ({"active": 1}, "active must be true or false."),
        ({"active": None}, "active must be true or false."),
        ({"description": 5}, "description must be text of at most 1000 characters"),
        ({"description": "x" * 1001}, "description must be text"),
        ({"description": "\x1b[31m"}, "description must be text"),
    ],
)
def test_errors_are_sentences_that_say_what_to_do(fields: dict[str, Any], sentence: str) -> None:
    found = sentences(**fields)

    assert len(found) == 1
    assert found[0].startswith(sentence)
    assert found[0].endswith(".")


def test_no_error_contains_the_token() -> None:
    with pytest.raises(ValidationError) as caught:
        take(token="t0ken with spaces", active="x")

    assert "t0ken" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_filter_value_that_json_cannot_represent_is_refused(value: float) -> None:
    assert sentences(filters={"total_quantity": value})


def test_event_types_are_deduplicated_and_sorted() -> None:
    assert in_order(["from_the_future", "shipment_shipped", "order_completed", "shipment_shipped"]) == (
        "order_completed",
        "shipment_shipped",
        "from_the_future",
    )
