"""The held deliveries of one partition: counts and marks."""

from __future__ import annotations

import pytest

from pipeline.core.held_ledger import NOWHERE, HeldLedger, OffsetBound, ReportedHeld


def filled(*endpoint_ids: int, reported: dict[int, ReportedHeld] | None = None) -> HeldLedger:
    """Return a ledger of records for these endpoints from offset 0 on, a millisecond apart, all of them waiting."""
    ledger = HeldLedger(reported or {})
    for offset, endpoint_id in enumerate(endpoint_ids):
        if ledger.add(endpoint_id, OffsetBound(offset, 1_000 + offset)):
            ledger.wait(endpoint_id, OffsetBound(offset, 1_000 + offset))
    return ledger


@pytest.mark.parametrize(
    ("place", "is_below"),
    [(OffsetBound(4, 900), True), (OffsetBound(4, 1_000), True), (OffsetBound(5, 900), False), (OffsetBound(4, 1_001), False)],
)
def test_a_bound_is_above_a_place_that_is_before_it_and_not_younger(place: OffsetBound, is_below: bool) -> None:
    assert OffsetBound(5, 1_000).is_above(place) is is_below
    assert not NOWHERE.is_above(place)


def test_each_endpoint_has_a_count_and_its_oldest_record() -> None:
    ledger = filled(7, 8, 7, 7)

    assert {one: (waiting.count, waiting.first, waiting.since_ms) for one, waiting in ledger.waiting.items()} == {
        7: (3, 0, 1_000),
        8: (1, 1, 1_001),
    }
    assert (ledger.waiting[7].counted, ledger.position, ledger.floor, ledger.latest_ms) == (OffsetBound(4, 1_003), 4, 0, 1_003)


def test_a_record_that_leaves_moves_only_the_mark_of_its_endpoint() -> None:
    ledger = filled(7, 8, 7, 7)
    for offset in (0, 2):
        assert ledger.is_next(7, OffsetBound(offset, 1_000 + offset))
        ledger.take(7, OffsetBound(offset, 1_000 + offset))
        ledger.leave(7, OffsetBound(offset, 1_000 + offset))

    assert (ledger.done(7), ledger.done(8)) == (OffsetBound(3, 1_002), NOWHERE)
    assert not ledger.is_next(7, OffsetBound(2, 1_002))
    assert (ledger.waiting[7].count, ledger.floor) == (1, 1)
    ledger.stay(7, OffsetBound(3, 1_003))
    assert (ledger.waiting[7].first, ledger.waiting[7].since_ms) == (3, 1_003)
    ledger.take(7, OffsetBound(3, 1_003))
    ledger.take(8, OffsetBound(1, 1_001))
    assert (ledger.waiting, ledger.floor) == ({}, 4)


def test_records_that_were_already_handled_are_not_counted_again() -> None:
    ledger = filled(7, 7, 8, 7, reported={7: ReportedHeld(1, OffsetBound(2, 1_001), OffsetBound(4, 1_003))})

    assert {one: waiting.count for one, waiting in ledger.waiting.items()} == {7: 1, 8: 1}
    assert ledger.missing() == {}


def test_records_that_were_reported_and_are_gone_are_missing_once() -> None:
    ledger = filled(
        8, 7, reported={7: ReportedHeld(5, NOWHERE, OffsetBound(9, 1_009)), 9: ReportedHeld(2, NOWHERE, OffsetBound(3, 1_003))}
    )

    assert ledger.missing() == {7: 4, 9: 2}
    assert ledger.missing() == {}
    assert ledger.changed == {7, 8, 9}, "the current number is published"


def test_a_reported_record_counts_until_it_is_read() -> None:
    reported = ReportedHeld(3, OffsetBound(1, 1_000), OffsetBound(4, 1_003))
    ledger = filled(7, reported={7: reported})
    assert (ledger.count(7), ledger.counted(7), ledger.since_ms(7), ledger.total) == (3, reported.counted, 1_000, 3)

    ledger.add(7, OffsetBound(1, 1_001))
    ledger.leave(7, OffsetBound(1, 1_001))
    assert (ledger.count(7), ledger.counted(7), ledger.since_ms(7)) == (2, reported.counted, 1_001), "two were not read yet"
    ledger.add(7, OffsetBound(2, 1_002))
    ledger.wait(7, OffsetBound(2, 1_002))
    assert (ledger.count(7), ledger.counted(7), ledger.since_ms(7), ledger.total) == (2, reported.counted, 1_002, 2)

    assert ledger.missing() == {7: 1}
    assert (ledger.count(7), ledger.counted(7), ledger.since_ms(7), ledger.total) == (1, OffsetBound(3, 1_002), 1_002, 1)
    assert (ledger.count(8), ledger.counted(8), ledger.since_ms(8)) == (0, NOWHERE, None)


def test_records_that_are_not_found_are_given_up() -> None:
    ledger = filled(7, 7, 8)

    assert ledger.give_up({7, 9}) == {7: 2}
    assert set(ledger.waiting) == {8}


def test_a_partition_without_read_records_has_no_floor() -> None:
    assert HeldLedger({}).floor is None
