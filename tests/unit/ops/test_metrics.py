"""The rules of the metrics' file: names, units, and labels that stay bounded."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from pipeline.ops import metrics

ALL = {name: value for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase)}
BOUNDED = {
    "certificate",
    "check",
    "code",
    "delay",
    "dependency",
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


@pytest.mark.parametrize("name", ALL)
def test_a_metric_is_named_and_described(name: str) -> None:
    [family] = ALL[name].describe()

    assert family.name.startswith("oms_webhooks_")
    assert len(family.documentation) > 10
    assert not family.documentation.endswith(".")


@pytest.mark.parametrize("name", ALL)
def test_no_label_is_unbounded(name: str) -> None:
    assert set(ALL[name]._labelnames) <= BOUNDED


@pytest.mark.parametrize("name", [name for name, metric in ALL.items() if isinstance(metric, Histogram)])
def test_durations_are_in_seconds(name: str) -> None:
    [family] = ALL[name].describe()

    assert family.name.endswith(("_seconds", "_rows"))


def test_there_are_metrics_of_each_kind() -> None:
    assert {type(metric) for metric in ALL.values()} >= {Counter, Gauge, Histogram, Info}


def test_they_can_be_scraped_and_say_which_version_runs() -> None:
    text = generate_latest(metrics.registry).decode()

    assert 'oms_webhooks_build_info{version="' in text


def test_no_metric_is_defined_elsewhere() -> None:
    """One file holds them all, so that an operator finds them."""
    root = Path(__file__).parents[3]
    sources = [*(root / "pipeline").rglob("*.py"), *(root / "consumers").rglob("*.py")]

    importers = [
        path.relative_to(root).as_posix()
        for path in sources
        if "from prometheus_client import Counter" in path.read_text("utf-8")
    ]
    assert importers == ["pipeline/ops/metrics.py"]
