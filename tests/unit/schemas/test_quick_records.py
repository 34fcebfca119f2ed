"""The quick way makes of attempts and dispatches the rows that the models make, and leaves to them what it does not know."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store.rows import Position, Row, attempt_row, event_row
from schemas.attempt import AttemptState, Outcome
from schemas.bundle import MAX_BUNDLE, attempts_to_record, dispatches_to_record, read_attempts, read_dispatches
from schemas.codec import InvalidRecordError, to_json
from schemas.delivery import DISPATCH_HEADER, Trigger
from schemas.quick_records import attempts_quickly, dispatches_quickly
from tests.contract.store_records import START, attempt, dispatch

FULL = json.loads(to_json(attempt(failure="timeout", error="Too late.", next_attempt_at=START, response_truncated=True)))
DISPATCHED = json.loads(to_json(dispatch(body_bytes=0)))


def rows_by_models(value: bytes | None) -> list[Row] | str:
    try:
        return [attempt_row(Position(0, 0), one, index) for index, one in enumerate(read_attempts(value))]
    except InvalidRecordError as error:
        return str(error)


def rows(value: bytes | None) -> list[Row] | str:
    try:
        return [attempt_row(Position(0, 0), one, index) for index, one in enumerate(attempts_to_record(value))]
    except InvalidRecordError as error:
        return str(error)


def event_rows_by_models(header: bytes) -> list[Row] | str:
    try:
        return [event_row(Position(0, 0), one, body) for one, body in read_dispatches([(DISPATCH_HEADER, header)], b"")]
    except InvalidRecordError as error:
        return str(error)


def event_rows(header: bytes) -> list[Row] | str:
    try:
        return [event_row(Position(0, 0), one, body) for one, body in dispatches_to_record([(DISPATCH_HEADER, header)], b"")]
    except InvalidRecordError as error:
        return str(error)


def test_what_we_write_is_read_quickly() -> None:
    attempts = [
        to_json(attempt(number, trigger=trigger, state=state, outcome=outcome))
        for number, (trigger, state, outcome) in enumerate(
            zip([*Trigger, Trigger.EVENT], [*AttemptState] * 2 + [AttemptState.FAILED], Outcome, strict=True)
        )
    ]
    value, header = b"\n".join(attempts), to_json(dispatch(body_bytes=0))

    assert len(attempts_quickly(value) or ()) == len(attempts)
    assert rows(value) == rows_by_models(value)
    assert len(dispatches_quickly(header) or ()) == 1
    assert event_rows(header) == event_rows_by_models(header)


ODD: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "7", "é", "\u2028", "event", "failed", "base64", [], {}, [["a", "b"]], [["a"]], {"a": "b"}, {"a": 1}])
    | st.sampled_from(["2026-03-02T15:04:00Z", "2026-03-02 15:04:00.5+01:00", "2026-03-02T15:04Z", "2026-03-02T15:04:00"])
    | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1772463840"])
)


def changed(draw: st.DrawFn, record: dict[str, Any]) -> bytes:
    """A record with some members changed, left out, or added, also those of its event."""
    more = draw(st.dictionaries(st.sampled_from([*record, "more"]), ODD, max_size=2))
    event = draw(st.dictionaries(st.sampled_from([*record["event"], "more"]), ODD, max_size=2))
    without = draw(st.sets(st.sampled_from([*record]), max_size=2))
    made = {name: value for name, value in (record | {"event": record["event"] | event} | more).items() if name not in without}
    return json.dumps(made, ensure_ascii=draw(st.booleans())).encode()


@st.composite
def attempts_of_any_kind(draw: st.DrawFn) -> bytes:
    return b"\n".join([changed(draw, FULL) for _ in range(draw(st.integers(1, 2)))])


@st.composite
def dispatches_of_any_kind(draw: st.DrawFn) -> bytes:
    return changed(draw, DISPATCHED)


@given(attempts_of_any_kind())
def test_the_rows_of_attempts_are_those_of_the_models(value: bytes) -> None:
    assert rows(value) == rows_by_models(value)


@given(dispatches_of_any_kind())
def test_the_rows_of_dispatches_are_those_of_the_models(header: bytes) -> None:
    assert event_rows(header) == event_rows_by_models(header)


LINE = to_json(attempt())


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\n",
        LINE + b"\n",
        LINE + b"\n\n" + LINE,
        LINE + LINE,
        LINE + b" \r\n" + LINE,
        LINE.replace(b'"attempt":', b'\n"attempt":'),
        LINE[:-1] + b',"x":"\xff"}',
        LINE[:-1] + b',"x":"\\ud800"}',
        LINE[:-1] + b',"x":' + b"[" * 199 + b"]" * 199 + b"}",
        LINE[:-1] + b',"x":' + b"[" * 300 + b"]" * 300 + b"}",
        LINE[:-1] + b',"x":"' + b"y" * 2**21 + b'"}',
        LINE[:-1] + b',"schema_version":2}',
        b"\n".join([LINE] * (MAX_BUNDLE + 1)),
        b"\n".join([LINE, to_json(attempt(created_at=START.replace(day=4)))]),
    ],
    ids=lambda value: repr(value)[-40:],
)
def test_what_is_broken_is_refused_in_the_same_words(value: bytes | None) -> None:
    assert rows(value) == rows_by_models(value)
