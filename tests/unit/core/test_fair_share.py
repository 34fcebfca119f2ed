"""How many requests each endpoint may have in progress: slow endpoints share a budget, fast ones have their full width."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.core.fair_share import START, FairShare, ShareLimits
from tests.property_examples import examples

BOUNDS = ShareLimits(width=64, slow_seconds=1.0, slow_budget=256)


def shares(bounds: ShareLimits = BOUNDS) -> FairShare:
    return FairShare(bounds)


def fill(of: FairShare, endpoint_id: int, now: float, at_most: int = 1000) -> list[int]:
    """Start as many requests as the endpoint may have."""
    tokens: list[int] = []
    while len(tokens) < at_most and (token := of.enter(endpoint_id, now)) is not None:
        of.start(endpoint_id, token, now)
        tokens.append(token)
    return tokens


def answer(of: FairShare, endpoint_id: int, now: float, seconds: float) -> None:
    """Make one request from start to end."""
    [token] = fill(of, endpoint_id, now, at_most=1)
    of.leave(endpoint_id, token, now + seconds)


def test_an_unknown_endpoint_starts_narrow() -> None:
    assert len(fill(shares(), 7, 0.0)) == START


def test_one_fast_answer_opens_the_full_width() -> None:
    of = shares()
    tokens = fill(of, 7, 0.0)

    of.leave(7, tokens[0], 0.5)

    assert len(fill(of, 7, 0.5)) == 64 - START + 1


def test_an_idle_endpoint_takes_no_memory() -> None:
    of = shares()
    for endpoint_id in range(100):
        answer(of, endpoint_id, 0.0, 0.1)

    assert not of._usages


def test_a_single_slow_endpoint_gets_its_full_width() -> None:
    of = shares()
    answer(of, 7, 0.0, 9.0)

    assert (of.is_slow(7, 9.0), of.width(7, 9.0)) == (True, 64)
    assert len(fill(of, 7, 9.0)) == 64


def test_slow_endpoints_share_their_budget_equally() -> None:
    of = shares()
    for endpoint_id in range(32):
        answer(of, endpoint_id, 0.0, 9.0)
    for endpoint_id in range(32):
        fill(of, endpoint_id, 10.0, at_most=1)

    assert [1 + len(fill(of, endpoint_id, 10.0)) for endpoint_id in range(32)] == [8] * 32
    assert of.slow_endpoints == 32
    assert len(fill(of, 99, 10.0)) == START, "others are not affected"


def test_slow_endpoints_never_exceed_the_budget() -> None:
    of = shares()
    for endpoint_id in range(1000):
        answer(of, endpoint_id, 0.0, 9.0)

    assert sum(len(fill(of, endpoint_id, 10.0)) for endpoint_id in range(1000)) == 256


def test_a_request_without_an_answer_makes_an_endpoint_slow() -> None:
    of = shares()
    answer(of, 7, 0.0, 0.1)
    fill(of, 7, 1.0, at_most=40)

    assert not of.is_slow(7, 2.0)
    assert of.is_slow(7, 2.01)
    assert of.slow_endpoints == 1


def test_waiting_before_the_start_does_not_make_an_endpoint_slow() -> None:
    of = shares()
    token = of.enter(7, 0.0)
    assert token is not None

    assert not of.is_slow(7, 100.0)
    of.start(7, token, 100.0)
    of.leave(7, token, 100.1)
    assert not of.is_slow(7, 100.1)


def test_the_age_of_a_restarted_request_counts_from_its_second_start() -> None:
    of = shares()
    first, second = (of.enter(7, 0.0) for _ in range(2))
    assert first is not None
    assert second is not None
    of.start(7, first, 0.0)
    of.start(7, second, 0.5)
    of.start(7, first, 0.9)

    assert not of.is_slow(7, 1.5)
    assert of.is_slow(7, 1.51), "the second one has not answered"
    of.leave(7, second, 1.6)
    of.leave(7, first, 1.7)
    assert not of.is_slow(7, 1.7), "the first one has, within 0.8 s"


def test_an_unused_slot_changes_nothing() -> None:
    of = shares()
    token = of.enter(7, 0.0)
    assert token is not None

    of.leave(7, token, 100.0)

    assert (of.is_slow(7, 100.0), of.slow_endpoints) == (False, 0)


def test_a_fast_answer_ends_the_slowness() -> None:
    of = shares()
    answer(of, 7, 0.0, 9.0)
    answer(of, 7, 10.0, 0.2)

    assert not of.is_slow(7, 10.2)
    assert of.slow_endpoints == 0


@pytest.mark.parametrize("hostile", [20, 30, 40])
def test_endpoints_that_stop_answering_under_a_steady_load_leave_room(hostile: int) -> None:
    """20 and more endpoints with 64 requests each against a limit of 512. Requests end after 15 s; one comes every 0.1 s each."""
    of, most, in_progress = shares(), 0, 0
    timeouts: list[tuple[float, int, int]] = []
    for endpoint_id in range(hostile):
        answer(of, endpoint_id, -1.0, 0.01)
    for step in range(600):
        now = step / 10
        while timeouts and timeouts[0][0] <= now:
            _, endpoint_id, token = timeouts.pop(0)
            of.leave(endpoint_id, token, now)
            in_progress -= 1
        for endpoint_id in range(hostile):
            for token in fill(of, endpoint_id, now, at_most=1):
                timeouts.append((now + 15.0, endpoint_id, token))
                in_progress += 1
        most = max(most, in_progress)

    # Before they are known to be slow, requests may exceed the budget for a second: 10 a second each.
    assert most <= max(256, hostile * 11)


class AnyTraffic(RuleBasedStateMachine):
    """Requests to a few endpoints enter, start, and end in any order and at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.bounds = ShareLimits(width=4, slow_seconds=1.0, slow_budget=6)
        self.of = FairShare(self.bounds)
        self.now = 0.0
        self.inside: list[tuple[int, int]] = []
        self.waiting: list[tuple[int, int]] = []

    @rule(seconds=st.floats(0, 3))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(endpoint_id=st.integers(0, 5))
    def add_a_delivery(self, endpoint_id: int) -> None:
        is_slow = self.of.is_slow(endpoint_id, self.now)
        slow_before = self._slow_inside()
        token = self.of.enter(endpoint_id, self.now)
        if token is not None:
            self.inside.append((endpoint_id, token))
            self.waiting.append((endpoint_id, token))
            assert not is_slow or slow_before < self.bounds.slow_budget
        elif not is_slow:
            assert self._count(endpoint_id) >= min(self.bounds.width, START)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def start_a_request(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(one)
        self.of.start(*one, self.now)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def end_a_request(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.inside))
        self.inside.remove(one)
        if one in self.waiting:
            self.waiting.remove(one)
        self.of.leave(*one, self.now)

    def _count(self, endpoint_id: int) -> int:
        return sum(one == endpoint_id for one, _ in self.inside)

    def _slow_inside(self) -> int:
        return sum(self._count(one) for one in range(6) if self.of.is_slow(one, self.now))

    @invariant()
    def no_endpoint_has_more_than_its_width(self) -> None:
        assert all(self._count(endpoint_id) <= self.bounds.width for endpoint_id in range(6))

    @invariant()
    def the_sums_are_right(self) -> None:
        slow = [one for one in range(6) if self.of.is_slow(one, self.now) and self._count(one)]
        assert self.of.slow_endpoints == len(slow)
        assert self.of._slow_inside == sum(map(self._count, slow))

    @invariant()
    def idle_endpoints_that_are_not_slow_are_forgotten(self) -> None:
        assert all(self._count(one) or self.of.is_slow(one, self.now) for one in self.of._usages)

    @invariant()
    def an_idle_endpoint_is_admitted_while_there_is_budget(self) -> None:
        if self._slow_inside() < self.bounds.slow_budget:
            assert self.of.width(9, self.now) >= 1


TestAnyTraffic = AnyTraffic.TestCase
TestAnyTraffic.settings = settings(max_examples=examples(60), deadline=None)
