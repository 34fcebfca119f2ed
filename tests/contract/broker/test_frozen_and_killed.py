"""Group members frozen beyond their session timeout, or killed: no record is missing, and few are read twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.broker.api import Pending, Position
from tests.contract.broker.backends import RealBackend, settled
from tests.waiting import wait_until

pytestmark = [pytest.mark.apache, pytest.mark.timeout(240)]

IN_HAND = 50
PARTITIONS = 4


class Group:
    """The processes by slot, and the records that they have started."""

    def __init__(self, kafka: RealBackend, topic: str, directory: Path) -> None:
        self._kafka = kafka
        self._topic = topic
        self._directory = directory
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, slot: str) -> None:
        given = (self._kafka.settings.kafka_bootstrap_servers, self._kafka.settings.kafka_client, self._kafka.group, self._topic)
        command = [sys.executable, "-m", "tests.contract.broker.reader_process", *given, slot, str(self._directory / slot)]
        self.running[slot] = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def begun_by(self, slot: str) -> list[tuple[int, ...]]:
        file = self._directory / slot
        lines = file.read_text().splitlines() if file.exists() else []
        return [tuple(map(int, line.split())) for line in lines if line.count(" ") == 1]

    def begun(self) -> Counter[tuple[int, ...]]:
        return Counter(place for slot in self.running for place in self.begun_by(slot))


@pytest.fixture
def group(kafka: RealBackend, tmp_path: Path) -> Iterator[Group]:
    found = Group(kafka, kafka.topic(partitions=PARTITIONS), tmp_path)
    yield found
    for process in found.running.values():
        process.kill()
        process.wait()


@contextmanager
def load(kafka: RealBackend, topic: str) -> Iterator[list[Position]]:
    """Write about 70 records a second until the block ends; yields their positions."""
    positions: list[Position] = []
    stop = threading.Event()
    writer = kafka.writer(topic)

    def write() -> None:
        sent: list[Pending] = []
        while not stop.wait(0.03):
            for _ in range(2):
                sent.append(writer.send(topic, len(sent) % PARTITIONS, None, b"x", (), None))
            writer.serve()
        positions.extend(settled(writer, sent))

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield positions
    finally:
        stop.set()
        thread.join()


def goes_on(group: Group, slot: str) -> None:
    """Wait until a process has started more records."""
    before = len(group.begun_by(slot))
    wait_until(lambda: len(group.begun_by(slot)) > before)


def holds_all(group: Group, slot: str) -> None:
    """Wait until a process reads every partition."""
    wait_until(lambda: len({partition for partition, _ in group.begun_by(slot)[-40:]}) == PARTITIONS)


def everything_was_begun(group: Group, positions: list[Position], repeats: int) -> None:
    wanted = {(position.partition, position.offset) for position in positions}
    wait_until(lambda: group.begun().keys() >= wanted)
    twice = sum(times - 1 for times in group.begun().values())
    assert twice <= repeats, f"{twice} of {len(wanted)} were started again"


def test_a_process_frozen_beyond_its_session_starts_no_records_of_the_others(kafka: RealBackend, group: Group) -> None:
    group.start("a")
    group.start("b")
    with load(kafka, group._topic) as positions:
        goes_on(group, "a")
        goes_on(group, "b")
        for slot in ("a", "b", "a"):
            other = {"a": "b", "b": "a"}[slot]
            group.running[slot].send_signal(signal.SIGSTOP)
            holds_all(group, other)
            group.running[slot].send_signal(signal.SIGCONT)
            goes_on(group, slot)
    everything_was_begun(group, positions, repeats=3 * (IN_HAND + 100))


def test_a_killed_process_continues_where_it_was(kafka: RealBackend, group: Group) -> None:
    group.start("a")
    group.start("b")
    with load(kafka, group._topic) as positions:
        for slot in ("a", "b", "a"):
            goes_on(group, "a")
            goes_on(group, "b")
            group.running[slot].kill()
            group.running[slot].wait()
            group.start(slot)
            goes_on(group, slot)
    everything_was_begun(group, positions, repeats=3 * (IN_HAND + 100))
