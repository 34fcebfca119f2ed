"""Which groups are affected when a topic is recreated."""

from __future__ import annotations

from datetime import timedelta

import pytest

from consumers.cli.recreated_topics import _TABLES, groups_that_read
from pipeline.store.rows import Table
from schemas.topics import Topics

TOPICS = Topics([timedelta(seconds=5)], prefix="eu.")


@pytest.mark.parametrize(
    ("topic", "groups"),
    [
        (TOPICS.orders, [TOPICS.fanout_group]),
        (TOPICS.operational_events, [TOPICS.fanout_group]),
        (TOPICS.delay_topics[1], [TOPICS.retry_group]),
        (TOPICS.attempts, [TOPICS.recorder_group]),
        (TOPICS.endpoints, [TOPICS.recorder_group]),
        (TOPICS.held, [TOPICS.held_group]),
        (TOPICS.api_keys, []),
    ],
)
def test_groups_that_may_have_committed_offsets(topic: str, groups: list[str]) -> None:
    assert groups_that_read(TOPICS, topic) == groups


def test_each_recorded_topic_has_its_table() -> None:
    assert dict(zip(TOPICS.recorded, _TABLES, strict=True)) == {
        TOPICS.attempts: Table.ATTEMPTS,
        TOPICS.dispatches: Table.EVENTS,
        TOPICS.dead_letters: Table.DEAD_LETTERS,
        TOPICS.endpoints: Table.ENDPOINT_CHANGES,
        TOPICS.audit: Table.AUDIT_LOG,
    }
