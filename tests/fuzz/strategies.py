"""Hostile input with the form of its target: valid records with small changes, and text that is not JSON at all."""

from __future__ import annotations

import json
import os
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pipeline.core.search import ATTRIBUTES, Predicate
from tests.unit.sample_events import GOLDEN, SAMPLES

_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))

FUZZ: Final = settings(
    # Always the same few examples, unless FUZZ_EXAMPLES asks for more and new ones.
    max_examples=_EXAMPLES or 200,
    derandomize=not _EXAMPLES,
    database=None,
    # No deadline: the machine may be busy. test_giants.py measures expensive input in CPU time.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Literal(str):
    """JSON text to insert into a document as it is, which json.dumps would not write."""

    __slots__ = ()


Pairs = list[tuple[Any, Any]]
"""An object as its members, so that a name may be there twice."""


def deep(levels: int, opening: str = "[", closing: str = "]") -> Literal:
    """Return deep nesting."""
    return Literal(opening * levels + "0" + closing * levels)


_NO_JSON: Final = [
    "NaN",
    "Infinity",
    "-Infinity",
    "01",
    "+1",
    "1.",
    ".5",
    "0x1",
    "1_000",
    "True",
    "nul",
    '"\\x"',
    '"unfinished',
    "'x'",
    "{",
    "]",
    "{,}",
    "[1,]",
    "/**/1",
]
_NUMBERS: Final = ["1e999", "-1e999", "1e-999", "-0", "-0.0", "1.0", "2.0", "1e2"] + [
    str(2**n + one) for n in (53, 63, 64) for one in (-1, 0, 1)
]
_DIGITS: Final = ["9" * 19, "9" * 400, "9" * 4300, "9" * 4301, "-" + "9" * 5000, "0." + "1" * 5000, "1" + "0" * 400 + ".5"]
_STRINGS: Final = ['"\\ud800"', '"\\udfff\\ud800"', '"\\ud800\\u0041"', '"\\u0000"', '"\t"', '"\n"', ""]
_OBJECTS: Final = ['{"a":1,"a":2}', '{"":{"":{"":0}}}', "[[],[[]],{}]"]
_NESTED: Final = [*map(deep, (50, 150, 199, 201, 1100)), *(deep(n, '{"a":', "}") for n in (50, 150, 199, 1100))]
ODD_LITERALS: Final = st.sampled_from([*map(Literal, _NO_JSON + _NUMBERS + _DIGITS + _STRINGS + _OBJECTS), *_NESTED])
TEXTS: Final = st.text(max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "\x00",
        "\u2028",
        "é",
        "😀",
        "R1",
        "token",
        "x" * 255,
        "x" * 256,
        "x" * 5000,
        "a.b",
        "1",
        "null",
        "{}",
        "\\",
        '"',
        "%s",
        "\ufeff",
    ]
)
NUMBERS: Final = st.integers() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS: Final = st.none() | st.booleans() | NUMBERS | TEXTS | ODD_LITERALS
VALUES: Final = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=8
)
_MEMBERS: Final = [
    "id",
    "event",
    "event_name",
    "data",
    "number",
    "token",
    "to\\u006ben",
    "schema_version",
    "references",
    "shipments",
    "line_items",
    "variant",
    "sku",
    "manifest",
    "order_id",
    "created_at",
    "attempt",
    "filters",
    "endpoint",
    "target_url",
    "events",
    "secrets",
]
NAMES: Final = st.sampled_from(list(map(Literal, _MEMBERS))) | TEXTS


def render(value: Any) -> str:
    """Return a document as JSON text, including its invalid parts."""
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, dict):
        value = list(value.items())
    elif isinstance(value, list) and not _is_pairs(value):
        return "[" + ",".join(map(render, value)) + "]"
    if isinstance(value, list):
        return "{" + ",".join(f"{_name(name)}:{render(member)}" for name, member in value) + "}"
    return json.dumps(value, ensure_ascii=False)


def _name(name: Any) -> str:
    return f'"{name}"' if isinstance(name, Literal) else json.dumps(name, ensure_ascii=False)


def _is_pairs(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(member, tuple) for member in value)


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """Draw a document with up to four changes anywhere: members and elements replaced, removed, doubled or added."""
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3, 4]))):
        document = _change(draw, document)
    return document


def _change(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, Literal) or not isinstance(value, list) or not value:
        return draw(VALUES)
    at = draw(st.integers(0, len(value) - 1))
    pairs = _is_pairs(value)
    what = draw(st.sampled_from(["inside"] * 5 + ["replace", "remove", "double", "add", "add"]))
    old = value[at][1] if pairs else value[at]
    match what:
        case "inside" | "replace":
            new = _change(draw, old) if what == "inside" else draw(VALUES)
            return [*value[:at], (value[at][0], new) if pairs else new, *value[at + 1 :]]
        case "remove":
            return value[:at] + value[at + 1 :] or {}
        case "double":
            return [*value[: at + 1], *value[at:]]
        case _:
            new = draw(VALUES)
            return [*value[:at], (draw(NAMES), new) if pairs else new, *value[at:]]


@st.composite
def damaged(draw: st.DrawFn, value: bytes) -> bytes:
    """Draw bytes with a few replaced, cut out or added: invalid UTF-8, half documents, two documents."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3]))):
        at = draw(st.integers(0, len(value)))
        cut = draw(st.sampled_from([0, 1, 1, 2, 30, 10_000]))
        odd = [
            b"\xff",
            b"\xed\xa0\x80",
            b"\xc0\xaf",
            b"\xef\xbb\xbf",
            b"\x00",
            b"\\",
            b'"',
            b"{",
            b"}",
            b",",
            b" \n",
            b"\\ud800",
            value,
        ]
        value = value[:at] + draw(st.sampled_from([b"", *odd]) | st.binary(max_size=4)) + value[at + cut :]
    return value


def bytes_of(documents: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Return changed documents as bytes, some of them damaged."""
    texts = documents.flatmap(changed).map(render)
    return texts.map(lambda text: text.encode("utf-8", "surrogatepass")).flatmap(damaged)


def golden(name: str) -> Any:
    """Return a golden record as a document."""
    return json.loads((GOLDEN / f"{name}.v1.json").read_bytes())


@st.composite
def _event(draw: st.DrawFn) -> Any:
    sample = draw(st.sampled_from(sorted(SAMPLES.glob("*.json"))))
    document = {
        "id": draw(st.sampled_from(["evt_1"] * 6 + ["a" * 128, "a.b", "é"])),
        "event_name": sample.stem,
        "occurred_at": "2026-03-02T15:04:00.512Z",
        "data": json.loads(sample.read_bytes()),
    }
    if draw(st.booleans()):
        document["references"] = {"subscription_id": "S1", "order_number": "R9"}
    if draw(st.booleans()):
        document["schema_version"] = draw(st.sampled_from([1] * 8 + [2, 0, True, None, "1", Literal("1.0"), Literal("9" * 30)]))
    if draw(st.booleans()):
        document["data"] = dict(list(document["data"].items())[: draw(st.integers(0, 6))]) | {
            "token": "t",
            "number": "R1",
            "id": 7,
        }
    return document


EVENTS: Final = bytes_of(_event())
_ENDPOINT: Final = {
    "target_url": "http://127.0.0.1/hooks",
    "events": ["order_completed", "shipment_shipped"],
    "description": "ERP",
    "active": True,
    "token": "t0ken",
    "filters": {"channel": ["spree", None], "line_items.variant.sku": "A", "total_quantity": [1, 2.5, True]},
}
ENDPOINTS: Final = bytes_of(st.just({"endpoint": _ENDPOINT}))
TARGETS: Final = (st.sampled_from(["http://", "https://", "HTTP://", "ftp://", "//", ""]) | st.just("http://")).flatmap(
    lambda scheme: st.builds(
        lambda host, tail: scheme + host + tail,
        st.sampled_from(
            [
                "127.0.0.1",
                "127.1",
                "0x7f.1",
                "[::1]",
                "[::ffff:127.0.0.1]",
                "[::1%25lo]",
                "[",
                "a@b",
                "xn--a",
                "☃.example",
                "ß.example",
            ]
        )
        | st.sampled_from(
            ["a" * 64 + ".example", "a..b", ".", "", "localhost", "LOCALHOST.", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:٣"]
        )
        | st.text(max_size=12),
        st.sampled_from(["", "/", "/hooks?a=1", "#x", "/%", "/%zz", "/é", "?" + "x" * 3000]) | st.text(max_size=8),
    )
)


def records(name: str) -> st.SearchStrategy[bytes]:
    """Draw one of our records with changes."""
    return bytes_of(st.just(golden(name)))


_ATTRIBUTES = st.sampled_from([*ATTRIBUTES, "event", "nothing", "", "q", "s", "g", "c", "m"])
_SUFFIXES = st.sampled_from([*(str(one) for one in Predicate), "any", "all", "cont_any", "not_eq_all", "matches", ""])
_NAMES = st.builds(lambda attribute, suffix: f"{attribute}_{suffix}", _ATTRIBUTES, _SUFFIXES)
_TWO = st.builds(lambda left, joint, right: f"{left}{joint}{right}", _NAMES, st.sampled_from(["_or_", "_and_"]), _NAMES)
_GROUPS = st.lists(st.sampled_from(["g", "c", "0", "1", "-1", "99999999999", "a", "p", "v", "m", ""]), max_size=6)
KEYS: Final = (
    st.builds(lambda name, tail: f"q[{name}]{tail}", _NAMES | _TWO, st.sampled_from(["", "[]", "[0]", "[[]]", "]"]))
    | st.builds(lambda parts, name: "q" + "".join(f"[{part}]" for part in parts) + f"[{name}]", _GROUPS, _NAMES)
    | st.sampled_from(
        ["q[s]", "q[sorts]", "q[s][]", "q[s][0][name]", "q[m]", "q[g]", "page", "per_page", "after", "strict", "q", "q[", "q]"]
    )
    | TEXTS
)
QUERY_VALUES: Final = (
    TEXTS
    | st.sampled_from(
        ["1", "0", "t", "true", "succeeded", "created_at desc", "id asc", "2026-03-02", "2026-03-02T15:04:00Z", "or"]
    )
    | st.sampled_from(
        ["9999-12-31", "0001-01-01T00:00:00+14:00", "1899-12-31", "2298-12-31", "2026-02-30", "2026-W01-1", "20260302T1504"]
    )
    | st.sampled_from(
        ["9" * 19, "-" + "9" * 19, "9" * 5000, "1e5", "1.5", "NaN", "inf", "٣", "²", "0x10", "--1", "%", "_", "\\", "';--"]
    )
    | st.text(st.characters(codec=None), max_size=6)  # lone surrogates too
    | st.integers().map(str)
)
PAIRS: Final = st.lists(st.tuples(KEYS, QUERY_VALUES), max_size=8)
