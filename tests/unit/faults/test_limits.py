"""What counts as a silence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tests.faults.limits import Wait, longest_wait_in_vain


@pytest.mark.parametrize(
    ("waits", "seconds"),
    [
        ([], 0.0),
        ([(1.0, 1.5), (8.0, 8.25)], 0.5),  # nothing waited in between
        ([(1.0, 4.0)], 3.0),
        ([(1.0, 4.0), (1.5, 2.0), (1.75, 3.0)], 1.0),  # one waited for long, but others were delivered in the meantime
        ([(-5.0, 2.0)], 2.0),  # it waited before the time in question
        ([(7.0, math.inf)], 3.0),  # until its end, and beyond
        ([(7.0, 12.0)], 3.0),
        ([(11.0, 19.0), (-3.0, -1.0)], 0.0),
    ],
)
def test_the_longest_time_in_which_something_waited_and_nothing_was_delivered(
    waits: Sequence[tuple[float, float]], seconds: float
) -> None:
    assert longest_wait_in_vain([Wait(*wait) for wait in waits], 0.0, 10.0) == seconds
