"""What a process needs from Kafka, derived from what brokers say about its topics."""

from __future__ import annotations

from typing import Any

from pipeline.broker.kafka.replication import leaders_of, leaders_problem, retention_problem, topic_problem


def topic(name: str, *in_sync: int, leaderless: tuple[int, ...] = ()) -> dict[str, Any]:
    """Return a topic of three replicas, with this many in sync in each partition."""
    return {
        "name": name,
        "partitions": [
            {
                "partition_index": number,
                "leader_id": -1 if number in leaderless else 1,
                "replica_nodes": [1, 2, 3],
                "isr_nodes": [1, 2, 3][:count],
            }
            for number, count in enumerate(in_sync)
        ],
    }


ATTEMPTS, ORDERS = "webhooks.attempts", "oms.orders"
ROLE: dict[str, Any] = {"read": {ORDERS}, "written": {ATTEMPTS}, "in_sync": {ATTEMPTS: 2, ORDERS: 2}}


def test_all_is_well() -> None:
    assert topic_problem([topic(ATTEMPTS, 3, 2), topic(ORDERS, 3, 3)], **ROLE) is None
    assert topic_problem([], **ROLE) is None, "missing topics are created at the start"


def test_too_few_in_sync_replicas_for_a_write() -> None:
    assert topic_problem([topic(ATTEMPTS, 1, 3, 1)], **ROLE) == (
        "A broker answers, but not every topic can be used. webhooks.attempts, partitions 0, 2: 1 replica is in sync, and min.insync.replicas "
        "is 2, so writes are refused. Bring the missing brokers back."
    )


def test_a_topic_that_is_only_read_needs_just_a_leader() -> None:
    assert topic_problem([topic(ORDERS, 1)], **ROLE) is None
    found = topic_problem([topic(ORDERS, 1, 1, leaderless=(1,))], **ROLE) or ""
    assert "oms.orders, partition 1: no leader, so nothing can be read or written" in found


def test_unrelated_topics_do_not_matter() -> None:
    assert topic_problem([topic("payments", 0, leaderless=(0,))], **ROLE) is None


def test_if_the_minimum_is_unknown_one_replica_is_enough() -> None:
    assert topic_problem([topic(ATTEMPTS, 1)], **ROLE | {"in_sync": {}}) is None


def test_many_topics_make_one_readable_sentence() -> None:
    names = [f"webhooks.delay.{number}s" for number in range(30)]
    found = topic_problem([topic(name, 0) for name in names], read=(), written=names, in_sync={}) or ""
    assert "; and 27 more topics." in found
    assert len(found) < 600


def test_silent_leaders_are_named_with_the_partitions_they_lead() -> None:
    led = leaders_of([topic(ORDERS, 3, 3, leaderless=(1,)), topic(ATTEMPTS, 3)])
    assert led == {1: ["oms.orders, partition 0", "webhooks.attempts, partition 0"]}
    assert leaders_problem(led, {}) is None
    assert leaders_problem(led, {2: "It is down."}) is None, "it leads nothing of ours"
    found = leaders_problem(led, {1: "No connection within 2 s."}) or ""
    assert "Broker 1, which leads oms.orders, partition 0, and 1 more: No connection within 2 s." in found


def test_topics_with_too_short_a_retention_are_named() -> None:
    required = {"webhooks.held": 1_000, "webhooks.ordered": 1_000, "webhooks.delay.5s": 10}
    kept = {name: {"retention.ms": "1000", "retention.bytes": "-1"} for name in required}
    assert retention_problem(kept, required) is None
    assert retention_problem({}, required) is None, "without the permission to see it"
    assert retention_problem(kept | {"webhooks.held": {"retention.ms": "-1"}}, required) is None, "for ever"
    found = retention_problem(kept | {"webhooks.held": {"retention.ms": "999", "retention.bytes": "5000"}}, required) or ""
    assert "webhooks.held: retention.ms is 999, and must be 1000; webhooks.held: retention.bytes is 5000, and must be -1" in found
