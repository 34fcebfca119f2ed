"""Finds the endpoints of an event without examining each one: an index by event name, and by a value that a filter requires.

With 10,000 endpoints that each filter for their own shop, an event is compared with the filters of a few. Only the endpoints that
the index returns have their remaining filters evaluated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeAlias

from pipeline.core.filters.equalities import Equality, checked_members
from pipeline.core.filters.evaluation import Evaluation, EvaluationError, FilterFault, PathTree
from pipeline.core.filters.expression import Path
from pipeline.core.matching import has_one_of, missing_step, values_at
from pipeline.endpoints.endpoint import Endpoint
from schemas.configured_events import FIRST_VERSION

_Endpoints: TypeAlias = dict[int, Endpoint]
_Value: TypeAlias = tuple[bool, object]
_by_id = attrgetter("id")


@dataclass(slots=True)  # one per event; a frozen dataclass takes three times as long to create
class MatchInput:
    """An event as filters see it. ``payload`` parses the payload, and is called only if a filter needs it."""

    event_name: str
    payload: Callable[[], Any]
    members: Callable[[], Mapping[str, str]] = dict
    """The members of the webhook's body except ``data``: ``event`` in filters."""
    version: Callable[[], int | None] | None = None
    """The version of the payload; None if the event type has only one."""


@dataclass(frozen=True, slots=True)
class FilterFailure:
    """A filter that failed on an event: the filter of one endpoint, or of all endpoints whose filters compare ``path``.

    In the latter case, ``version`` is the version of the event, and ``missing`` the index of the member that it lacks.
    """

    event_name: str
    expression: str
    fault: FilterFault
    reason: str
    endpoint_id: int | None = None
    path: str = ""
    version: int | None = None
    missing: int = 0


OnFailure: TypeAlias = Callable[[FilterFailure], None]


def ignore_failures(_: FilterFailure) -> None:
    """The default listener, which does nothing."""


class Subscriptions:
    """The endpoints, active or not. Updated one endpoint at a time."""

    def __init__(self) -> None:
        self._events: dict[str, _Subscribers] = {}

    def add(self, endpoint: Endpoint) -> None:
        for event in endpoint.events:
            self._events.setdefault(event, _Subscribers(event)).add(endpoint)

    def remove(self, endpoint: Endpoint) -> None:
        """Remove an endpoint, which must be unchanged since :meth:`add`."""
        for event in endpoint.events:
            self._events[event].remove(endpoint)

    def matching(self, event: MatchInput, on_failure: OnFailure = ignore_failures) -> list[Endpoint]:
        """The endpoints that subscribe to the event and whose filters accept it, sorted by id.

        An endpoint that pins a version gets only that version.
        """
        subscribers = self._events.get(event.event_name)
        found = subscribers.matching(event, on_failure) if subscribers else []
        if not found or event.version is None:
            return found
        version, name = event.version(), event.event_name
        return [one for one in found if one.record.event_type_versions.get(name, version) == version]

    def concerned_by(self, failure: FilterFailure) -> list[Endpoint]:
        """The endpoints whose filters compare the path of a failure, and fail with it."""
        subscribers = self._events.get(failure.event_name)
        return [one for group in subscribers.failing(failure) for one in group.values()] if subscribers else []


class _Subscribers:
    """The endpoints of one event type. An endpoint with equality filters is indexed by the values that it accepts at one path."""

    def __init__(self, event_name: str) -> None:
        self._event_name = event_name
        self._unfiltered: _Endpoints = {}
        self._filtered: dict[str, dict[_Value, _Endpoints]] = {}
        self._evaluated: _Endpoints = {}
        """Endpoints that the index cannot decide: their filters are evaluated on each event of this type."""
        self._places: dict[int, Equality] = {}
        self._failing: dict[str, dict[tuple[int | None, int], _Endpoints]] = {}
        """By path: the endpoints whose filters fail if an event lacks it, by the version that they pin (None: any), and by how many
        members of the path they check with ``has(…)``."""
        self._paths: Counter[Path] = Counter()
        self._tree: PathTree | None = None

    def add(self, endpoint: Endpoint) -> None:
        for expression in endpoint.filters.expressions:
            self._paths.update(expression.paths)
            self._tree = None
        if not endpoint.filters:
            self._unfiltered[endpoint.id] = endpoint
        elif not endpoint.filters.equalities:
            self._evaluated[endpoint.id] = endpoint
        else:
            path, values = min(endpoint.filters.equalities, key=self._shared_count)
            self._places[endpoint.id] = (path, values)
            for value in values:
                self._filtered.setdefault(path, {}).setdefault(_key(value), {})[endpoint.id] = endpoint
            if None not in values:
                self._failing.setdefault(path, {}).setdefault(self._condition(endpoint, path), {})[endpoint.id] = endpoint

    def remove(self, endpoint: Endpoint) -> None:
        for expression in endpoint.filters.expressions:
            self._paths -= Counter(expression.paths)
            self._tree = None
        if not endpoint.filters:
            del self._unfiltered[endpoint.id]
            return
        if not endpoint.filters.equalities:
            del self._evaluated[endpoint.id]
            return
        path, values = self._places.pop(endpoint.id)
        by_value = self._filtered.get(path, {})
        for value in values:
            endpoints = by_value.get(_key(value), {})
            endpoints.pop(endpoint.id, None)  # may be gone: a filter may list a value twice
            if not endpoints:
                by_value.pop(_key(value), None)
        if not by_value:
            self._filtered.pop(path, None)
            self._failing.pop(path, None)
        elif None not in values:
            del self._failing[path][self._condition(endpoint, path)][endpoint.id]

    def matching(self, event: MatchInput, on_failure: OnFailure) -> list[Endpoint]:
        found = dict(self._unfiltered)
        if self._filtered or self._evaluated:
            match = _Match(event, event.payload(), self, on_failure)
            for endpoint in self._candidates(match):
                if match.accepted_by(endpoint):
                    found[endpoint.id] = endpoint
            for endpoint in self._evaluated.values():
                if match.accepted_by(endpoint):
                    found[endpoint.id] = endpoint
        return sorted(found.values(), key=_by_id)

    def failing(self, failure: FilterFailure) -> Iterator[_Endpoints]:
        for (pin, checked), endpoints in self._failing.get(failure.path, {}).items():
            if endpoints and pin in (None, failure.version) and checked <= failure.missing:
                yield endpoints

    def _condition(self, endpoint: Endpoint, path: str) -> tuple[int | None, int]:
        pin = endpoint.record.event_type_versions.get(self._event_name)
        return pin, checked_members(path, [one.text for one in endpoint.filters.expressions])

    def tree(self) -> PathTree:
        """The parts of the payload that the expressions read; rebuilt after one was added or removed."""
        if self._tree is None:
            self._tree = PathTree(self._paths)
        return self._tree

    def _candidates(self, match: _Match) -> Iterator[Endpoint]:
        for path, by_value in self._filtered.items():
            # Each value once, though an array may contain it often. A filter's value is never an object.
            keys = {_key(value) for value in values_at(match.payload, path) if not isinstance(value, dict)}
            if keys == _ONLY_NULL:
                match.report_if_missing(path)
            for key in keys:
                yield from by_value.get(key, {}).values()

    def _shared_count(self, equality: Equality) -> int:
        """How many other endpoints require the same values at this path: the fewer, the more selective it is."""
        path, values = equality
        by_value = self._filtered.get(path, {})
        return sum(len(by_value.get(_key(value), ())) for value in values)


@dataclass(slots=True)
class _Match:
    """Compares one event with the filters of candidate endpoints."""

    event: MatchInput
    payload: Any
    subscribers: _Subscribers
    on_failure: OnFailure
    evaluation: Evaluation | None = field(default=None)
    known_version: int | None = field(default=None)

    def accepted_by(self, endpoint: Endpoint) -> bool:
        """Whether all filters of an endpoint accept the event. If one rejects it, failures of the others do not matter."""
        filters, pins = endpoint.filters, endpoint.record.event_type_versions
        if pins and pins.get(self.event.event_name, self._version()) != self._version():
            return False
        failure: FilterFailure | None = None
        if filters.unreadable is not None:
            failure = self._failed(endpoint, filters.texts[0], FilterFault.UNREADABLE, filters.unreadable)
        for path, values in filters.equalities:
            if not has_one_of(self.payload, path, values):
                step = missing_step(self.payload, path)
                if step is None:
                    return False
                failure = self._failed(endpoint, f"data.{path}", FilterFault.MISSING_FIELD, _no_field(path, step))
        for expression in filters.expressions:
            try:
                if not self._evaluated().holds(expression):
                    return False
            except EvaluationError as error:
                failure = self._failed(endpoint, expression.text, error.fault, str(error))
        if failure is not None:
            self.on_failure(failure)
        return failure is None

    def report_if_missing(self, path: str) -> None:
        """Called if a path yields only null. If the payload lacks the member, report that the filters with this path fail."""
        step = missing_step(self.payload, path)
        if step is None:
            return
        failure = FilterFailure(
            self.event.event_name,
            f"data.{path}",
            FilterFault.MISSING_FIELD,
            _no_field(path, step),
            path=path,
            version=self._version(),
            missing=step,
        )
        if any(self.subscribers.failing(failure)):
            self.on_failure(failure)

    def _version(self) -> int | None:
        if self.known_version is None:
            self.known_version = FIRST_VERSION if self.event.version is None else self.event.version()
        return self.known_version

    def _evaluated(self) -> Evaluation:
        if self.evaluation is None:
            self.evaluation = Evaluation(self.event.members(), self.payload, self.subscribers.tree())
        return self.evaluation

    def _failed(self, endpoint: Endpoint, expression: str, fault: FilterFault, reason: str) -> FilterFailure:
        return FilterFailure(self.event.event_name, expression, fault, reason, endpoint.id)


def _no_field(path: str, step: int) -> str:
    return f"The event has no field {path.split('.')[step]!r}."


def _key(value: object) -> _Value:
    # In Python True == 1, but in JSON these are different values.
    return isinstance(value, bool), value


_ONLY_NULL = {_key(None)}
