"""The filters of the endpoints' list, in the ransack grammar: ``q[target_url_cont]=example&q[active_true]=1``.

There are few filters, and they run over the registry in memory. Unknown filters are ignored, as in ransack, and always reported. An
invalid value is also reported, and matches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.core.search.problems import shown
from pipeline.core.search.query_keys import is_filter_key
from pipeline.endpoints.endpoint import Endpoint
from pipeline.web.request_values import FALSY, TRUTHY

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
_LIST: Final = re.compile(r"\[[0-9]*\]", re.ASCII)
"""The suffix of a filter with several values: ``[]``, or ``[0]`` and ``[1]``, as JavaScript's qs writes them."""
_ACTIVE: Final = {"active_eq": True, "active_true": True, "active_false": False}

Test = Callable[[Endpoint], bool]


@dataclass(frozen=True, slots=True)
class EndpointFilters:
    """The conditions that an endpoint must all meet, and the ignored parts of the query."""

    tests: tuple[Test, ...]
    ignored: tuple[str, ...]
    blank: tuple[str, ...] = ()

    def accepts(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint meets every filter."""
        return all(test(endpoint) for test in self.tests)


def parse_endpoint_filters(pairs: Iterable[tuple[str, str]]) -> EndpointFilters:
    """Read the filters from the decoded pairs of a query string. Never fails. Blank values are dropped."""
    values: dict[str, list[str]] = {}
    blank: dict[str, None] = {}
    for key, value in pairs:
        if is_filter_key(key):
            if value.strip():
                values.setdefault(_filter_of(key.strip()), []).append(value.strip())
            else:
                blank[shown(key.strip())] = None
    tests: list[Test] = []
    ignored: list[str] = []
    for key, wanted in values.items():
        name = key[2:-1] if key.endswith("]") else ""
        test = _test(name, wanted)
        if test is None:
            ignored.append(f"{shown(key)}: endpoints have no such filter")
            continue
        tests.append(test)
        ignored += [f"{shown(key)}: {problem}" for problem in _unfit(name, wanted)]
        if not name.endswith("_in"):
            ignored += [f"{shown(key)}: it takes one value, {shown(one)} was left out" for one in wanted[:-1]]
    return EndpointFilters(tuple(tests), tuple(ignored), tuple(blank))


def _test(name: str, wanted: Sequence[str]) -> Test | None:
    if name in _ACTIVE:
        return _active(expected=_ACTIVE[name], value=wanted[-1])
    attribute, _, predicate = name.rpartition("_")
    found, compare = _ATTRIBUTES.get(attribute), _PREDICATES.get(predicate)
    if found is None or compare is None:
        return None
    if predicate != "in":
        wanted = wanted[-1:]
    return lambda endpoint: any(compare(one, value) for one in found(endpoint) for value in wanted)


def _active(*, expected: bool, value: str) -> Test:
    if value not in TRUTHY | FALSY:
        return lambda _: False
    is_active = (value in TRUTHY) is expected
    return lambda endpoint: endpoint.active is is_active


def _unfit(name: str, wanted: Sequence[str]) -> list[str]:
    """The problems of values that no endpoint can have."""
    if name in _ACTIVE:
        return [] if wanted[-1] in TRUTHY | FALSY else [f"{shown(wanted[-1])} is neither 1 nor 0"]
    if name in ("id_eq", "id_in"):
        return [f"{shown(one)} is not a whole number" for one in wanted if not (one.isascii() and one.isdigit())]
    return []


def _filter_of(key: str) -> str:
    """``q[id_in]`` of ``q[id_in][]`` and ``q[id_in][0]``."""
    end = key.rfind("[")
    return key[:end] if end > 1 and _LIST.fullmatch(key[end:]) else key
