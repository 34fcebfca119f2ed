"""Which endpoints get an event, without asking each of them: an index by event name, and by a value that a filter asks for.

With 10,000 endpoints of as many shops, each with a filter for its own, an event is held against the filters of a few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, TypeAlias

from pipeline.core.matching import accepts, values_at
from pipeline.endpoints.endpoint import Endpoint

_Endpoints: TypeAlias = dict[int, Endpoint]
_Value: TypeAlias = tuple[bool, object]
_by_id = attrgetter("id")


class Subscriptions:
    """The endpoints, active or not. Changed one endpoint at a time."""

    def __init__(self) -> None:
        self._events: dict[str, _Subscribers] = {}

    def add(self, endpoint: Endpoint) -> None:
        """Take an endpoint in."""
        for event in endpoint.events:
            self._events.setdefault(event, _Subscribers()).add(endpoint)

    def remove(self, endpoint: Endpoint) -> None:
        """Take an endpoint out, as it was taken in."""
        for event in endpoint.events:
            self._events[event].remove(endpoint)

    def matching(self, event_name: str, payload: Callable[[], Any]) -> list[Endpoint]:
        """Those that subscribed to the event and whose filters accept its payload, by id. It is parsed only when asked for."""
        subscribers = self._events.get(event_name)
        return subscribers.matching(payload) if subscribers else []


class _Subscribers:
    """The endpoints of one event. Each with filters stands under the values of one of its paths; it accepts no other ones there."""

    def __init__(self) -> None:
        self._unfiltered: _Endpoints = {}
        self._filtered: dict[str, dict[_Value, _Endpoints]] = {}
        self._paths: dict[int, str] = {}

    def add(self, endpoint: Endpoint) -> None:
        if not endpoint.filters:
            self._unfiltered[endpoint.id] = endpoint
            return
        path = min(endpoint.filters, key=lambda path: self._company(endpoint, path))
        self._paths[endpoint.id] = path
        for value in endpoint.filters[path]:
            self._filtered.setdefault(path, {}).setdefault(_key(value), {})[endpoint.id] = endpoint

    def remove(self, endpoint: Endpoint) -> None:
        if not endpoint.filters:
            del self._unfiltered[endpoint.id]
            return
        path = self._paths.pop(endpoint.id)
        by_value = self._filtered.get(path, {})
        for value in endpoint.filters[path]:
            endpoints = by_value.get(_key(value), {})
            endpoints.pop(endpoint.id, None)  # a value may stand twice in a filter
            if not endpoints:
                by_value.pop(_key(value), None)
        if not by_value:
            self._filtered.pop(path, None)

    def matching(self, payload: Callable[[], Any]) -> list[Endpoint]:
        found = dict(self._unfiltered)
        if self._filtered:
            parsed = payload()
            for endpoint in self._candidates(parsed):
                if accepts(endpoint.filters, parsed):
                    found[endpoint.id] = endpoint
        return sorted(found.values(), key=_by_id)

    def _candidates(self, parsed: Any) -> Iterator[Endpoint]:
        for path, by_value in self._filtered.items():
            # Each value once, though an array may hold it often. A filter's value is never an object.
            for key in {_key(value) for value in values_at(parsed, path) if not isinstance(value, dict)}:
                yield from by_value.get(key, {}).values()

    def _company(self, endpoint: Endpoint, path: str) -> int:
        """How many others stand under the same values of this path: the fewer, the better the path tells them apart."""
        by_value = self._filtered.get(path, {})
        return sum(len(by_value.get(_key(value), ())) for value in endpoint.filters[path])


def _key(value: object) -> _Value:
    # True == 1 in Python; in JSON they are different values.
    return isinstance(value, bool), value
