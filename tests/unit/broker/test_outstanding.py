"""What is handed over is bounded by count and by bytes."""

from __future__ import annotations

from pipeline.broker.outstanding import Outstanding


def test_records_fit_up_to_both_bounds() -> None:
    outstanding = Outstanding(2, 1_000)
    assert outstanding.fits(1_000)
    outstanding.add(400)
    assert outstanding.fits(600)
    assert not outstanding.fits(601)
    outstanding.add(100)
    assert not outstanding.fits(1), "two are the most"
    assert (outstanding.records, outstanding.bytes) == (2, 500)
    outstanding.finish(400)
    assert (outstanding.records, outstanding.bytes) == (1, 100)


def test_a_record_larger_than_the_bound_passes_alone() -> None:
    outstanding = Outstanding(10, 1_000)
    assert outstanding.fits(5_000)
    outstanding.add(5_000)
    assert not outstanding.fits(1)
    outstanding.finish(5_000)
    assert outstanding.fits(5_000)


def test_it_is_full_with_what_is_buffered() -> None:
    outstanding = Outstanding(2, 1_000)
    assert not outstanding.is_full(999)
    assert outstanding.is_full(1_000)
    outstanding.add(300)
    assert not outstanding.is_full(699)
    assert outstanding.is_full(700)
    outstanding.add(1)
    assert outstanding.is_full()
