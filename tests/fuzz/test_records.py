"""Hostile records in our own topics, and hostile metadata of commits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.properties import RECORDS, check_finished, check_record
from tests.fuzz.strategies import FUZZ, records


@pytest.mark.parametrize("name", RECORDS)
@FUZZ
@given(st.data())
def test_a_record_is_read_without_loss_or_refused_with_a_reason(name: str, data: st.DataObject) -> None:
    check_record(name, data.draw(records(name)))


NUMBERS = (
    st.integers(0, 9).map(str)
    | st.integers(-5, 10**12).map(str)
    | st.sampled_from(["", "9" * 9, "9" * 10, "٣", "²", "1e5", " 1"])
)
RUNS = st.lists(NUMBERS, max_size=9).map(lambda numbers: "1;" + ",".join(numbers))


@FUZZ
@given(st.integers(0, 2**63 - 1), RUNS | st.text(max_size=20) | st.none())
def test_metadata_of_a_commit_is_read_in_bounded_memory(offset: int, metadata: str | None) -> None:
    check_finished(offset, metadata)
