"""The windows of a walk: few of them, whatever was found so far."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.core.search import Condition, Predicate
from pipeline.store.bound_values import BoundValues
from pipeline.store.search.time_windows import (
    TimeWindow,
    WindowProgress,
    first_width,
    next_width,
    requested_span,
    step,
    windows_without_bodies,
)

YEAR = TimeWindow(0, 365 * 86_400_000)
ROWS = 10_000_000


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("found", [0, 1, 25])
def test_a_walk_through_everything_takes_few_windows_without_gaps(found: int, descending: bool) -> None:
    """Even when the match was in the first window and nowhere else: an estimate by that alone would lead to tiny steps."""
    left, width, seen = YEAR, first_width(YEAR, ROWS), []
    while left.first < left.end:
        window, left = step(left, width, descending=descending)
        seen.append(window)
        width = next_width(width, sum(one.end - one.first for one in seen), WindowProgress(26, found))
    in_order = sorted(seen, key=lambda one: one.first)
    assert [one.end for one in in_order[:-1]] == [one.first for one in in_order[1:]]
    assert (in_order[0].first, in_order[-1].end) == (YEAR.first, YEAR.end)
    assert len(seen) <= 7


def test_a_window_is_as_long_as_the_page_still_needs() -> None:
    assert next_width(1_000, 5_000, WindowProgress(30, 14)) == 2 * 5_000 * 16 // 14
    assert next_width(1_000, 5_000, WindowProgress(30, 0)) == 16_000
    assert next_width(1_000, 5_000, WindowProgress(30, 29)) == 4_000


@pytest.mark.parametrize(
    ("part", "rest"),
    [
        (TimeWindow(7, 10), TimeWindow(0, 7)),
        (TimeWindow(0, 3), TimeWindow(3, 10)),
        (TimeWindow(0, 10), TimeWindow(0, 0)),
        (TimeWindow(10, 10), TimeWindow(0, 10)),
    ],
)
def test_what_is_left_of_an_interval_without_one_end(part: TimeWindow, rest: TimeWindow) -> None:
    assert TimeWindow(0, 10).without(part) == rest


@pytest.mark.parametrize("end", [10, 25])
def test_what_is_left_of_an_open_interval_is_not_empty(end: int) -> None:
    """Its end was looked up some seconds ago, so a part may end there or later, and more may follow."""
    rest = TimeWindow(0, 10, open_end=True).without(TimeWindow(0, end))
    assert rest == TimeWindow(end, end + 1, open_end=True)


def _made(predicate: Predicate, milliseconds: int) -> Condition:
    return Condition("created_at", predicate, (datetime.fromtimestamp(milliseconds / 1000, UTC),))


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ([], TimeWindow(1000, 2000, open_start=True, open_end=True)),
        ([_made(Predicate.GTEQ, 1500)], TimeWindow(1500, 2000, open_end=True)),
        ([_made(Predicate.LTEQ, 1500)], TimeWindow(1000, 1501, open_start=True)),
        ([_made(Predicate.GTEQ, 5000)], TimeWindow(1999, 2000, open_end=True)),
        ([_made(Predicate.LT, 500)], TimeWindow(1000, 1001, open_start=True)),
        ([_made(Predicate.GTEQ, 1500), _made(Predicate.LT, 1400)], TimeWindow(0, 0)),
    ],
)
def test_rows_added_after_the_first_look_are_in_the_windows_at_the_ends(asked: list[Condition], span: TimeWindow) -> None:
    assert requested_span(TimeWindow(1000, 2000), asked, None) == span


def test_no_window_is_exact_outside_of_the_stored_interval() -> None:
    whole = TimeWindow(1000, 2000)
    for outside in (_made(Predicate.GTEQ, 5000), _made(Predicate.LT, 500)):
        assert requested_span(whole, [outside], None, exactly=True) == TimeWindow(0, 0)
    assert requested_span(TimeWindow(0, 0), [], None) == TimeWindow(0, 0)


@pytest.mark.parametrize("descending", [True, False])
def test_a_search_of_columns_uses_at_most_two_windows_open_only_at_the_outer_ends(descending: bool) -> None:
    span = TimeWindow(0, 1000, open_start=True, open_end=True)
    seen = list(windows_without_bodies(span, 100, WindowProgress(26), is_one=False, descending=descending))
    newest, rest = TimeWindow(900, 1000, open_end=True), TimeWindow(0, 900, open_start=True)
    oldest, later = TimeWindow(0, 100, open_start=True), TimeWindow(100, 1000, open_end=True)
    assert seen == ([newest, rest] if descending else [oldest, later])
    assert list(windows_without_bodies(span, 100, WindowProgress(26), is_one=True, descending=descending)) == [span]
    assert list(windows_without_bodies(span, 800, WindowProgress(26), is_one=False, descending=descending)) == [span]


def test_an_open_window_has_no_limits() -> None:
    assert TimeWindow(0, 10, open_start=True, open_end=True).sql("created_at", BoundValues()) == "1"
    assert "<" not in TimeWindow(0, 10, open_end=True).sql("created_at", BoundValues())
