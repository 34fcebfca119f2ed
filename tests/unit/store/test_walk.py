"""The windows of a walk: few of them, whatever was found so far."""

from __future__ import annotations

import pytest

from pipeline.store.walk import Progress, Span, first_width, next_width, step

YEAR = Span(0, 365 * 86_400_000)
ROWS = 10_000_000


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("found", [0, 1, 25])
def test_a_walk_through_all_takes_few_windows_without_gaps(found: int, descending: bool) -> None:
    """Also when the needle was found in the first window and nowhere else: an estimate by that alone would creep."""
    left, width, seen = YEAR, first_width(YEAR, ROWS), []
    while left.first < left.end:
        window, left = step(left, width, descending=descending)
        seen.append(window)
        width = next_width(width, sum(one.end - one.first for one in seen), Progress(26, found))
    in_order = sorted(seen, key=lambda one: one.first)
    assert [one.end for one in in_order[:-1]] == [one.first for one in in_order[1:]]
    assert (in_order[0].first, in_order[-1].end) == (YEAR.first, YEAR.end)
    assert len(seen) <= 7


def test_a_window_is_as_long_as_the_page_still_needs() -> None:
    assert next_width(1_000, 5_000, Progress(30, 14)) == 2 * 5_000 * 16 // 14
    assert next_width(1_000, 5_000, Progress(30, 0)) == 16_000
    assert next_width(1_000, 5_000, Progress(30, 29)) == 4_000


@pytest.mark.parametrize(
    ("part", "rest"),
    [(Span(7, 10), Span(0, 7)), (Span(0, 3), Span(3, 10)), (Span(0, 10), Span(0, 0)), (Span(10, 10), Span(0, 10))],
)
def test_what_is_left_without_one_end(part: Span, rest: Span) -> None:
    assert Span(0, 10).without(part) == rest
