from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from consumers.cli.tables import sizing_texts
from pipeline.core.sizing import Costs, Deployment, Load, size

GUIDE = (Path(__file__).parents[3] / "docs" / "sizing.md").read_text(encoding="utf-8")


def test_a_small_load_needs_two_of_each_so_that_one_may_die() -> None:
    needed = size(Load(1))
    assert (needed.fanout_processes, needed.retry_processes, needed.recorder_processes) == (2, 2, 2)
    assert (needed.partitions, needed.clickhouse_shards) == (6, 1)


def test_by_hand() -> None:
    """10,000 events a second at 2 endpoints: 20,000 deliveries of 250 µs are 5 cores, at half of their power 10 processes."""
    needed = size(Load(10_000), Costs(delivery_us=250), Deployment(utilisation=0.5))
    assert needed.deliveries_per_second == 20_000
    assert needed.attempts_per_second == 23_000
    assert needed.fanout_processes == 10
    assert needed.partitions == 20


def test_processes_follow_the_peak_and_disk_the_average() -> None:
    calm, busy = size(Load(10_000, average_share=0.1)), size(Load(10_000, average_share=0.2))
    assert busy.fanout_processes == calm.fanout_processes
    assert busy.clickhouse_bytes == pytest.approx(2 * calm.clickhouse_bytes)
    assert busy.kafka_bytes == pytest.approx(2 * calm.kafka_bytes)


def test_disk_follows_what_is_kept_and_how_often() -> None:
    kept = Deployment(retention_days=100, clickhouse_replicas=1)
    once = size(Load(100), None, kept)
    assert size(Load(100), None, replace(kept, retention_days=300)).clickhouse_bytes == pytest.approx(3 * once.clickhouse_bytes)
    assert size(Load(100), None, replace(kept, clickhouse_replicas=2)).clickhouse_bytes == pytest.approx(
        2 * once.clickhouse_bytes
    )


def test_random_text_takes_almost_three_times_the_disk() -> None:
    kept = Deployment(retention_days=100, clickhouse_replicas=1)
    plain, half, noisy = (size(Load(100, deliveries_per_event=0, noise=share), None, kept) for share in (0.0, 0.5, 1.0))
    assert noisy.clickhouse_bytes == pytest.approx(plain.clickhouse_bytes * 1.55 / 0.55)
    assert half.clickhouse_bytes == pytest.approx((plain.clickhouse_bytes + noisy.clickhouse_bytes) / 2)


def test_a_topic_has_only_so_many_partitions() -> None:
    with pytest.raises(ValueError, match="use several prefixes"):
        size(Load(1_000_000))


def rows(*columns: dict[str, str]) -> list[str]:
    return ["| " + " | ".join([name, *(column[name] for column in columns)]) + " |" for name in columns[0]]


def test_the_guide_shows_what_the_model_says() -> None:
    """After a change of the costs: copy the lines of the failure into docs/sizing.md."""
    examples = rows(*(sizing_texts(size(Load(events))) for events in (1, 100, 10_000, 100_000)))
    short = sizing_texts(size(Load(100_000), None, Deployment(retention_days=30)))
    assert [line for line in examples if line not in GUIDE] == []
    assert f"{short['ClickHouse disk']} on {short['ClickHouse shards']} shards" in GUIDE
    assert f"**{Costs().delivery_us:g} µs**" in GUIDE
