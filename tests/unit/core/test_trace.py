"""The trace context: what is accepted, and what happens to hostile headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.trace import TraceContext, exemplar, read_trace, trace_context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_traceparent_is_kept_unchanged() -> None:
    found = read_trace([("other", b"x"), ("traceparent", PARENT.encode()), ("tracestate", b"rojo=1,congo=t61rcWkgMzE")])

    assert found == TraceContext(PARENT, "rojo=1,congo=t61rcWkgMzE")
    assert (found.trace_id, found.is_sampled) == (TRACE, True)
    assert found.headers() == {"traceparent": PARENT, "tracestate": "rojo=1,congo=t61rcWkgMzE"}


def test_without_a_tracestate_none_is_sent() -> None:
    found = read_trace([("traceparent", PARENT.encode())])

    assert found is not None
    assert found.headers() == {"traceparent": PARENT}


@pytest.mark.parametrize(
    "headers", [[], [("tracestate", b"rojo=1")], [("Traceparent", PARENT.encode())], [("traceparent", None)]]
)
def test_without_a_traceparent_there_is_no_context(headers: list[tuple[str, bytes | None]]) -> None:
    assert read_trace(headers) is None


def test_the_last_of_several_headers_counts() -> None:
    other = PARENT.replace(SPAN, "1" * 16)

    found = read_trace([("traceparent", PARENT.encode()), ("traceparent", other.encode())])

    assert found == TraceContext(other)


HOSTILE = {
    "empty": b"",
    "too short": PARENT[:-1].encode(),
    "too long": PARENT.encode() + b"0",
    "more parts than version 00 has": PARENT.encode() + b"-extra",
    "upper case": PARENT.upper().encode(),
    "no trace": f"00-{'0' * 32}-{SPAN}-01".encode(),
    "no span": f"00-{TRACE}-{'0' * 16}-01".encode(),
    "version ff": b"ff" + PARENT.encode()[2:],
    "no hexadecimal digit": PARENT.replace("4b", "4g").encode(),
    "not UTF-8": b"\xff\xfe" + PARENT.encode()[2:],
    "other digits": PARENT.replace("0", "\u0660").encode(),
    "a header more": PARENT.encode() + b"\r\nauthorization: Bearer x",
    "a line break at its end": PARENT.encode() + b"\n",
    "null": b"\0" * 55,
    "huge": PARENT.encode() + b"-" + b"0" * 10_000_000,
    "huge, of a later version": b"01" + PARENT.encode()[2:] + b"-" + b"x" * 10_000,
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_an_invalid_traceparent_is_dropped(value: bytes) -> None:
    assert read_trace([("traceparent", value)]) is None


@pytest.mark.parametrize("rest", ["", "-", "-what.a-later=version/adds"])
def test_the_known_part_of_a_later_version_is_forwarded(rest: str) -> None:
    assert trace_context(f"cc-{TRACE}-{SPAN}-ff{rest}") == TraceContext(PARENT)


STATES = {
    "a line break": "rojo=1\r\nx: y",
    "no value": "rojo",
    "an empty value": "rojo=",
    "upper case in a key": "Rojo=1",
    "a key twice": "rojo=1,rojo=2",
    "33 members": ",".join(f"k{i}=1" for i in range(33)),
    "too long": "rojo=" + "x" * 250 + ",congo=" + "x" * 250 + ",c=1",
    "another sign of equality": "rojo=a=b",
    "not ASCII": "rojo=größe",
    "nothing but commas": ",,",
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_an_invalid_tracestate_is_dropped_and_the_trace_continues(state: str) -> None:
    assert read_trace([("traceparent", PARENT.encode()), ("tracestate", state.encode())]) == TraceContext(PARENT)


@pytest.mark.parametrize("state", ["rojo=1", "fw529a3039@dt=FfkEJQ, rojo=00f0,,congo=t61 r", "a=" + "x" * 256])
def test_a_tracestate_is_forwarded(state: str) -> None:
    assert trace_context(PARENT, state) == TraceContext(PARENT, state)


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_no_header_can_be_injected(parent: bytes, state: bytes) -> None:
    for headers in ([("traceparent", parent)], [("traceparent", PARENT.encode()), ("tracestate", state)]):
        found = read_trace(headers)
        if found is not None:
            assert all(
                (value.isascii() and value.isprintable()) or value == found.tracestate for value in found.headers().values()
            )
            assert not {"\r", "\n", "\0"} & set("".join(found.headers().values()))


def test_an_exemplar_refers_to_a_recorded_trace() -> None:
    assert exemplar(TraceContext(PARENT)) == {"trace_id": TRACE}
    assert exemplar(TraceContext(PARENT[:-1] + "0")) is None
    assert exemplar(None) is None
