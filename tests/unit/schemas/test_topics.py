from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.topics import DAY_MS, HOUR_MS, MAX_EVENT_BYTES_LIMIT, Topics, TopicSpec, delay_label, parse_delay

DEFAULT = tuple(map(parse_delay, ("5s", "1m", "10m", "1h", "6h")))


@given(st.integers(0, 10**13))
def test_a_delay_is_parsed_from_its_label(milliseconds: int) -> None:
    delay = timedelta(milliseconds=milliseconds)

    assert parse_delay(delay_label(delay)) == delay


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_label_is_the_shortest_name_of_its_delay(number: int, unit: str) -> None:
    delay = parse_delay(f"{number}{unit}")

    assert len(delay_label(delay)) <= max(len(f"{number}{unit}"), 2)
    assert delay_label(parse_delay(delay_label(delay))) == delay_label(delay)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("0s", "0s"),
        ("0ms", "0s"),
        ("250ms", "250ms"),
        ("1000ms", "1s"),
        ("60s", "1m"),
        ("90s", "90s"),
        ("24h", "1d"),
        (" 6h ", "6h"),
    ],
)
def test_labels(text: str, label: str) -> None:
    assert delay_label(parse_delay(text)) == label


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "1.5s", "5 s", "5S", "5s,1m", "1w", "0x5s", "5s5s"])
def test_an_invalid_delay_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="is not a delay; write a whole number and a unit, such as 5s, 1m, 6h or 250ms"):
        parse_delay(text)


def test_a_delay_of_more_than_a_million_years_is_refused() -> None:
    with pytest.raises(ValueError, match="delay"):
        parse_delay("1000000000d")


def test_names() -> None:
    topics = Topics(DEFAULT)

    assert [spec.name for spec in topics.specs()] == [
        "oms.orders",
        "oms.shipments",
        "oms.stock-items",
        "webhooks.endpoints",
        "webhooks.api-keys",
        "webhooks.event-types",
        "webhooks.audit",
        "webhooks.ended-sessions",
        "webhooks.endpoint-health",
        "webhooks.operational-events",
        "webhooks.dispatches",
        "webhooks.attempts",
        "webhooks.dead-letters",
        "webhooks.clock",
        "webhooks.rate-shares",
        "webhooks.held",
        "webhooks.ordered",
        "webhooks.ordered-progress",
        "webhooks.delay.0s",
        "webhooks.delay.5s",
        "webhooks.delay.1m",
        "webhooks.delay.10m",
        "webhooks.delay.1h",
        "webhooks.delay.6h",
    ]
    assert topics.sources == ("oms.orders", "oms.shipments", "oms.stock-items")
    assert (topics.fanout_group, topics.retry_group, topics.recorder_group) == (
        "webhooks.fanout",
        "webhooks.retry",
        "webhooks.recorder",
    )


def test_a_prefix_is_put_before_every_topic_and_group() -> None:
    plain, prefixed = Topics(DEFAULT), Topics(DEFAULT, "eu.")

    assert [spec.name for spec in prefixed.specs()] == [f"eu.{spec.name}" for spec in plain.specs()]
    assert prefixed.fanout_group == "eu.webhooks.fanout"
    assert prefixed.retry_group == "eu.webhooks.retry"
    assert prefixed.recorder_group == "eu.webhooks.recorder"
    assert prefixed.held_group == "eu.webhooks.held"
    assert prefixed.ordered_group == "eu.webhooks.ordered"
    assert prefixed.recorded == tuple(f"eu.{name}" for name in plain.recorded)


def test_delays_are_sorted_and_have_one_topic_each_with_delay_0_first() -> None:
    topics = Topics([timedelta(minutes=1), timedelta(seconds=5), timedelta(seconds=60)])

    assert topics.delay_topics == ("webhooks.delay.0s", "webhooks.delay.5s", "webhooks.delay.1m")
    assert [topics.delay(delay) for delay in topics.delays] == list(topics.delay_topics)


def test_recorded_topics_are_all_except_sources_delays_and_internal_ones() -> None:
    topics = Topics(DEFAULT)

    names = {spec.name for spec in topics.specs()}
    # Operational events are recorded as what is sent of them: dispatches and attempts. Health is a state, not a history; the
    # clock and the rate shares are of the moment. Held deliveries end in an attempt, or in the record of why there is none.
    others = {
        topics.operational_events,
        topics.endpoint_health,
        topics.api_keys,
        topics.event_types,
        topics.ended_sessions,
        topics.clock,
        topics.rate_shares,
        topics.held,
        topics.ordered,
        topics.ordered_progress,
    }
    assert set(topics.recorded) == names - set(topics.sources) - set(topics.delay_topics) - others


@pytest.mark.parametrize("spec", Topics(DEFAULT).specs(), ids=lambda spec: spec.name)
def test_configs(spec: TopicSpec) -> None:
    config = spec.config()

    # A body of the largest size that a deployment can allow fits, with a quarter of its size for metadata.
    assert spec.name == "webhooks.ordered-progress" or int(config["max.message.bytes"]) >= MAX_EVENT_BYTES_LIMIT * 5 // 4
    if spec.name in {"webhooks.endpoints", "webhooks.endpoint-health", "webhooks.api-keys", "webhooks.event-types"}:
        assert config["cleanup.policy"] == "compact"
        assert int(config["min.compaction.lag.ms"]) == (0 if spec.name == "webhooks.endpoint-health" else 7 * DAY_MS)
        assert "retention.ms" not in config
        assert spec.partitions == 1
    elif spec.name == "webhooks.ordered-progress":
        assert config["cleanup.policy"] == "compact"
        # It is read whole when a partition changes hands, and its largest record must fit into a segment.
        assert int(config["max.message.bytes"]) < int(config["segment.bytes"]) <= 8 * 1024 * 1024
        assert spec.partitions is None, "as many as webhooks.ordered has"
    else:
        assert config["cleanup.policy"] == "delete"
        is_of_the_moment = spec.name in {"webhooks.clock", "webhooks.rate-shares"}
        assert int(config["retention.ms"]) >= (HOUR_MS if is_of_the_moment else 7 * DAY_MS)
        assert "min.compaction.lag.ms" not in config
        assert spec.partitions == (
            1 if spec.name in {"webhooks.ended-sessions", "webhooks.clock", "webhooks.rate-shares"} else None
        )


@pytest.mark.parametrize("days", [0.001, 14, 400])
def test_held_deliveries_are_retained_longer_than_they_may_be_held(days: float) -> None:
    topics = Topics(DEFAULT, hold=timedelta(days=days))
    spec = next(spec for spec in topics.specs() if spec.name == topics.held)

    assert spec.retention_ms >= (days + 7) * DAY_MS
    assert spec.broker_time


def test_dead_letters_are_kept_longest() -> None:
    specs = {spec.name: spec for spec in Topics(DEFAULT).specs()}

    assert specs["webhooks.dead-letters"].retention_ms == 30 * DAY_MS


def _retention(delay: timedelta) -> timedelta:
    topics = Topics([delay])
    spec = next(spec for spec in topics.specs() if spec.name == topics.delay(delay))
    return timedelta(milliseconds=spec.retention_ms)


@given(st.timedeltas(timedelta(0), timedelta(days=6)))
def test_delay_topics_retain_records_for_longer_than_they_wait(delay: timedelta) -> None:
    assert _retention(delay) >= delay + timedelta(days=1)


@pytest.mark.parametrize("days", [8, 10, 30])
def test_delay_topics_of_long_delays_retain_records_for_longer_than_they_wait(days: int) -> None:
    assert _retention(timedelta(days=days)) > timedelta(days=days)


def test_a_dead_letter_has_room_for_the_largest_source_record_and_its_header() -> None:
    specs = {spec.name: spec for spec in Topics(DEFAULT).specs()}

    assert specs["webhooks.dead-letters"].max_record_bytes > specs["oms.orders"].max_record_bytes
