"""Ended sessions, whichever process ended them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from pipeline.broker.api import Record
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.web.errors import StartingError
from pipeline.web.revoked_sessions import MAX_PER_KEY, SESSION_TIME, EndedSessions
from schemas.codec import to_json
from schemas.ended_session import EndedSession
from tests.unit.fake_kafka import record

NOW = datetime.fromisoformat("2026-03-02T15:04:00Z")
UNTIL = NOW + timedelta(hours=3)
TOPIC = "webhooks.ended-sessions"


class Scene:
    """The ended sessions of a process, with a frozen clock."""

    def __init__(self) -> None:
        self.now = NOW
        self.ended = EndedSessions(MemoryBroker(), TOPIC, lambda: self.now)
        self.ended.table.is_caught_up = True

    def read(self, *records: Record) -> None:
        self.ended._apply(records)


def ended(session_id: str, until: datetime = UNTIL, key_id: str = "0a1b2c3d") -> Record:
    value = to_json(EndedSession(key_id=key_id, until=until, ended_at=NOW))
    return record(value, topic=TOPIC, key=session_id.encode())


def test_a_session_ended_by_another_process_has_ended_here() -> None:
    scene = Scene()
    scene.read(ended("one"))
    assert scene.ended.has("one", "0a1b2c3d", UNTIL)
    assert not scene.ended.has("other", "0a1b2c3d", UNTIL)
    assert not scene.ended.has("one", "another-key", UNTIL)


def test_sessions_are_unknown_until_the_topic_has_been_read() -> None:
    scene = Scene()
    scene.ended.table.is_caught_up = False
    with pytest.raises(StartingError):
        scene.ended.has("one", "0a1b2c3d", UNTIL)


def test_an_unusable_record_is_ignored() -> None:
    scene = Scene()
    scene.read(
        record(b"{", topic=TOPIC, key=b"x"),
        record(None, topic=TOPIC, key=b"y"),
        record(b"{}", topic=TOPIC, key=None),
        ended("one"),
    )
    assert scene.ended.has("one", "0a1b2c3d", UNTIL)


def test_sessions_that_would_have_expired_are_forgotten() -> None:
    scene = Scene()
    scene.read(ended("over", NOW), ended("one"), ended("for ever", NOW + timedelta(days=4000)))
    assert [list(of_key) for of_key in scene.ended._ended.values()] == [["one"]]
    scene.now = UNTIL
    scene.read(ended("two", UNTIL + timedelta(hours=1)))
    assert [list(of_key) for of_key in scene.ended._ended.values()] == [["two"]]


def test_many_logouts_take_bounded_memory_and_affect_no_other_key() -> None:
    scene = Scene()
    for number in range(5 * MAX_PER_KEY):
        scene.read(ended(f"session {number}", UNTIL + timedelta(seconds=number)))
    scene.read(ended("of another key", key_id="other"))
    assert sum(map(len, scene.ended._ended.values())) <= MAX_PER_KEY + 1
    for number in range(5 * MAX_PER_KEY):
        assert scene.ended.has(f"session {number}", "0a1b2c3d", UNTIL + timedelta(seconds=number))
    assert not scene.ended.has("younger", "0a1b2c3d", NOW + SESSION_TIME)
    assert not scene.ended.has("another", "other", UNTIL)
