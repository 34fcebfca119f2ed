"""The filters of the endpoints' list, in the ransack grammar: ``q[target_url_cont]=example&q[active_true]=1``.

They are few and run over the registry in memory. What is not known is ignored, as in ransack, and always reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.core.search.keys import is_filter_key
from pipeline.core.search.notes import shown
from pipeline.endpoints.endpoint import Endpoint
from pipeline.web.queries import FALSY, TRUTHY

_ATTRIBUTES: Final[dict[str, Callable[[Endpoint], Sequence[str]]]] = {
    "id": lambda endpoint: (str(endpoint.id),),
    "target_url": lambda endpoint: (endpoint.target_url,),
    "description": lambda endpoint: (endpoint.record.description,),
    "events": lambda endpoint: endpoint.record.events,
}
_PREDICATES: Final[dict[str, Callable[[str, str], bool]]] = {
    "eq": lambda found, value: found == value,
    "in": lambda found, value: found == value,
    "cont": lambda found, value: value.casefold() in found.casefold(),
    "start": lambda found, value: found.casefold().startswith(value.casefold()),
}
_ACTIVE: Final = {"active_eq": True, "active_true": True, "active_false": False}

Test = Callable[[Endpoint], bool]


@dataclass(frozen=True, slots=True)
class EndpointFilters:
    """What an endpoint must meet, all of it, and what of the query was left out."""

    tests: tuple[Test, ...]
    ignored: tuple[str, ...]
    blank: tuple[str, ...] = ()

    def accepts(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint meets every filter."""
        return all(test(endpoint) for test in self.tests)


def parse_endpoint_filters(pairs: Iterable[tuple[str, str]]) -> EndpointFilters:
    """Read the filters out of a query string's decoded pairs. Never fails; blank values are dropped."""
    values: dict[str, list[str]] = {}
    blank: dict[str, None] = {}
    for key, value in pairs:
        if is_filter_key(key):
            if value.strip():
                values.setdefault(key.strip().removesuffix("[]"), []).append(value.strip())
            else:
                blank[shown(key.strip())] = None
    tests: list[Test] = []
    ignored: list[str] = []
    for key, wanted in values.items():
        name = key[2:-1] if key.endswith("]") else ""
        test = _test(name, wanted)
        if test is None:
            ignored.append(f"{shown(key)}: endpoints have no such filter, or its value does not fit")
            continue
        tests.append(test)
        if not name.endswith("_in"):
            ignored += [f"{shown(key)}: it takes one value, {shown(one)} was left out" for one in wanted[:-1]]
    return EndpointFilters(tuple(tests), tuple(ignored), tuple(blank))


def _test(name: str, wanted: Sequence[str]) -> Test | None:
    if name in _ACTIVE:
        return _active(_ACTIVE[name], wanted[-1])
    attribute, _, predicate = name.rpartition("_")
    found, compare = _ATTRIBUTES.get(attribute), _PREDICATES.get(predicate)
    if found is None or compare is None:
        return None
    if predicate != "in":
        wanted = wanted[-1:]
    return lambda endpoint: any(compare(one, value) for one in found(endpoint) for value in wanted)


def _active(expected: bool, value: str) -> Test | None:
    if value not in TRUTHY | FALSY:
        return None
    is_active = (value in TRUTHY) is expected
    return lambda endpoint: endpoint.active is is_active
