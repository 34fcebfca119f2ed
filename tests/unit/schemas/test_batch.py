"""Records with several entries: what is read, and what is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.batch import MAX_BATCH, read_attempts, read_dispatches
from schemas.codec import InvalidRecordError, to_json
from schemas.delivery import DISPATCH_HEADER, DeadLetterReason, Dispatch
from tests.contract.store_records import START, attempt, dispatch


def header(*dispatches: Dispatch) -> list[tuple[str, bytes]]:
    return [("trace", b"x"), (DISPATCH_HEADER, b"\n".join(to_json(each) for each in dispatches))]


def test_attempts_are_read_in_order() -> None:
    written = [attempt(attempt=number) for number in (3, 1, 2)]

    assert read_attempts(b"\n".join(to_json(each) for each in written)) == written


def test_a_single_attempt_may_end_with_a_line_break_or_not() -> None:
    line = to_json(attempt())

    assert read_attempts(line) == read_attempts(line + b"\n") == [attempt()]


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=MAX_BATCH))
def test_each_dispatch_gets_its_body_byte_for_byte(bodies: list[bytes]) -> None:
    dispatches = [replace(dispatch(), body_bytes=len(body)) for body in bodies]

    found = read_dispatches(header(*dispatches), b"".join(bodies))

    assert found == list(zip(dispatches, bodies, strict=True))


def test_a_dispatch_of_an_older_release_has_the_whole_value_as_its_body() -> None:
    assert read_dispatches(header(dispatch()), b'{"a":\n1}') == [(dispatch(), b'{"a":\n1}')]


@pytest.mark.parametrize(
    ("lengths", "value"), [((2, 2), b"abc"), ((2, 2), b"abcde"), ((4,), b"abc"), ((None, 2), b"abc"), ((1,), None)]
)
def test_bodies_of_inconsistent_lengths_are_refused(lengths: tuple[int | None, ...], value: bytes | None) -> None:
    dispatches = [replace(dispatch(), body_bytes=length) for length in lengths]

    with pytest.raises(InvalidRecordError, match="dispatches should have") as refused:
        read_dispatches(header(*dispatches), value)

    assert refused.value.reason is DeadLetterReason.INVALID_RECORD


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, DeadLetterReason.NULL_VALUE),
        (b"", DeadLetterReason.NOT_JSON),
        (to_json(attempt()) + b"\n{", DeadLetterReason.NOT_JSON),
        (b"{}", DeadLetterReason.INVALID_RECORD),
        (b'{"schema_version": 2}', DeadLetterReason.UNSUPPORTED_VERSION),
        (b"\n".join([to_json(attempt())] * (MAX_BATCH + 1)), DeadLetterReason.INVALID_RECORD),
    ],
)
def test_unusable_attempts(value: bytes | None, reason: DeadLetterReason) -> None:
    with pytest.raises(InvalidRecordError) as refused:
        read_attempts(value)

    assert refused.value.reason is reason


def test_entries_of_several_days_are_refused() -> None:
    days = [attempt(created_at=START), attempt(created_at=START + timedelta(days=1))]

    with pytest.raises(InvalidRecordError, match="several days"):
        read_attempts(b"\n".join(to_json(each) for each in days))
