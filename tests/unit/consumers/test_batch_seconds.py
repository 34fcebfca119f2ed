"""How long the recorder collects records for a batch."""

from __future__ import annotations

import random

import pytest

from consumers.recorder_queue import batch_seconds
from pipeline.broker.producer import SLICE_S
from pipeline.ops.settings import Settings

LONGEST = float(Settings.model_fields["recorder_batch_seconds"].default)
BEGIN = 1000 * SLICE_S
"""The beginning of a slice."""


@pytest.mark.parametrize("came", [0.001, 0.045, 0.5, SLICE_S - 0.01])
def test_a_batch_ends_shortly_after_the_slice_of_its_first_record(came: float) -> None:
    assert came + batch_seconds(LONGEST, BEGIN + came) == pytest.approx(SLICE_S + 0.2)


def test_no_record_waits_longer_than_attempts_may_take_to_be_searchable() -> None:
    waits = [batch_seconds(LONGEST, BEGIN + step / 1000) for step in range(2000)]
    assert max(waits) <= 1.41
    assert min(waits) >= 0.19


@pytest.mark.parametrize("a_second", [2, 10, 200, 2000])
def test_a_slice_is_one_batch_and_searchable_within_two_seconds(a_second: int) -> None:
    chance = random.Random(1)
    slices, batches, waits, ends = set(), 0, [], [float("-inf")] * 4
    written = sorted(chance.uniform(0, 60) for _ in range(60 * a_second))
    came = sorted((at + chance.uniform(0.001, 0.195), at) for at in written)
    for arrived, at in came:
        slices.add(int(at / SLICE_S))
        partition = int(at / SLICE_S) % len(ends)
        if arrived > ends[partition]:
            batches += 1
            ends[partition] = arrived + batch_seconds(LONGEST, arrived)
        waits.append(ends[partition] - at)
    assert batches == len(slices)
    assert sorted(waits)[int(0.95 * len(waits))] < 1.5


@pytest.mark.parametrize("longest", [0.1, 1.0, 5.0])
def test_another_setting_is_not_aligned_to_slices(longest: float) -> None:
    assert {batch_seconds(longest, BEGIN + step / 10) for step in range(20)} == {longest}
