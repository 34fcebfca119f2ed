"""A recreated topic is distinguished from the known one."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

from pipeline.broker.topic_ids import TopicIds

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ORDERS, ENDPOINTS, CLOCK = "oms.orders", "webhooks.endpoints", "webhooks.clock"


def known(ids: dict[str, UUID]) -> TopicIds:
    """Topics that an earlier process has seen."""
    before = TopicIds([])
    before.note_current(ids)
    record = before.to_write(NOW)
    assert record is not None
    topics = TopicIds([ORDERS, ENDPOINTS])
    topics.learn(record)
    return topics


def test_a_topic_seen_for_the_first_time_is_recorded_and_accepted() -> None:
    topics = TopicIds([ORDERS])
    topics.note_current({ORDERS: uuid4(), CLOCK: uuid4()})
    record = topics.to_write(NOW)
    assert topics.problem() is None
    assert record is not None
    assert set(record.ids) == {ORDERS, CLOCK}
    topics.learn(record)
    assert topics.to_write(NOW) is None, "once"


def test_the_same_topics_are_accepted() -> None:
    ids = {ORDERS: uuid4(), ENDPOINTS: uuid4()}
    topics = known(ids)
    topics.note_current(ids)
    assert topics.problem() is None
    assert topics.to_write(NOW) is None


def test_a_recreated_topic_is_refused_with_the_command_to_accept_it() -> None:
    ids = {ORDERS: uuid4(), ENDPOINTS: uuid4()}
    topics = known(ids)
    topics.note_current(ids | {ORDERS: uuid4()})
    assert topics.recreated() == [ORDERS]
    assert (topics.problem() or "").endswith("or accept the new one: oms-webhooks topics --accept-recreated oms.orders")
    assert topics.to_write(NOW) is None, "it is not recorded as known"


def test_a_topic_accepted_by_hand_is_no_problem() -> None:
    ids = {ORDERS: uuid4(), ENDPOINTS: uuid4()}
    topics = known(ids)
    topics.note_current({ORDERS: uuid4(), ENDPOINTS: uuid4()})
    topics.learn(topics.record_accepting([ORDERS], NOW))
    assert topics.recreated() == [ENDPOINTS], "only the named one"
    topics.learn(topics.record_accepting([ENDPOINTS], NOW))
    assert topics.problem() is None


def test_topics_whose_content_this_process_does_not_read_do_not_matter() -> None:
    topics = known({CLOCK: uuid4(), ORDERS: uuid4()})
    topics.note_current({CLOCK: uuid4()})
    assert topics.problem() is None


def test_a_broker_without_ids_is_trusted() -> None:
    topics = known({ORDERS: uuid4()})
    topics.note_current({})
    assert topics.problem() is None
