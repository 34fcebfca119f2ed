"""Out-of-order completion, checked against a model that remembers everything."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from pipeline.core.offsets import Commit, OffsetTracker, decode_metadata, encode_metadata


def offset_of(tracker: OffsetTracker) -> int | None:
    """Return the offset that can be committed."""
    commit = tracker.committable()
    return None if commit is None else commit.offset


def commit(tracker: OffsetTracker) -> int | None:
    """Commit if possible, and return the offset."""
    made = tracker.committable()
    if made is None:
        return None
    tracker.committed(made)
    return made.offset


class OffsetMachine(RuleBasedStateMachine):
    """Records are started in order, with gaps; each is finished once, in any order; commits happen at any time."""

    unfinished = Bundle("unfinished")

    @initialize(first=st.integers(0, 5) | st.just(10**12))
    def begin(self, first: int) -> None:
        self.tracker = OffsetTracker()
        self.next = first
        self.started: list[int] = []
        self.open: set[int] = set()
        self.last_committed = -1

    @rule(target=unfinished, gaps=st.lists(st.integers(0, 3), min_size=1, max_size=5))
    def start(self, gaps: list[int]) -> object:
        offsets = []
        for gap in gaps:
            offset = self.next + gap
            self.tracker.start(offset)
            self.next = offset + 1
            offsets.append(offset)
        self.started += offsets
        self.open.update(offsets)
        return multiple(*offsets)

    @rule(offset=consumes(unfinished))
    def finish(self, offset: int) -> None:
        self.tracker.finish(offset)
        self.open.discard(offset)

    @rule(which=st.integers(0, 10))
    def finish_again(self, which: int) -> None:
        held_back = [offset for offset in self.started if self.open and offset > min(self.open) and offset not in self.open]
        if held_back:
            self.tracker.finish(held_back[which % len(held_back)])

    @rule()
    def commit(self) -> None:
        offset = commit(self.tracker)
        if offset is not None:
            assert offset >= self.last_committed
            self.last_committed = offset

    @rule(back=st.integers(1, 5))
    def starting_out_of_order_is_refused(self, back: int) -> None:
        if self.started:
            with pytest.raises(ValueError, match="was started after"):
                self.tracker.start(self.next - back)

    @invariant()
    def nothing_unfinished_is_committed(self) -> None:
        offset = offset_of(self.tracker)
        lowest = min(self.open) if self.open else None
        if offset is not None and lowest is not None:
            assert offset <= lowest
        if self.started and lowest is None:
            # Everything is finished: the end is committable, or committed.
            assert max(offset or -1, self.last_committed) == self.started[-1] + 1
        if self.started and lowest is not None and any(offset < lowest for offset in self.started):
            # No more than needed is held back: between the two there is at most a gap.
            reached = max(offset or -1, self.last_committed)
            assert reached <= lowest
            assert not any(reached <= started < lowest for started in self.started)

    @invariant()
    def the_lowest_unfinished_offset_is_known(self) -> None:
        assert self.tracker.lowest_unfinished == min(self.open, default=None)


OffsetMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestOffsets = OffsetMachine.TestCase


def finished_in(offset: int, metadata: str) -> frozenset[int]:
    kept = decode_metadata(offset, metadata)
    assert kept is not None
    return kept.finished


def test_nothing_is_committable_at_first() -> None:
    tracker = OffsetTracker()

    assert tracker.committable() is None
    assert tracker.lowest_unfinished is None


def test_the_lowest_unfinished_offset_is_committable() -> None:
    tracker = OffsetTracker()
    for offset in (0, 1, 2, 5, 9):
        tracker.start(offset)

    assert tracker.committable() is None
    tracker.finish(2)
    assert tracker.committable() == Commit(0, (2,), 1), "nothing new at the front, but 2 need not be repeated"
    tracker.finish(0)
    assert offset_of(tracker) == 1
    tracker.finish(1)
    assert offset_of(tracker) == 5, "2 was finished before, 3 and 4 do not exist"
    tracker.finish(9)
    assert offset_of(tracker) == 5
    tracker.finish(5)
    assert offset_of(tracker) == 10


def test_a_committed_offset_is_not_committable_again() -> None:
    tracker = OffsetTracker()
    tracker.start(0)
    tracker.finish(0)
    assert commit(tracker) == 1

    assert tracker.committable() is None
    tracker.start(1)
    assert tracker.committable() is None
    tracker.finish(1)
    assert offset_of(tracker) == 2


def test_a_late_acknowledgement_of_an_old_commit_changes_nothing() -> None:
    tracker = OffsetTracker()
    commits = []
    for offset in range(3):
        tracker.start(offset)
        tracker.finish(offset)
        commits.append(tracker.committable())
    for made in reversed(commits):
        assert made is not None
        tracker.committed(made)

    assert tracker.committable() is None


def test_finishing_twice_before_a_commit_changes_nothing() -> None:
    tracker = OffsetTracker()
    tracker.start(0)
    tracker.start(1)
    tracker.finish(1)
    tracker.finish(1)

    assert tracker.committable() == Commit(0, (1,), 2)
    assert tracker.lowest_unfinished == 0
    tracker.finish(0)
    assert offset_of(tracker) == 2
    assert tracker.lowest_unfinished is None


@pytest.mark.parametrize("again", [1, 3])
def test_finishing_twice_never_commits_unfinished_offsets(again: int) -> None:
    tracker = OffsetTracker()
    for offset in range(4):
        tracker.start(offset)
    for _ in range(again):
        tracker.finish(0)
    tracker.finish(2)

    assert offset_of(tracker) == 1


def test_finishing_twice_changes_nothing_later() -> None:
    tracker = OffsetTracker()
    tracker.start(0)
    tracker.start(1)
    tracker.finish(0)
    tracker.finish(0)

    assert tracker.lowest_unfinished == 1


def test_nothing_is_committable_when_nothing_was_finished() -> None:
    tracker = OffsetTracker()
    tracker.start(100)

    assert tracker.committable() is None


def test_offsets_finished_beyond_the_commit_are_not_processed_again() -> None:
    """Promise 2: after a crash, only what was in progress is processed again, whatever holds the offset back."""
    crashed = OffsetTracker()
    for offset in range(10):
        crashed.start(offset)
    for offset in (2, 3, 4, 7, 9):
        crashed.finish(offset)
    made = crashed.committable()
    assert made is not None

    restarted = OffsetTracker(finished_in(made.offset, encode_metadata(made)))
    done_again = [offset for offset in range(made.offset, 12) if restarted.start(offset)]

    assert done_again == [0, 1, 5, 6, 8, 10, 11]
    for offset in done_again:
        restarted.finish(offset)
    assert offset_of(restarted) == 12


def test_offsets_finished_in_an_earlier_assignment_are_known_until_passed() -> None:
    tracker = OffsetTracker({5, 6})
    tracker.start(1)
    tracker.start(2)
    tracker.finish(2)

    made = tracker.committable()

    assert made is not None
    assert finished_in(made.offset, encode_metadata(made)) == {2, 5, 6}


@given(st.integers(0, 10**12), st.sets(st.integers(1, 400)))
def test_metadata_contains_what_was_finished(offset: int, beyond: set[int]) -> None:
    finished = tuple(sorted(offset + each for each in beyond))

    metadata = encode_metadata(Commit(offset, finished, 1))

    assert len(metadata) <= 4096
    assert finished_in(offset, metadata) == set(finished)


def test_metadata_that_does_not_fit_drops_only_the_last_runs() -> None:
    finished = tuple(range(1, 20_000, 2))

    metadata = encode_metadata(Commit(0, finished, 1))

    assert len(metadata) <= 4096
    kept = finished_in(0, metadata)
    assert kept == set(finished[: len(kept)])
    assert len(kept) > 500


@settings(deadline=None)
@given(st.text() | st.from_regex(r"1;[0-9,]*", fullmatch=True))
def test_any_metadata_is_read_or_ignored(metadata: str) -> None:
    kept = decode_metadata(5, metadata)
    assert kept is None or all(offset >= 5 for offset in kept.finished)
