"""A topic that was recreated is told from the one that is known."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

from pipeline.broker.topic_ids import TopicIds

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ORDERS, ENDPOINTS, CLOCK = "oms.orders", "webhooks.endpoints", "webhooks.clock"


def known(ids: dict[str, UUID]) -> TopicIds:
    """A process of before has seen these."""
    before = TopicIds([])
    before.note_current(ids)
    record = before.to_write(NOW)
    assert record is not None
    topics = TopicIds([ORDERS, ENDPOINTS])
    topics.learn(record)
    return topics


def test_what_is_seen_first_is_written_down_and_no_problem() -> None:
    topics = TopicIds([ORDERS])
    topics.note_current({ORDERS: uuid4(), CLOCK: uuid4()})
    record = topics.to_write(NOW)
    assert topics.problem() is None
    assert record is not None
    assert set(record.ids) == {ORDERS, CLOCK}
    topics.learn(record)
    assert topics.to_write(NOW) is None, "once"


def test_the_same_topics_are_no_problem() -> None:
    ids = {ORDERS: uuid4(), ENDPOINTS: uuid4()}
    topics = known(ids)
    topics.note_current(ids)
    assert topics.problem() is None
    assert topics.to_write(NOW) is None


def test_a_topic_that_was_recreated_is_refused_in_words_that_name_the_command() -> None:
    ids = {ORDERS: uuid4(), ENDPOINTS: uuid4()}
    topics = known(ids)
    topics.note_current(ids | {ORDERS: uuid4()})
    assert topics.recreated() == [ORDERS]
    assert (topics.problem() or "").endswith("or accept the new one: oms-webhooks topics --accept-recreated oms.orders")
    assert topics.to_write(NOW) is None, "it is not taken for known"


def test_an_accepted_topic_is_no_problem() -> None:
    ids = {ORDERS: uuid4(), ENDPOINTS: uuid4()}
    topics = known(ids)
    topics.note_current({ORDERS: uuid4(), ENDPOINTS: uuid4()})
    topics.learn(topics.record_accepting([ORDERS], NOW))
    assert topics.recreated() == [ENDPOINTS], "only what was named"
    topics.learn(topics.record_accepting([ENDPOINTS], NOW))
    assert topics.problem() is None


def test_topics_whose_content_this_process_does_not_read_do_not_matter() -> None:
    topics = known({CLOCK: uuid4(), ORDERS: uuid4()})
    topics.note_current({CLOCK: uuid4()})
    assert topics.problem() is None


def test_a_broker_without_ids_is_taken_at_its_word() -> None:
    topics = known({ORDERS: uuid4()})
    topics.note_current({})
    assert topics.problem() is None
