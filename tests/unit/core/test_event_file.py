from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.event_file import events_in

EVENT = b'{"id": "evt-1", "data": {"total": 1.50}}'


def places(content: bytes) -> list[tuple[str, bytes]]:
    return [(one.place, one.value) for one in events_in(content)]


@pytest.mark.parametrize("content", [EVENT, b"\n " + EVENT + b"\r\n", json.dumps(json.loads(EVENT), indent=2).encode()])
def test_one_event(content: bytes) -> None:
    assert places(content) == [("", content.strip())]


def test_the_elements_of_a_list_keep_their_bytes() -> None:
    assert places(b"[" + EVENT + b' , {"x":1E2}, 7 ]') == [("element 1", EVENT), ("element 2", b'{"x":1E2}'), ("element 3", b"7")]


def test_one_event_per_line_and_blank_lines_count() -> None:
    assert places(EVENT + b"\r\n\n" + EVENT + b"\n") == [("line 1", EVENT), ("line 3", EVENT)]


def test_a_broken_line_does_not_affect_its_neighbours() -> None:
    assert [place for place, _ in places(EVENT + b'\n{"id":\n' + EVENT)] == ["line 1", "line 2", "line 3"]
    assert [place for place, _ in places(b'{"id":\n' + EVENT + b"\n" + EVENT)] == ["line 1", "line 2", "line 3"]


@pytest.mark.parametrize(
    "content", [b'{\n  "id": "evt-1",\n  "data": {\n    "x":\n}\n', b"[1, 2", b"no json", b"\xff", b"[" * 100_000]
)
def test_broken_input_is_one_event(content: bytes) -> None:
    assert places(content) == [("", content.strip())]


@pytest.mark.parametrize("content", [b"", b" \r\n\t", b"[]"])
def test_empty_input(content: bytes) -> None:
    assert places(content) == []


@given(
    st.binary(max_size=200) | st.lists(st.sampled_from([EVENT, b"{", b"}", b"[", b'{"', b"\n", b"1"]), max_size=20).map(b"".join)
)
def test_any_input_is_accepted(content: bytes) -> None:
    assert all(one.value == one.value.strip() and one.value for one in events_in(content))
