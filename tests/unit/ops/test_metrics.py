"""The rules for the file of metrics: names, units, and labels with a bounded number of values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase

from pipeline.ops import metrics
from pipeline.ops.collectors import LoopCounter, LoopHistogram, LoopMetric, TopEndpoints

ALL = {name: value for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase | LoopMetric)}
BOUNDED = {
    "certificate",
    "check",
    "code",
    "delay",
    "dependency",
    "endpoint",  # of TopEndpoints only, which limits it
    "event",
    "group",
    "kind",
    "method",
    "outcome",
    "partition",
    "reason",
    "result",
    "role",
    "route",
    "state",
    "status",
    "table",
    "topic",
}


def labels_of(metric: Any) -> set[str]:
    return set(metric._labelnames if isinstance(metric, MetricWrapperBase) else metric.labelnames)


@pytest.mark.parametrize("name", ALL)
def test_a_metric_is_named_and_described(name: str) -> None:
    [family] = ALL[name].describe()

    assert family.name.startswith("oms_webhooks_")
    assert len(family.documentation) > 10
    assert not family.documentation.endswith(".")


@pytest.mark.parametrize("name", ALL)
def test_no_label_is_unbounded(name: str) -> None:
    metric = ALL[name]

    assert labels_of(metric) <= BOUNDED


@pytest.mark.parametrize("name", [name for name, metric in ALL.items() if isinstance(metric, Histogram | LoopHistogram)])
def test_durations_are_in_seconds(name: str) -> None:
    [family] = ALL[name].describe()

    assert family.name.endswith(("_seconds", "_rows"))


def test_there_are_metrics_of_each_kind() -> None:
    assert {type(metric) for metric in ALL.values()} >= {Counter, Gauge, Histogram, Info}


def test_metrics_can_be_scraped_and_name_the_running_version() -> None:
    text = generate_latest(metrics.registry).decode()

    assert 'oms_webhooks_build_info{version="' in text


def test_only_the_endpoints_that_fail_most_are_shown() -> None:
    top = TopEndpoints("attempts", "Attempts")
    top.show(2)
    for endpoint, outcomes in {7: "dddd", 8: "rrd", 9: "rx", 10: "r", 11: "ddddddddr"}.items():
        for outcome in outcomes:
            top.count(endpoint, {"d": "delivered", "r": "repeated", "x": "exhausted"}[outcome])

    [family] = top.collect()

    shown = {(sample.labels["endpoint"], sample.labels["outcome"]): sample.value for sample in family.samples}
    assert shown == {("8", "repeated"): 2, ("8", "delivered"): 1, ("9", "repeated"): 1, ("9", "exhausted"): 1}


def test_endpoints_are_labels_only_if_configured() -> None:
    [family] = TopEndpoints("attempts", "Attempts").collect()

    assert family.samples == []
    assert "endpoint" not in {
        label for metric in ALL.values() if metric is not metrics.ENDPOINT_ATTEMPTS for label in labels_of(metric)
    }


def test_every_metric_is_set_somewhere() -> None:
    root = Path(__file__).parents[3]
    sources = [*(root / "pipeline").rglob("*.py"), *(root / "consumers").rglob("*.py")]
    code = "".join(path.read_text("utf-8") for path in sources if path.name != "metrics.py")

    assert [name for name in ALL if name != "BUILD" and f"metrics.{name}" not in code] == []


def test_no_metric_is_defined_elsewhere() -> None:
    """One file contains them all, so that an operator finds them."""
    root = Path(__file__).parents[3]
    sources = [*(root / "pipeline").rglob("*.py"), *(root / "consumers").rglob("*.py")]

    importers = [
        path.relative_to(root).as_posix()
        for path in sources
        if "from prometheus_client import Counter" in path.read_text("utf-8")
    ]
    assert importers == ["pipeline/ops/metrics.py"]


def test_our_event_loop_metrics_agree_with_the_librarys() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bounds = (0.1, 1.0, 10.0)
    counter, library_counter = LoopCounter("made", "Made", ["a", "b"]), Counter("made", "Made", ["a", "b"], registry=theirs)
    histogram = LoopHistogram("took_seconds", "Took", bounds, ["a"])
    plain = LoopHistogram("late_seconds", "Late", bounds)
    library_histogram = Histogram("took_seconds", "Took", ["a"], buckets=bounds, registry=theirs)
    Histogram("late_seconds", "Late", buckets=bounds, registry=theirs)
    for collector in (counter, histogram, plain):
        ours.register(collector)

    counter.count("x", "y")
    counter.count("x", "y", number=3)
    library_counter.labels("x", "y").inc(4)
    for amount in (0.0, 0.1, 0.100001, 5.0, 10.0, 11.0):
        histogram.observe(amount, "x", exemplar={"trace_id": f"{amount:f}"})
        library_histogram.labels("x").observe(amount, {"trace_id": f"{amount:f}"})

    def shown(registry: CollectorRegistry) -> set[str]:
        encode, _ = choose_encoder("application/openmetrics-text; version=1.0.0")
        lines = encode(registry).decode().splitlines()
        # The library's also say when a series began, and when an exemplar was seen.
        return {re.sub(r"(# {.*} \S+) \S+$", r"\1", line) for line in lines if "_created" not in line}

    assert shown(ours) == shown(theirs)
