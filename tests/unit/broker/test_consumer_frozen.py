"""What a group's member does when its process was frozen."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from pipeline.broker.consumer import GroupConsumer

CONFIG = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 2_000}


def consumer(**options: Any) -> GroupConsumer:
    return GroupConsumer(
        CONFIG, group="g", topics=["t"], max_outstanding=1, max_outstanding_bytes=1024, on_records=lambda _: None, **options
    )


class Frozen:
    """A member whose process was frozen, and kafka-python's heartbeat as it was before."""

    def __init__(self, seconds: float) -> None:
        self.heartbeat = SimpleNamespace(
            last_send=time.monotonic() - seconds - 1, last_receive=time.monotonic() - seconds, last_reset=0.0
        )
        self.kafka: Any = SimpleNamespace(_coordinator=SimpleNamespace(heartbeat=self.heartbeat))
        self.member = consumer()
        self.member._looked_at = time.monotonic() - seconds

    @property
    def is_in_doubt(self) -> bool:
        return self.member._is_in_doubt(self.kafka)


def test_a_short_silence_raises_no_doubt() -> None:
    assert not Frozen(3.0).is_in_doubt


def test_after_a_long_silence_an_answer_to_a_new_heartbeat_is_waited_for() -> None:
    frozen = Frozen(5.0)
    assert frozen.is_in_doubt
    frozen.heartbeat.last_receive = time.monotonic()  # the answer to what was sent before the silence
    assert frozen.is_in_doubt
    frozen.heartbeat.last_send = time.monotonic()
    assert frozen.is_in_doubt
    frozen.heartbeat.last_receive = time.monotonic()
    assert not frozen.is_in_doubt


def test_who_has_joined_anew_is_in_no_doubt() -> None:
    frozen = Frozen(60.0)
    assert frozen.is_in_doubt
    frozen.heartbeat.last_reset = time.monotonic()
    assert not frozen.is_in_doubt
