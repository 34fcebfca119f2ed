"""The targets of atheris: a function of bytes for each, and its initial inputs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import structlog

from pipeline.core.search import ATTRIBUTES, Predicate
from schemas.event import EventType
from tests.fuzz.api_case import PATH, attacked, check_endpoint, check_request
from tests.fuzz.properties import RECORDS, check_event, check_finished, check_query, check_record
from tests.unit.sample_events import GOLDEN, event, event_of

Check = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Target:
    """``opened`` provides the function that is called with each input; it fails if the input violates a property."""

    opened: Callable[[], AbstractContextManager[Check]]
    seeds: list[bytes]


@contextmanager
def _event() -> Iterator[Check]:
    yield check_event


@contextmanager
def _record() -> Iterator[Check]:
    names = list(RECORDS)

    def check(data: bytes) -> None:
        if data:
            check_record(names[data[0] % len(names)], data[1:])

    yield check


@contextmanager
def _query() -> Iterator[Check]:
    yield lambda data: check_query(data.decode("utf-8", "surrogateescape"))


@contextmanager
def _offsets() -> Iterator[Check]:
    yield lambda data: check_finished(int.from_bytes(data[:4], "big"), data[4:].decode("utf-8", "replace"))


@contextmanager
def _endpoint() -> Iterator[Check]:
    _log_errors_only()
    with attacked() as api:
        yield lambda body: check_endpoint(api, body)


@contextmanager
def _request() -> Iterator[Check]:
    _log_errors_only()
    with attacked() as api:
        yield lambda data: check_request(api, data)


def _log_errors_only() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def _golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.v1.json").read_bytes().strip()


def _compact(value: bytes) -> bytes:
    # Short inputs are mutated more effectively than pretty-printed ones.
    return json.dumps(json.loads(value), separators=(",", ":"), ensure_ascii=False).encode()


def _body(**fields: object) -> bytes:
    return json.dumps({"endpoint": {"target_url": "http://127.0.0.1/a", "events": ["order_completed"]} | fields}).encode()


_EVENTS: Final = [
    *(_compact(event_of(event_type)) for event_type in EventType),
    *(event_of(event_type, more=',"schema_version":1,"references":{"order_number":"R9"}') for event_type in EventType),
    _golden("event"),
    event('{"number":"R1"}'),
    event('{ "token" : "t" , "number":"R1", "a":{"token":1}, "token":[2] }'),
    event('{"number":"R1","to\\u006ben":1e999}'),
]
_QUERIES: Final = [
    *(
        urlencode([(f"q[{name}_{predicate}]", "1"), ("page", "2")]).encode()
        for name in ATTRIBUTES
        for predicate in list(Predicate)[:2]
    ),
    *(f"q[created_at_{predicate}]=2026-03-02".encode() for predicate in Predicate),
    b"q[order_number_or_sku_cont]=R1&q[s]=created_at+desc&q[m]=or",
    b"q[g][0][c][0][a][0][name]=state&q[g][0][c][0][p]=eq&q[g][0][c][0][v][0][value]=failed&per_page=200",
]
_BODIES: Final = [
    _body(),
    _body(token="t", active=False, description="ERP", filters={"channel": ["spree", None, 1, 2.5, True], "a.b": "x"}),
    _body(target_url="http://[::1]:8080/x?y=%20"),
]

TARGETS: Final[dict[str, Target]] = {
    "event": Target(_event, _EVENTS),
    "record": Target(_record, [bytes([number]) + _golden(name) for number, name in enumerate(RECORDS)]),
    "query": Target(_query, _QUERIES),
    "offsets": Target(_offsets, [b"\x00\x00\x00\x051;3,2,1,7", b"\x00\x00\x00\x001;0,1", b"\xff\xff\xff\xff1;999999999,9"]),
    "endpoint": Target(_endpoint, _BODIES),
    "request": Target(
        _request,
        [
            *(f"{method} {PATH}/1?include_attempts=1".encode() + b"\n" + _body() for method in ("GET", "PUT", "PATCH", "DELETE")),
            *(
                b"GET /api/webhook/attempts" + path + b"?" + query
                for query in _QUERIES[-2:]
                for path in (b"", b"/facets", b"/histogram")
            ),
            b'POST /api/webhook/sql\n{"statement": "SELECT 1"}',
            f"GET {PATH}?q[target_url_cont]=a&q[active_true]=1&page=2&per_page=5&strict=1".encode(),
            f"POST {PATH}".encode() + b"\n" + _body(),
            b"GET /api/webhook/attempts/1",
            b"GET /readyz",
        ],
    ),
}
WORDS: Final = sorted(
    {
        "schema_version",
        "token",
        "to\\\\u006ben",
        "data",
        "references",
        "order_number",
        "subscription_id",
        "line_items",
        "variant",
        "sku",
    }
    | {
        "shipments",
        "manifest",
        "order_id",
        "filters",
        "secrets",
        "expires_at",
        "NaN",
        "Infinity",
        "1e999",
        "null",
        "true",
        "[[[[",
        "q[",
    }
    | {str(event_type) for event_type in EventType}
    | {f"_{predicate}" for predicate in Predicate}
    | set(ATTRIBUTES)
)
"""Parts for mutations besides bytes (libFuzzer's dictionary)."""
