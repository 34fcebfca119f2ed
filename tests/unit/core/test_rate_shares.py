from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

import pytest

from pipeline.core.rate_limit import RateLimit
from pipeline.core.rate_shares import (
    ALONE,
    ALONE_SECONDS,
    ANNOUNCE_SECONDS,
    GRACE_SECONDS,
    IDLE_SECONDS,
    LOST_SECONDS,
    NEWCOMER_SHARE,
    UNCONFIRMED_SHARE,
    RateShares,
)

ENDPOINT, LIMIT, STEP = 7, 100.0, 0.01


class Process:
    """A process that delivers and always has something to send."""

    def __init__(self, name: str, began: float) -> None:
        self.shares = RateShares(name)
        self.pace: RateLimit | None = None
        self.turns = 0
        self.stalled_until = 0.0
        self.told_at = float("-inf")
        self.wants = True
        self.began = began

    def turn(self, now: float) -> tuple[int, tuple[int, ...] | None]:
        """Return how many requests start now, and what is announced to the others, if anything."""
        said, starts = None, 0
        if now < self.stalled_until:
            return 0, None
        if self.wants:
            rate = LIMIT * self.shares.share(ENDPOINT, now)
            if self.pace is None:
                self.pace = RateLimit(rate)
            self.pace.change(rate, now)
            while self.pace.reserve(now, 0.1) is not None:
                self.turns += 1
            while self.turns and not self.pace.begin(now):
                self.turns -= 1
                starts += 1
            if self.shares.must_announce(ENDPOINT):
                self.told_at = float("-inf")
        if now - self.told_at >= ANNOUNCE_SECONDS and (self.wants or self.told_at > float("-inf")):
            said, self.told_at = self.shares.announce(now), now
        return starts, said


class World:
    """Processes and a topic that takes a moment to read."""

    def __init__(self, lag: float = 0.15, seed: int = 1) -> None:
        self.now = 0.0
        self.processes: dict[str, Process] = {}
        self.starts: list[float] = []
        self.by_process: dict[str, int] = {}
        self.reads = True
        self.longest_stall = 0.0
        self.said = 0
        self._lag = lag
        self._random = random.Random(seed)
        self.history: list[tuple[float, str, tuple[int, ...]]] = []
        self._topic: deque[tuple[float, str, tuple[int, ...]]] = deque()

    def start(self, name: str) -> Process:
        process = self.processes[name] = Process(name, self.now)
        for _, other, ids in self.history:  # it reads the topic to its end before it delivers
            process.shares.receive(other, ids, self.now)
        return process

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += STEP
            while self._topic and self.reads and self._topic[0][0] <= self.now:
                self.history.append(self._topic[0])
                _, name, ids = self._topic.popleft()
                for process in self.processes.values():
                    process.shares.receive(name, ids, self.now)
            for name in self._random.sample(sorted(self.processes), len(self.processes)):
                process = self.processes[name]
                if self.longest_stall and self._random.random() < STEP / 2:  # every two seconds on average
                    process.stalled_until = self.now + self._random.uniform(0, self.longest_stall)
                starts, said = process.turn(self.now)
                self.starts += [self.now] * starts
                self.by_process[name] = self.by_process.get(name, 0) + starts
                if said is not None:
                    self.said += 1
                    self._topic.append((self.now + self._lag, name, said))

    def rates(self, since: float = 0.0, window: float = 5.0) -> Iterator[float]:
        """Requests a second, in each window."""
        starts = [start for start in self.starts if start >= since]
        end = 0
        for begin, first in enumerate(starts):
            while end < len(starts) and starts[end] < first + window:
                end += 1
            yield (end - begin) / window


@pytest.mark.parametrize("count", [1, 2, 4])
def test_all_processes_together_stay_within_the_limit(count: int) -> None:
    world = World()
    for number in range(count):
        world.start(f"p{number}")
        world.run(5.0)
    settled = world.now
    world.run(20.0)

    assert max(world.rates()) <= 1.1 * LIMIT
    assert max(world.rates(settled)) >= 0.9 * LIMIT, "and they use all of it when they know of each other"


@pytest.mark.parametrize("seed", range(5))
def test_four_processes_that_start_at_once(seed: int) -> None:
    world = World(seed=seed)
    for number in range(4):
        world.start(f"p{number}")
    world.run(15.0)

    assert max(world.rates()) <= 1.1 * LIMIT
    assert max(world.rates(8.0)) >= 0.9 * LIMIT


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [1, 2, 4])
def test_stalled_processes_exceed_the_limit_by_at_most_a_tenth_in_any_second(count: int, seed: int) -> None:
    world = World(seed=seed)
    world.longest_stall = 0.8
    for number in range(count):
        world.start(f"p{number}")
        world.run(0.5 * seed)
    world.run(8.0)
    world.processes.pop("p1", None)  # it is killed, and another one starts
    world.start("late")
    world.run(LOST_SECONDS + 4)

    assert max(world.rates(window=1.0)) <= 1.1 * LIMIT


def test_the_share_of_a_killed_process_returns() -> None:
    world = World()
    for name in ("stays", "dies"):
        world.start(name)
    world.run(10.0)
    del world.processes["dies"]
    killed = world.now
    world.run(LOST_SECONDS + ANNOUNCE_SECONDS + 1)
    back = world.now
    world.run(10.0)

    assert max(world.rates(killed + 1, window=2.0)) <= 1.1 * LIMIT
    assert max(world.rates(back)) >= 0.9 * LIMIT


def test_the_share_of_an_idle_process_returns() -> None:
    world = World()
    for name in ("stays", "goes"):
        world.start(name)
    world.run(10.0)
    world.processes["goes"].wants = False
    world.run(IDLE_SECONDS + ANNOUNCE_SECONDS + 1)
    back = world.now
    world.run(10.0)
    assert max(world.rates(back)) >= 0.9 * LIMIT

    world.processes["goes"].wants = True
    world.run(10.0)
    assert max(world.rates()) <= 1.1 * LIMIT, "also when it starts sending again"


def test_while_kafka_is_unreachable_each_process_keeps_its_share() -> None:
    world = World()
    for name in ("one", "other"):
        world.start(name)
    world.run(10.0)
    world.reads = False
    away = world.now
    world.run(60.0)

    assert max(world.rates(away)) <= 1.1 * LIMIT
    assert max(world.rates(away + 30)) >= 0.9 * LIMIT
    world.reads = True
    world.run(20.0)
    assert max(world.rates()) <= 1.1 * LIMIT


def test_only_a_reduced_share_is_used_until_the_own_announcement_is_read_back() -> None:
    shares = RateShares("me")

    assert shares.share(7, 0.0) == ALONE
    assert shares.announce(0.0) == (7,)
    assert shares.share(7, ALONE_SECONDS) == UNCONFIRMED_SHARE
    assert shares.share(7, 5.0) == UNCONFIRMED_SHARE, "Kafka may be unreachable, and the announcements of others with it"
    shares.receive("me", (7,), 5.0)
    assert shares.share(7, 5.0) == 1.0


def test_a_newcomer_waits_until_others_have_read_its_announcement() -> None:
    shares = RateShares("me")
    shares.receive("other", (7, 8), 9.0)
    shares.receive("third", (8,), 9.0)
    assert shares.share(7, 10.0) == UNCONFIRMED_SHARE
    shares.announce(10.0)
    shares.receive("me", (7,), 10.0)

    assert shares.share(7, 10.0 + GRACE_SECONDS - 0.1) == NEWCOMER_SHARE
    assert shares.share(7, 10.0 + GRACE_SECONDS) == 0.5


def test_invalid_announcements_take_no_more_memory() -> None:
    shares = RateShares("me")
    for number in range(20_000):
        shares.receive(f"p{number}", (1,), 0.0)

    assert len(shares._announcements) == 10_000


def test_an_endpoint_that_was_left_out_must_be_announced_again() -> None:
    shares = RateShares("me")
    shares.share(7, 0.0)
    shares.announce(0.0)
    shares.receive("me", (7,), 0.1)
    assert shares.announce(IDLE_SECONDS + 1) == ()

    assert shares.share(7, IDLE_SECONDS + 2) == ALONE
    assert shares.must_announce(7)
