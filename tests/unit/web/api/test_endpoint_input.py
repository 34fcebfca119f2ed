from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.web.api.endpoint_input import parse_endpoint
from pipeline.web.errors import InvalidError
from schemas.configured_events import ConfiguredEventType
from schemas.event import EventType
from schemas.event_types import EventTypes
from schemas.filter_texts import MAX_FILTER_PATHS
from schemas.http.endpoints import MAX_DESCRIPTION, EndpointInput, in_order

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
DOCUMENTS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))
FIELDS = tuple(EndpointInput.model_fields)


def parse(**fields: Any) -> EndpointInput:
    return parse_endpoint(json.dumps({"endpoint": fields}).encode()).given


def ignored(document: dict[str, Any]) -> list[str]:
    return parse_endpoint(json.dumps(document).encode()).ignored


def errors(body: bytes, **options: Any) -> dict[str, list[str]]:
    with pytest.raises(InvalidError) as caught:
        parse_endpoint(body, **options)
    return dict(caught.value.errors)


def errors_of(**fields: Any) -> dict[str, list[str]]:
    return errors(json.dumps({"endpoint": fields}).encode())


def test_every_field_is_read() -> None:
    endpoint = parse(
        target_url="https://203.0.113.9/",
        events=["stock_item_out_of_stock", "order_completed", "order_completed"],
        token="t0ken",
        filters={"channel": "spree", "ship_address.country_iso": ["US", None], "total_quantity": [1, 1.5, True]},
        active=False,
        description="line one\nline two ✓",
    )
    assert endpoint.events == (EventType.ORDER_COMPLETED, EventType.STOCK_ITEM_OUT_OF_STOCK)
    assert endpoint.token is not None
    assert endpoint.token.get_secret_value() == "t0ken"
    assert endpoint.filters == (
        *('data.channel == "spree"', 'data.ship_address.country_iso in ["US", null]', "data.total_quantity in [1, 1.5, true]"),
    )
    assert (endpoint.active, endpoint.description) == (False, "line one\nline two ✓")
    assert "t0ken" not in repr(endpoint)


def test_missing_fields_are_unset() -> None:
    assert parse().model_fields_set == set()
    assert parse(token=None, description=None, filters=None).model_fields_set == {"token", "description", "filters"}
    assert parse(description=None).description == ""
    assert parse(filters=None).filters == ()


def test_unknown_members_are_ignored_and_named() -> None:
    endpoint = parse(secret="x", colour="y", model_extra=1, model_fields_set=[], __class__="z", **{"n" * 80: 1})
    assert endpoint.model_fields_set.isdisjoint(FIELDS)
    fields = {"secret": "x", "colour": "y", "model_extra": 1, "model_fields_set": [], "__class__": "z", "n" * 80: 1}
    assert ignored({"endpoint": fields}) == sorted(name[:50] for name in fields)
    assert len(ignored({"endpoint": {f"f{n}": n for n in range(1000)}})) == 20


def test_members_beside_the_endpoint_are_ignored_and_named() -> None:
    assert ignored({"endpoint": {"colour": "y"}, "active": False, "format": "json"}) == ["active", "colour", "format"]


def test_duplicate_members_are_refused() -> None:
    twice = "It occurs twice in the request body. Remove one of them."
    assert errors(b'{"endpoint": {"target_url": 5}, "endpoint": {}}') == {"endpoint": [twice]}
    assert errors(b'{"endpoint": {"active": true, "active": false}}') == {"active": [twice]}


def test_missing_fields_are_named_together_with_invalid_ones() -> None:
    found = errors(b'{"endpoint": {"active": "yes"}}', required=("target_url", "events"))
    assert found == {
        "target_url": ["target_url is required."],
        "events": ["events is required."],
        "active": ["active must be true or false."],
    }
    assert list(errors(b'{"endpoint": {}}', required=("events",))) == ["events"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"endpoint[target_url]=x",
        b'{"endpoint": {}} x',
        b'{"endpoint": {"active": NaN}}',
        b'{"endpoint": {"description": "\xff"}}',
        b'{"endpoint": {"description": "\\ud800 alone"}}',
        b'{"endpoint": {"filters": {"a": 1e999}}}',
        b'{"endpoint": {"filters": {"a": 1' + b"0" * 5000 + b"}}}",
        b"\xef\xbb\xbf{}",
        '{"endpoint": {}}'.encode("utf-16"),
        b"\0",
    ],
)
def test_invalid_json_is_reported(body: bytes) -> None:
    (sentence,) = errors(body)["body"]
    assert sentence.startswith("The request body is not JSON: ")
    assert '{"endpoint":' in sentence


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b" ", "it is empty"),
        (b"\xef\xbb\xbf{}", "it begins with a byte order mark; save it as UTF-8 without one"),
        (b'{"a": "\xe9"}', "byte 8 is not UTF-8"),
        (b'{"a": [1, 2', "it ends too early"),
        (b'{"a": 1,\n "b": tru}', "line 2, column 7 is not valid JSON"),
        (b"{'a': 1}", "line 1, column 2 is not valid JSON"),
        (b'{"a": NaN}', "a number in it is too large, is NaN or Infinity, or a text has half of a surrogate pair"),
        (b'{"\\ud800": 1}', "a number in it is too large, is NaN or Infinity, or a text has half of a surrogate pair"),
    ],
)
def test_invalid_json_is_explained_in_our_words(body: bytes, why: str) -> None:
    (sentence,) = errors(body)["body"]
    assert sentence.startswith(f"The request body is not JSON: {why}. The fields")


def test_duplicate_names_are_found_in_a_single_pass() -> None:
    """The time is linear in the length, not quadratic: a megabyte of names would block the process for minutes."""
    names = b",".join(b'"%d":0' % number for number in range(90_000))
    assert errors(b'{"endpoint": {' + names + b',"1":0}}') == {"1": ["It occurs twice in the request body. Remove one of them."]}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("actve", "active"),
        ("Active", "active"),
        ("targetUrl", "target_url"),
        ("retry-policy", "retry_policy"),
        ("order", "ordered"),
    ],
)
def test_a_misspelt_field_is_refused(name: str, meant: str) -> None:
    body = json.dumps({"endpoint": {"description": "x", name: False}}).encode()
    assert errors(body) == {name: [f"There is no field {name}; did you mean {meant}?"]}
    both = errors(body, required=("events",))
    assert sorted(both) == sorted([name, "events"]), "reported together with other errors"


@pytest.mark.parametrize("name", ["id", "version", "retry_delays", "events_v2", "secret", "attempts", "colour"])
def test_fields_of_answers_and_of_later_releases_are_ignored_and_named(name: str) -> None:
    body = json.dumps({"endpoint": {name: 1}, "beside": 2}).encode()
    assert parse_endpoint(body).ignored == sorted([name, "beside"])
    with pytest.raises(InvalidError) as refused:
        parse_endpoint(body, is_strict=True)
    assert sorted(refused.value.errors) == sorted([name, "beside"])


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"endpoint":', b'{"endpoint":{"filters":{"a":'])
def test_deeply_nested_documents_are_refused(opening: bytes) -> None:
    depth = 500_000 // len(opening)
    assert errors(opening * depth)["body"] == ["The request body is nested too deeply."]


def test_deeply_nested_values_are_invalid() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    found = errors_of(**dict.fromkeys(FIELDS, deep))
    assert set(found) == set(FIELDS)


@pytest.mark.parametrize("body", [b"1", b"null", b'"endpoint"', b"[]", b"{}", b'{"endpoint": null}', b'{"endpoint": [{}]}'])
def test_the_wrapper_is_required(body: bytes) -> None:
    (sentence,) = errors(body)["endpoint"]
    assert sentence == 'The fields of an endpoint must be wrapped: {"endpoint": {"target_url": "…", "events": ["…"]}}.'


@pytest.mark.parametrize("value", [None, "", 1, True, [], {}, ["https://203.0.113.9/"]])
def test_a_target_url_is_text(value: Any) -> None:
    assert errors_of(target_url=value) == {"target_url": ["target_url must be a URL, such as https://hooks.example.com/orders."]}


@pytest.mark.parametrize("value", [None, [], {}, "order_completed", [1], [None], [["order_completed"]], True])
def test_events_are_a_list_of_names(value: Any) -> None:
    (sentence,) = errors_of(events=value)["events"]
    assert sentence.startswith("events must be a list of one or more event types: order_completed, order_cancelled, ")


def test_unknown_events_are_named_with_the_known_ones() -> None:
    (sentence,) = errors_of(events=["order_completed", "order.completed", "x\0" * 100, *(f"e{n}" for n in range(9))])["events"]
    assert sentence.startswith("events has unknown event types: 'order.completed', 'x\\x00x")
    assert sentence.endswith(f" and more. Known types: {', '.join(EventType)}.")
    assert len(sentence) < 700


@pytest.mark.parametrize("value", ["", " ", "a b", "a\n", "a\0", "naïve", "x" * 1025, 1, True, [], {}])
def test_a_token_is_printable_text_and_never_echoed(value: Any) -> None:
    sentence = "token must be 1 to 1024 visible ASCII characters without spaces, or null to remove it."
    assert errors_of(token=value) == {"token": [sentence]}


@pytest.mark.parametrize("value", ["x", "!~" * 512])
def test_valid_tokens_are_accepted(value: str) -> None:
    token = parse(token=value).token
    assert token is not None
    assert token.get_secret_value() == value


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("channel", "must be a list of expressions"),
        (7, "must be a list of expressions"),
        (["data.x == 1", "data.total >"], "filters: expression 2, column 13: the expression ends too early."),
        ({f"p{n}": 1 for n in range(MAX_FILTER_PATHS + 1)}, "at most 50 of them"),
        ({"": 1}, "'' is not a path"),
        ({"a..b": 1}, "'a..b' is not a path"),
        ({"p" * 256: 1}, "is not a path"),
        ({"a": []}, "must give 'a' a string"),
        ({"a": {}}, "must give 'a' a string"),
        ({"a": [[1]]}, "must give 'a' a string"),
        ({"a": [1, {"b": 2}]}, "must give 'a' a string"),
        ({"a": [1] * 101}, "a list of 1 to 100"),
        ({"a": "x" * 1001}, "texts of at most 1000"),
    ],
)
def test_filters_are_expressions_or_paths_with_scalars(value: Any, part: str) -> None:
    (sentence,) = errors_of(filters=value)["filters"]
    assert part in sentence


@pytest.mark.parametrize("value", [None, 0, 1, "true", [], {}])
def test_active_is_a_boolean(value: Any) -> None:
    assert errors_of(active=value) == {"active": ["active must be true or false."]}


@pytest.mark.parametrize("value", [1, True, [], {}, "x" * (MAX_DESCRIPTION + 1), "\0", "a\x1bb"])
def test_a_description_is_short_text(value: Any) -> None:
    (sentence,) = errors_of(description=value)["description"]
    assert sentence == "description must be text of at most 1000 characters, without control characters."


@given(st.dictionaries(st.sampled_from([*FIELDS, "other"]), DOCUMENTS))
def test_any_input_is_accepted_or_explained(fields: dict[str, Any]) -> None:
    try:
        endpoint = parse(**fields)
    except InvalidError as error:
        found = error.errors
    else:
        assert endpoint.model_fields_set <= set(fields)
        return
    assert set(found) <= {*FIELDS, "body"}
    assert all(sentence.endswith(".") and len(sentence) < 1000 for sentences in found.values() for sentence in sentences)


def test_events_unknown_to_this_release_come_last() -> None:
    assert in_order(["zzz", "shipment_updated", "order_cancelled", "zzz"]) == ("order_cancelled", "shipment_updated", "zzz")


def test_event_types_of_the_deployment_are_known() -> None:
    types = EventTypes([ConfiguredEventType("refund_issued", "oms.refunds", "", {}, {})])
    body = b'{"endpoint": {"target_url": "https://a.example", "events": ["refund_issued", "order_cancelled"]}}'
    assert parse_endpoint(body, types=types).given.events == ("order_cancelled", "refund_issued")
    with pytest.raises(InvalidError) as caught:
        parse_endpoint(body)
    assert caught.value.errors["events"][0].startswith(
        "events has unknown event types: 'refund_issued'. Known types: order_completed, "
    )
