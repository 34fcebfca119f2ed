"""The positions of a chart's bars."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.web.dashboard.charts import columns

COUNTS = st.integers(min_value=0, max_value=10**9)


def test_successes_are_below_failures() -> None:
    chart = columns([("one", 3, 1), ("two", 0, 0)], width=100, height=40)
    one, two = chart.bars
    assert (one.x, one.width, two.x) == (0, 49, 50)
    assert (one.good_y, one.good_height, one.bad_y, one.bad_height) == (10, 30, 0, 10)
    assert (two.good_height, two.bad_height) == (0, 0)
    assert chart.summary == "3 delivered, 1 failed"


def test_one_failure_in_a_million_is_visible() -> None:
    (bar,) = columns([("", 1_000_000, 1)], height=28, least=1.5).bars
    assert (bar.bad_height, bar.good_height) == (1.5, 26.5)


def test_a_chart_may_be_empty() -> None:
    assert columns([]).bars == ()
    assert columns([("", 0, 0)]).summary == "no attempts"


@given(st.lists(st.tuples(st.just(""), COUNTS, COUNTS), max_size=70))
def test_no_bar_exceeds_the_chart(counts: list[tuple[str, int, int]]) -> None:
    chart = columns(counts, width=120, height=28)
    for bar in chart.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= 120.02
        assert bar.bad_y >= -0.02
        assert bar.good_y + bar.good_height <= 28.02
        assert bar.bad_y + bar.bad_height <= bar.good_y + 0.02
