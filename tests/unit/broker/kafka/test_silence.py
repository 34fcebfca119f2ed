"""What a group's member does when its process was frozen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.broker.consumer import GroupConsumer
from pipeline.broker.kafka.silence import Silence
from pipeline.broker.record import Partition, Record

CONFIG = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 2_000}
FROZEN_AT = 1_000.0


class Member:
    """A member that looked for the last time at FROZEN_AT, and kafka-python's heartbeat as it was then."""

    def __init__(self) -> None:
        self.heartbeat = SimpleNamespace(last_send=FROZEN_AT - 1, last_receive=FROZEN_AT - 0.9, last_reset=FROZEN_AT - 60)
        self._kafka: Any = SimpleNamespace(_coordinator=SimpleNamespace(heartbeat=self.heartbeat))
        self._silence = Silence("g", CONFIG)
        assert not self.is_in_doubt(0.0)

    def is_in_doubt(self, seconds: float) -> bool:
        """So long after FROZEN_AT."""
        return self._silence.leaves_in_doubt(self._kafka, FROZEN_AT + seconds)


def test_a_short_silence_raises_no_doubt() -> None:
    assert not Member().is_in_doubt(3.9)


def test_after_a_long_silence_an_answer_to_a_new_heartbeat_is_waited_for() -> None:
    member = Member()
    assert member.is_in_doubt(5.0)
    member.heartbeat.last_receive = FROZEN_AT + 5.1  # the answer to what was sent before the silence
    assert member.is_in_doubt(5.2)
    member.heartbeat.last_send = FROZEN_AT + 5.3
    assert member.is_in_doubt(5.4)
    member.heartbeat.last_receive = FROZEN_AT + 5.5
    assert not member.is_in_doubt(5.6)


def test_who_has_joined_anew_is_in_no_doubt() -> None:
    member = Member()
    assert member.is_in_doubt(60.0)
    member.heartbeat.last_reset = FROZEN_AT + 61
    assert not member.is_in_doubt(61.1)


def test_nothing_is_handed_over_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Record] = []
    consumer = GroupConsumer(
        CONFIG, group="g", topics=["t"], max_outstanding=9, max_outstanding_bytes=9_999, on_records=taken.extend
    )
    loop: Any = SimpleNamespace(call_soon_threadsafe=lambda callback, batch: callback(batch))
    consumer._loop = loop
    consumer.assigned([("t", 0)])
    record: Any = SimpleNamespace(offset=0, timestamp=0, key=b"", value=b"", headers=[])
    consumer._buffers.add(Partition("t", 0), consumer._assignment.epoch(Partition("t", 0)) or 0, [record])
    doubts = iter([True, False])
    monkeypatch.setattr(Silence, "leaves_in_doubt", lambda *_: next(doubts))

    consumer._hand_over(None)
    assert taken == []
    consumer._hand_over(None)
    assert [each.offset for each in taken] == [0]
