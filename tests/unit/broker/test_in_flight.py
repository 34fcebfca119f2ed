"""The number and size of the records handed over are limited."""

from __future__ import annotations

from pipeline.broker.in_flight import InFlight


def test_records_fit_up_to_both_limits() -> None:
    outstanding = InFlight(2, 1_000)
    assert outstanding.fits(1_000)
    outstanding.add(400)
    assert outstanding.fits(600)
    assert not outstanding.fits(601)
    outstanding.add(100)
    assert not outstanding.fits(1), "two are the most"
    assert (outstanding.records, outstanding.bytes) == (2, 500)
    outstanding.finish(400)
    assert (outstanding.records, outstanding.bytes) == (1, 100)


def test_a_record_larger_than_the_limit_passes_alone() -> None:
    outstanding = InFlight(10, 1_000)
    assert outstanding.fits(5_000)
    outstanding.add(5_000)
    assert not outstanding.fits(1)
    outstanding.finish(5_000)
    assert outstanding.fits(5_000)


def test_buffered_records_count_too() -> None:
    outstanding = InFlight(2, 1_000)
    assert outstanding.leaves_room(999)
    assert not outstanding.leaves_room(1_000)
    assert not outstanding.is_full(1_000), "nothing is in progress: the buffered records can be handed over"
    outstanding.add(300)
    assert outstanding.leaves_room(699)
    assert not outstanding.is_full(699)
    assert outstanding.is_full(700)
    outstanding.add(1)
    assert outstanding.leaves_room(0), "the limit reached is the count: more may be fetched"
    assert outstanding.is_full(0)
