"""Progress inside one record: it never claims more than what is done, whatever fits and whatever happens to the text.

The test of several processes takes a second, which is CPU: 100 examples.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.core.offsets import Commit, Kept, OffsetTracker, decode_metadata, encode_metadata
from pipeline.core.record_progress import RecordParts, RecordProgress, decode_progress, encode_progress

CHECK = 4711


def claimed_done(progress: RecordProgress, parts: range) -> set[int]:
    return {part for part in parts if part <= progress.up_to and part not in progress.but}


@given(st.data(), st.integers(1, 400), st.integers(0, 4000))
def test_progress_never_claims_unfinished_parts_whatever_the_room(data: st.DataObject, count: int, room: int) -> None:
    numbers = range(1, count + 1)
    parts, done = RecordParts(70, CHECK, numbers), data.draw(st.sets(st.sampled_from(numbers)))
    for part in done:
        assert parts.finish(part)
    progress = parts.progress()
    if progress is None:
        assert not done or 1 not in done
        return

    text = encode_progress(progress, 50, room)

    assert len(text) <= room
    read = decode_progress(text, 50)
    if text:
        assert read is not None
        assert (read.offset, read.check) == (70, CHECK)
        assert claimed_done(read, numbers) <= done
        left = RecordParts(70, CHECK, numbers, read).left
        assert set(left) >= set(numbers) - done
    if room == 4000:
        assert read == progress
        assert claimed_done(progress, numbers) == done


def test_with_far_too_many_exceptions_progress_claims_less() -> None:
    numbers = range(1, 10_001)
    parts = RecordParts(0, CHECK, numbers)
    for part in range(2, 10_001, 2):
        parts.finish(part)

    progress = parts.progress()

    assert progress is not None
    assert len(progress.but) == 1000
    assert claimed_done(progress, numbers) == set(range(2, 2001, 2))


def test_progress_ends_before_exceptions_that_do_not_fit() -> None:
    assert encode_progress(RecordProgress(0, 1, 900, (100, 400, 800)), 0, len("0,1,900,100,300")) == "0,1,799,100,300"
    assert encode_progress(RecordProgress(0, 1, 900, (1,)), 0, len("0,1,900")) == "", "nothing is left to claim"
    assert encode_progress(RecordProgress(0, 1, 900), 0, 3) == ""


def test_progress_of_another_record_at_the_same_offset_is_ignored() -> None:
    """The topic was recreated: the offset is the same, the event is not."""
    parts = RecordParts(5, CHECK, [1, 2, 3], RecordProgress(5, CHECK + 1, 2))

    assert parts.is_foreign
    assert parts.left == (1, 2, 3)


def test_new_parts_are_left_to_do_and_removed_parts_are_forgotten() -> None:
    earlier = RecordProgress(5, CHECK, 8, (3, 6))

    parts = RecordParts(5, CHECK, [1, 2, 6, 8, 9, 12], earlier)

    assert parts.left == (6, 9, 12)
    assert not parts.finish(2), "already done"
    assert parts.finish(12)
    assert parts.progress() == RecordProgress(5, CHECK, 12, (6, 9))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0,1",
        "0,1,0",
        "0,1,5,0",
        "0,1,5,6",
        "0,1,5,2,0",
        "0,1,5,-1",
        "-1,1,5",
        "0,1,5,",
        "0,1,²",
        "0,1," + "9" * 20,
        "a,b,c",
    ],
)
def test_damaged_progress_is_ignored(text: str) -> None:
    assert decode_progress(text, 0) is None


# --- in the metadata of a commit ---


def test_metadata_contains_finished_offsets_and_the_progress_of_the_rest() -> None:
    commit = Commit(100, (103, 104), 0, progress=(RecordProgress(100, CHECK, 220, (15, 75)), RecordProgress(107, 1, 5)))

    text = encode_metadata(commit)

    assert text == "1;3,2;0,4711,220,15,60;7,1,5"
    assert decode_metadata(100, text) == Kept(frozenset({103, 104}), commit.progress)


def test_without_progress_the_metadata_is_unchanged() -> None:
    assert encode_metadata(Commit(0, (3, 4, 6), 0)) == "1;3,2,1,1"
    assert encode_metadata(Commit(0, (), 0)) == ""


@pytest.mark.parametrize(
    "text", ["?", "2;", "1;", "1;;", "1;3", "1;3,2;", "1;3,2;0,1", "1;x;0,1,2", "1;3,2;0,1,2;junk", "moved by hand"]
)
def test_damaged_metadata_is_ignored(text: str) -> None:
    assert decode_metadata(5, text) is None


@given(
    st.integers(0, 10**12),
    st.sets(st.integers(1, 5000), max_size=2000),
    st.lists(st.tuples(st.integers(0, 5000), st.sets(st.integers(1, 10**9), min_size=1, max_size=600)), max_size=5),
)
def test_metadata_always_fits_and_never_claims_too_much(
    offset: int, beyond: set[int], inside: list[tuple[int, set[int]]]
) -> None:
    progress = {offset + gap: RecordProgress(offset + gap, CHECK, max(but) + 1, tuple(sorted(but))) for gap, but in inside}
    finished = {offset + each for each in beyond} - progress.keys()

    text = encode_metadata(Commit(offset, tuple(sorted(finished)), 0, progress=tuple(sorted(progress.values()))))

    assert len(text) <= 4000
    kept = decode_metadata(offset, text)
    assert kept is not None
    assert kept.finished <= finished
    for each in kept.progress:
        original = progress[each.offset]
        assert each.up_to <= original.up_to
        assert set(each.but) == {part for part in original.but if part <= each.up_to}


@given(st.text() | st.from_regex(r"1;[0-9,;]*", fullmatch=True))
def test_any_text_is_read_or_ignored(text: str) -> None:
    kept = decode_metadata(5, text)
    assert kept is None or all(each.offset >= 5 and each.up_to >= 1 for each in kept.progress)


# --- over the lives of several processes ---


class LivesMachine(RuleBasedStateMachine):
    """One partition of records in parts, and one process after the other, each starting from the last commit. The model
    remembers what was acknowledged.
    """

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.sizes = data.draw(st.lists(st.integers(0, 60), min_size=1, max_size=4))
        self.acknowledged: set[tuple[int, int]] = set()
        self.committed = Commit(0, (), 0)
        self.metadata = ""
        self.start_anew(0)

    def start_anew(self, added: int) -> None:
        kept = decode_metadata(self.committed.offset, self.metadata)
        assert kept is not None
        self.tracker = OffsetTracker(kept.finished, kept.progress)
        self.added = added
        self.next = self.committed.offset
        self.open: dict[int, list[int]] = {}
        self.noted: set[tuple[int, int]] = set()
        """Acknowledged to this process."""

    @precondition(lambda self: self.next < len(self.sizes))
    @rule()
    def start_a_record(self) -> None:
        offset, self.next = self.next, self.next + 1
        numbers = range(1, self.sizes[offset] + self.added + 1)
        if not self.tracker.start(offset):
            wanted = range(1, self.sizes[offset] + 1)
            assert {(offset, part) for part in wanted} <= self.acknowledged, "a record was left out that is not done"
            return
        parts = self.tracker.divide(offset, offset, numbers)
        assert parts is not None
        assert not parts.is_foreign
        left_out = set(numbers) - set(parts.left)
        assert {(offset, part) for part in left_out} <= self.acknowledged, "a part was left out that is not done"
        self.open[offset] = list(parts.left)

    @precondition(lambda self: any(self.open.values()))
    @rule(data=st.data(), count=st.integers(1, 30))
    def acknowledge_parts(self, data: st.DataObject, count: int) -> None:
        offset = data.draw(st.sampled_from([offset for offset, left in self.open.items() if left]))
        for _ in range(min(count, len(self.open[offset]))):
            part = self.open[offset].pop(data.draw(st.integers(0, min(5, len(self.open[offset]) - 1))))
            self.acknowledged.add((offset, part))
            self.noted.add((offset, part))
            self.tracker.finish_part(offset, part)

    @precondition(lambda self: any(not left for left in self.open.values()))
    @rule(data=st.data())
    def finish_a_record(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from([offset for offset, left in self.open.items() if not left]))
        del self.open[offset]
        self.tracker.finish(offset)

    @rule()
    def commit(self) -> None:
        commit = self.tracker.committable()
        if commit is not None:
            assert commit.offset >= self.committed.offset
            self.committed, self.metadata = commit, encode_metadata(commit)
            self.tracker.committed(commit)

    @rule()
    def check_that_a_commit_is_complete(self) -> None:
        """Right after a commit, the next process repeats nothing that was acknowledged: everything fits here."""
        self.commit()
        kept = decode_metadata(self.committed.offset, self.metadata)
        assert kept is not None
        inside = {each.offset: each for each in kept.progress}
        for offset, part in self.noted:
            if offset >= self.committed.offset and offset not in kept.finished:
                assert part not in RecordParts(offset, offset, [part], inside.get(offset)).left

    @rule(added=st.integers(0, 3))
    def kill_the_process(self, added: int) -> None:
        self.start_anew(added)

    @invariant()
    def what_is_committed_was_acknowledged(self) -> None:
        for offset in range(self.committed.offset):
            assert all((offset, part) in self.acknowledged for part in range(1, self.sizes[offset] + 1))


TestLives = LivesMachine.TestCase
TestLives.settings = settings(max_examples=100)  # a promise: also in make test


def test_a_record_that_is_not_in_progress_has_no_parts() -> None:
    tracker = OffsetTracker()
    tracker.finish_part(3, 1)
    assert tracker.divide(3, CHECK, [1, 2]) is None
    tracker.start(3)
    tracker.start(4)
    tracker.finish(4)
    assert tracker.divide(4, CHECK, [1, 2]) is None
    assert tracker.divide(3, CHECK, [1, 2]) is not None
    tracker.finish_part(3, 7)
    committed = tracker.committable()
    assert committed is not None
    assert committed.progress == ()


def test_progress_of_a_record_that_was_removed_is_forgotten() -> None:
    tracker = OffsetTracker({6}, [RecordProgress(5, CHECK, 3)])
    tracker.start(9)
    tracker.finish(9)

    committed = tracker.committable()

    assert committed is not None
    assert decode_metadata(committed.offset, encode_metadata(committed)) == Kept()


def test_progress_of_an_earlier_assignment_is_known_until_its_record_is_divided() -> None:
    """Another record is finished and committed before the one in parts is reached."""
    earlier = RecordProgress(5, CHECK, 40, (3,))
    tracker = OffsetTracker((), [earlier])
    tracker.start(5)
    tracker.start(6)
    tracker.finish(6)
    committed = tracker.committable()
    assert committed is not None
    assert committed.progress == (earlier,)

    parts = tracker.divide(5, CHECK, range(1, 51))

    assert parts is not None
    assert parts.left == (3, *range(41, 51))
    tracker.finish_part(5, 3)
    committed = tracker.committable()
    assert committed is not None
    assert committed.progress == (RecordProgress(5, CHECK, 40),)
