"""Metrics for the event loop only, on the path of every delivery.

prometheus-client's metrics take a lock for each count, and scan their buckets: 0.4 µs for a counter and 1 to 2 µs for a
histogram, with seven counts per delivery. These count without a lock, so they may only be used on the event loop, where scrapes
run too.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar


class LoopMetric(Collector):
    """A metric that is used on the event loop."""

    labelnames: tuple[str, ...]

    @abstractmethod
    def describe(self) -> Iterable[Metric]:
        """The metric without samples."""


class LoopCounter(LoopMetric):
    def __init__(self, name: str, documentation: str, labelnames: Sequence[str]) -> None:
        self.labelnames = tuple(labelnames)
        self._name = name
        self._documentation = documentation
        self._counts: defaultdict[tuple[str, ...], int] = defaultdict(int)

    def count(self, *labels: str, number: int = 1) -> None:
        """Add ``number`` for these values of the labels, in their order."""
        self._counts[labels] += number

    def describe(self) -> Iterable[CounterMetricFamily]:
        return [CounterMetricFamily(self._name, self._documentation, labels=self.labelnames)]

    def collect(self) -> Iterable[CounterMetricFamily]:
        [family] = self.describe()
        for labels, number in self._counts.items():
            family.add_metric(labels, number)
        return [family]


class _Series:
    __slots__ = ("counts", "exemplars", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.exemplars: dict[int, Exemplar] = {}
        self.total = 0.0


class LoopHistogram(LoopMetric):
    """A histogram. ``buckets`` are ascending upper bounds; one for larger values is added."""

    def __init__(self, name: str, documentation: str, buckets: Sequence[float], labelnames: Sequence[str] = ()) -> None:
        self.labelnames = tuple(labelnames)
        self._name = name
        self._documentation = documentation
        self._bounds = (*buckets, inf)
        self._names = [str(float(bound)) for bound in buckets] + ["+Inf"]
        self._series: dict[tuple[str, ...], _Series] = {}
        if not labelnames:  # the only series exists from the beginning, as Prometheus recommends
            self._series[()] = _Series(len(self._bounds))

    def observe(self, amount: float, *labels: str, exemplar: Mapping[str, str] | None = None) -> None:
        """Observe an amount, for these values of the labels, in their order."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series(len(self._bounds))
        bucket = bisect_left(self._bounds, amount)
        series.counts[bucket] += 1
        series.total += amount
        if exemplar is not None:
            series.exemplars[bucket] = Exemplar(dict(exemplar), amount, time.time())

    def describe(self) -> Iterable[HistogramMetricFamily]:
        return [HistogramMetricFamily(self._name, self._documentation, labels=self.labelnames)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        [family] = self.describe()
        for labels, series in self._series.items():
            family.add_metric(labels, self._cumulative(series), series.total)
        return [family]

    def _cumulative(self, series: _Series) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        so_far = 0
        for index, name in enumerate(self._names):
            so_far += series.counts[index]
            exemplar = series.exemplars.get(index)
            buckets.append((name, so_far) if exemplar is None else (name, so_far, exemplar))
        return buckets


class TopEndpoints(LoopMetric):
    """Attempts by endpoint, only for the endpoints that fail the most, so that the label is bounded.

    All endpoints are counted, so a series that comes back continues where it was. Used on the event loop only.
    """

    labelnames = ("endpoint", "outcome")

    def __init__(self, name: str, documentation: str) -> None:
        self._shown = 0
        self._name = name
        self._documentation = documentation
        self._counts: defaultdict[int, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))

    def show(self, endpoints: int) -> None:
        """Export so many endpoints from now on. At first, it is none."""
        self._shown = endpoints

    def count(self, endpoint_id: int, outcome: str) -> None:
        """Count an attempt."""
        self._counts[endpoint_id][outcome] += 1

    def forget(self, endpoint_id: int) -> None:
        """Forget a deleted endpoint, so that another one is shown in its place."""
        self._counts.pop(endpoint_id, None)

    def describe(self) -> Iterable[CounterMetricFamily]:
        return [CounterMetricFamily(self._name, self._documentation, labels=self.labelnames)]

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The endpoints with the most attempts that were not acknowledged; among equals, those with the most attempts."""
        [family] = self.describe()
        for endpoint_id in sorted(self._counts, key=self._rank, reverse=True)[: self._shown]:
            for outcome, number in self._counts[endpoint_id].items():
                family.add_metric([str(endpoint_id), outcome], number)
        return [family]

    def _rank(self, endpoint_id: int) -> tuple[int, int]:
        counts = self._counts[endpoint_id]
        attempts = sum(counts.values())
        return attempts - counts.get("delivered", 0), attempts
