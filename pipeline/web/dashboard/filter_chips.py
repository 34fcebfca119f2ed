"""The filters of a search on its page: form fields for the simple ones, chips for all others. Pure.

A search is fully described by its query string, so a link is enough to repeat it. The form keeps filters that it has no field for: chips
are sent as hidden fields, and each can be removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from pipeline.core.search.attributes import ATTRIBUTES, Kind
from pipeline.core.search.predicates import split_name
from pipeline.core.search.problems import NotUsableError
from pipeline.core.search.query_keys import is_filter_key
from pipeline.core.search.times import read_time
from pipeline.web.dashboard.text_filters import iso
from pipeline.web.dashboard.time_zone import from_local

Pairs = Sequence[tuple[str, str]]

FIELDS: Final[Mapping[str, str]] = {
    "order": "q[order_number_eq]",
    "shipment": "q[shipment_number_eq]",
    "body": "q[request_body_cont]",
    "event": "q[event_name_eq]",
    "endpoint": "q[endpoint_id_eq]",
    "state": "q[state_eq]",
    "code": "q[http_status_code_eq]",
    "since": "q[created_at_gteq]",
    "until": "q[created_at_lteq]",
    "order_by": "q[s]",
}
"""The fields of the form, and their keys in the query string."""
ORDERS: Final[Mapping[str, str]] = {"": "Newest first", "created_at asc": "Oldest first", "duration_ms desc": "Slowest first"}

_COUNTED: Final = (("q[trigger_not_eq]", "test"), ("q[outcome_not_in][]", "discarded"), ("q[outcome_not_in][]", "expired"))
"""What the figures of the overview and of an endpoint's page count."""

_PLACES: Final = frozenset({"page", "after", "before"})
"""The position in the results. Dropped when the search changes."""
_KEPT: Final = frozenset({"per_page"})
_KNOWN: Final = _PLACES | _KEPT | {"strict"}
_WORDS: Final[Mapping[str, str]] = {
    "eq": "is",
    "not_eq": "is not",
    "in": "is one of",
    "not_in": "is none of",
    "lt": "is less than",
    "lteq": "is at most",
    "gt": "is more than",
    "gteq": "is at least",
    "cont": "contains",
    "i_cont": "contains",
    "not_cont": "does not contain",
    "not_i_cont": "does not contain",
    "start": "starts with",
    "not_start": "does not start with",
    "end": "ends with",
    "not_end": "does not end with",
    "matches": "matches",
    "does_not_match": "does not match",
    "present": "has a value:",
    "blank": "has no value:",
    "null": "has no value:",
    "not_null": "has a value:",
}
_SIMPLE: Final = re.compile(r"q\[([^\[\]]+)\](?:\[\])?")
_NESTED: Final = re.compile(r"(q\[[^\[\]]*\](?:\[[^\[\]]*\])?)\[")
_NAMES: Final = re.compile(r"\[([^\[\]]+)\]")
_MAX_LABEL: Final = 160
_OF_A_FIELD: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Chip:
    """Related filters that the form has no field for. ``without`` is the search without them."""

    label: str
    pairs: Pairs
    without: str


@dataclass(frozen=True, slots=True)
class FilterForm:
    """A parsed query string of a search."""

    values: Mapping[str, str]
    """The values of the form's fields, by their names in :data:`FIELDS`."""
    chips: Sequence[Chip]
    pairs: Pairs
    """All pairs except the position in the results. They repeat the search."""
    unknown: Pairs = ()
    """Pairs without effect: neither a filter nor a position."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is filtered."""
        return not self.chips and not any(value for name, value in self.values.items() if name != "order_by")

    @property
    def hidden(self) -> Pairs:
        """The hidden fields of the form: kept pairs and chips."""
        return [pair for pair in self.pairs if pair[0] in _KEPT] + [pair for chip in self.chips for pair in chip.pairs]

    def link(self, **changes: str) -> str:
        """The query string with other values in the form's fields. An empty value removes a filter."""
        return with_values(self.pairs, {FIELDS[name]: value for name, value in changes.items()})

    def query(self, **place: str) -> str:
        """The query string with a position (``after``, ``before``, ``page``), for another page of the same search."""
        return urlencode([*self.pairs, *place.items()])


def read_filters(given: Iterable[tuple[str, str]]) -> FilterForm:
    """Parse a query string."""
    filled = [(key, value.strip()) for key, value in given if value.strip()]
    pairs = [(key, value) for key, value in filled if is_filter_key(key) or key in _KEPT]
    unknown = [(key, value) for key, value in filled if not is_filter_key(key) and key not in _KNOWN]
    values = dict.fromkeys(FIELDS, "")
    names = {key: name for name, key in FIELDS.items()}
    rest: dict[str, list[tuple[str, str]]] = {}
    for key, value in pairs:
        name = names.get(key)
        if name is not None and (name != "order_by" or value in ORDERS):
            values[name] = value  # the last one takes effect, as in the search
        elif key not in _KEPT:
            rest.setdefault(_group(key), []).append((key, value))
    chips = [Chip(_label(one), one, urlencode([pair for pair in pairs if pair not in one])) for one in rest.values()]
    return FilterForm(values, chips, pairs, unknown)


def in_utc(given: Iterable[tuple[str, str]]) -> Pairs:
    """A query string with times in UTC. A browser's field sends local times without an offset, and people type them like that."""
    times = (FIELDS["since"], FIELDS["until"])
    return [(key, _in_utc(value) if key in times else value) for key, value in given]


def _in_utc(value: str) -> str:
    if not _OF_A_FIELD.fullmatch(value.strip()):
        return value
    try:
        return iso(from_local(datetime.fromisoformat(value.strip())))
    except (ValueError, OverflowError):
        return value


def at_this_time(pairs: Pairs, now: datetime) -> Pairs:
    """A search with relative times (``yesterday``, ``-24h``) as they are now, so that it means the same after midnight."""
    return [(key, _at_this_time(value, now) if _is_of_time(key) else value) for key, value in pairs]


def _at_this_time(value: str, now: datetime) -> str:
    try:
        return read_time(value, now).text
    except NotUsableError:
        return value


def _is_of_time(key: str) -> bool:
    """Whether a condition compares times."""
    for name in _NAMES.findall(key):
        try:
            attributes = split_name(name).attributes
        except NotUsableError:
            continue
        return all(ATTRIBUTES[one] is Kind.TIME for one in attributes)
    return False


def has_blanks(given: Iterable[tuple[str, str]]) -> bool:
    """Whether there are empty fields, which make a link unnecessarily long."""
    return any(is_filter_key(key) and not value.strip() for key, value in given)


def search_link(since: datetime, until: datetime, **values: object) -> str:
    """The search for the attempts that a figure counts, from one time until just before another.

    Figures exclude tests, and deliveries that were due but not made. ``values`` are values of other form fields.
    """
    times = {"since": iso(since), "until": iso(until - timedelta(milliseconds=1))}
    return urlencode([*((FIELDS[name], str(value)) for name, value in {**values, **times}.items()), *_COUNTED])


def with_values(pairs: Pairs, changes: Mapping[str, str]) -> str:
    """A query string with other values for some keys, and without the position."""
    kept = [pair for pair in pairs if pair[0] not in changes and pair[0] not in _PLACES]
    return urlencode(kept + [pair for pair in changes.items() if pair[1]])


def _group(key: str) -> str:
    """Group related pairs: the values of a list, and all parts of a group or of a condition in the long form."""
    nested = _NESTED.match(key)
    return nested[1] if nested and not key.endswith("[]") else key


def _label(pairs: Pairs) -> str:
    key = pairs[0][0]
    values = ", ".join(value for _, value in pairs)
    simple = _SIMPLE.fullmatch(key)
    if simple is None or len({key for key, _ in pairs}) > 1:
        text = "; ".join(f"{key.removeprefix('q') or key} = {value}" for key, value in pairs)
    elif simple[1] in ("m", "combinator"):
        text = "any filter matches" if values == "or" else f"filters combined with {values}"
    elif simple[1] in ("s", "sorts"):
        text = f"sorted by {values}"
    else:
        text = f"{_condition(simple[1])} {values}"
    return text.encode("utf-8", "replace").decode()[:_MAX_LABEL]


def _condition(name: str) -> str:
    try:
        read = split_name(name)
    except NotUsableError:
        return f"{name}:"
    subject = (" or " if read.is_any_attribute else " and ").join(one.replace("_", " ") for one in read.attributes)
    words = _WORDS.get(read.predicate.value, read.predicate.value.replace("_", " "))
    return f"{subject} {words}" + (f" {read.quantifier.value} of" if read.quantifier else "")
