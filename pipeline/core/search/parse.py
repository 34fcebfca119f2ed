"""Parses a query string in the ransack grammar into an :class:`AttemptQuery`.

As in ransack, a condition that cannot be understood is ignored. It is always reported, because a typo must not look like a search
that found everything. A condition whose value cannot be read is reported too, and matches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final

from pipeline.core.search.attributes import SORTABLE, canonical
from pipeline.core.search.cursor import Cursor, decode_cursor
from pipeline.core.search.predicates import INVERSE, LISTS, Name, Predicate, Quantifier, make_name, split_name
from pipeline.core.search.problems import NeverHoldsError, NotUsableError, SearchLimitError, SearchNotes, shown
from pipeline.core.search.query import (
    DEFAULT_PER_PAGE,
    MAX_PER_PAGE,
    NOTHING,
    AttemptQuery,
    Combinator,
    Condition,
    ConditionGroup,
    Filter,
    Sort,
    Value,
)
from pipeline.core.search.query_keys import Node, elements, is_filter_key, nested
from pipeline.core.search.values import condition, truth

MAX_DEPTH: Final = 5
"""The maximum levels of nested groups."""
MAX_CONDITIONS: Final = 200
"""The maximum conditions of a search; each value of an ``_any`` or ``_all`` and each combined attribute counts."""
MAX_LISTED: Final = 1_000
"""The maximum values of all ``in`` lists together."""
MAX_SORTS: Final = 8
_MAX_PAGE: Final = 10**9

_COMBINATORS: Final = ("m", "combinator")
_GROUPS: Final = ("g", "groupings")
_CONDITIONS: Final = ("c", "conditions")
_SORTS: Final = ("s", "sorts")
_DIRECTIONS: Final = ("asc", "desc", "")


def parse_query(pairs: Iterable[tuple[str, str]], now: datetime | None = None) -> AttemptQuery:
    """Parse the decoded pairs of a query string; ignores keys other than ``q``, ``page``, ``per_page`` and ``after``.

    ``now`` is the reference of relative times (``yesterday``, ``-2h``); without it they are not understood.

    Raises:
        SearchLimitError: it exceeds a limit, or ``after`` is not a cursor. Everything else that is wrong is ignored and reported.
    """
    notes = SearchNotes()
    of_query: list[tuple[str, str]] = []
    others: dict[str, str] = {}
    for key, value in pairs:
        if is_filter_key(key):
            of_query.append((key, value))
        elif value.strip():
            others[key.strip()] = value.strip()
    root = nested(of_query, notes)
    sorts = _sorts(root, notes)
    reader = _Reader(notes, now)
    combinator, conditions = reader.parts(root, "q", 0)
    query = AttemptQuery(
        conditions=conditions,
        combinator=combinator,
        sorts=sorts,
        page=min(max(_number(others.get("page"), 1), 1), _MAX_PAGE),
        per_page=min(max(_number(others.get("per_page"), DEFAULT_PER_PAGE), 1), MAX_PER_PAGE),
        ignored=notes.all(),
        blank=notes.blank(),
    )
    if "after" not in others:
        return query
    return replace(query, page=1, after=_cursor(others["after"], query))


def _number(text: str | None, default: int) -> int:
    """An invalid number means the default; one that is out of range means the nearest."""
    if text is None or not re.fullmatch(r"[+-]?[0-9]+", text):
        return default
    digits = text.lstrip("+-0")
    size = _MAX_PAGE if len(digits) > len(str(_MAX_PAGE)) else int(digits or 0)
    return -size if text.startswith("-") else size


def _cursor(text: str, query: AttemptQuery) -> Cursor:
    cursor = decode_cursor(text)
    if cursor is None:
        raise SearchLimitError("after is not a cursor of this search; take next_cursor of the page before, or leave it out.")
    if query.in_time is None:
        raise SearchLimitError("after works when attempts are sorted by created_at only; use page with other sorts.")
    if query.in_time.descending is not cursor.descending:
        raise SearchLimitError("after is a cursor of the opposite order; start again without it.")
    return cursor


def _sorts(root: Node, notes: SearchNotes) -> tuple[Sort, ...]:
    sorts: list[Sort] = []
    for text in [text for key in _SORTS for text in _sort_texts(root.pop(key, None))]:
        name, direction = [*text.split(maxsplit=1), "", ""][:2]
        attribute = canonical(name)
        if attribute not in SORTABLE:
            notes.add("s", f"attempts cannot be sorted by {shown(name)}")
        elif len(sorts) == MAX_SORTS:
            notes.add("s", f"at most {MAX_SORTS} sorts are used, {shown(name)} was left out")
        elif attribute not in [sort.attribute for sort in sorts]:
            if direction.lower() not in _DIRECTIONS:
                notes.add("s", f"{shown(direction)} is neither asc nor desc; asc is used")
            sorts.append(Sort(attribute, descending=direction.lower() == "desc"))
    return tuple(sorts)


def _sort_texts(node: Node | list[str] | None) -> list[str]:
    """``created_at desc`` as it is typed, or in the long form: ``q[s][0][name]=created_at&q[s][0][dir]=desc``."""
    if not isinstance(node, dict):
        return node or []
    texts = []
    for one in node.values():
        if isinstance(one, dict):
            texts.append(f"{_last(one.get('name'))} {_last(one.get('dir'))}")
        else:
            texts += one
    return texts


def _last(node: Node | list[str] | None) -> str:
    return node[-1] if isinstance(node, list) else ""


class _Reader:
    """Reads groups and conditions, and counts them."""

    def __init__(self, notes: SearchNotes, now: datetime | None) -> None:
        self._notes = notes
        self._now = now
        self._conditions = 0
        self._listed = 0

    def parts(self, node: Node, path: str, depth: int) -> tuple[Combinator, tuple[Filter, ...]]:
        """The parts of a group; ``path`` is its key, ``q`` for the outermost."""
        if depth > MAX_DEPTH:
            raise SearchLimitError(f"Groups may be nested {MAX_DEPTH} deep; write the search with fewer levels.")
        combinator = Combinator.AND
        parts: list[Filter] = []
        for key, child in node.items():
            name = f"{path}[{key}]"
            if key in _COMBINATORS:
                combinator = self._combinator(name, child)
            elif key in _GROUPS:
                for one, found in self._hashes(name, child):
                    if set(found) <= set(_COMBINATORS):
                        self._notes.add(one, "the group has no conditions")
                    parts += _grouped(*self.parts(found, one, depth + 1))
            elif key in _CONDITIONS:
                for one, found in self._hashes(name, child):
                    parts += self._read(one, partial(self._long, one, found))
            else:
                name = name if depth or isinstance(child, dict) else key
                parts += self._read(name, partial(self._short, name, key, child))
        return combinator, tuple(parts)

    def _read(self, name: str, read: Callable[[], list[Filter]]) -> list[Filter]:
        try:
            return read()
        except NeverHoldsError as reason:
            self._notes.add(name, reason)
            return [NOTHING]
        except NotUsableError as reason:
            self._notes.add(name, reason)
            return []

    def _short(self, name: str, key: str, child: Node | list[str]) -> list[Filter]:
        return self._made(name, split_name(key), elements(child))

    def _combinator(self, name: str, child: Node | list[str]) -> Combinator:
        text = _last(child)
        if text not in set(Combinator):
            self._notes.add(name, f"{shown(text)} is neither and nor or; and is used")
            return Combinator.AND
        return Combinator(text)

    def _hashes(self, name: str, child: Node | list[str]) -> list[tuple[str, Node]]:
        if not isinstance(child, dict):
            self._notes.add(name, "it must contain groups or conditions, such as q[g][0][state_eq]")
            return []
        found = []
        for key, one in child.items():
            if isinstance(one, dict):
                found.append((f"{name}[{key}]", one))
            else:
                self._notes.add(f"{name}[{key}]", "it must contain conditions, such as q[g][0][state_eq]")
        return found

    def _long(self, path: str, node: Node) -> list[Filter]:
        """``q[c][0][a][0][name]=state&q[c][0][p]=eq&q[c][0][v][0][value]=failed``; ``m`` says how several attributes combine."""
        attributes = _texts(node.get("a", node.get("attributes")), "name")
        values = _texts(node.get("v", node.get("values")), "value")
        form = _last(node.get("p", node.get("predicate")))
        if not attributes or not form:
            raise NotUsableError("a condition needs attributes (a) and a predicate (p)")
        if not values:
            raise NotUsableError("a condition needs a value (v)")
        combinator = node.get("m", node.get("combinator"))
        is_any = combinator is not None and self._combinator(f"{path}[m]", combinator) is Combinator.OR
        return self._made(path, make_name(attributes, form, is_any_attribute=is_any), values)

    def _made(self, name: str, asked: Name, texts: list[str] | None) -> list[Filter]:
        """The filters of a condition with known attributes and predicate. If its value cannot be read, it matches nothing."""
        if texts is None:
            raise NeverHoldsError("write several values as q[order_number_in][]=A&q[order_number_in][]=B")
        made: list[Filter]
        if asked.predicate in INVERSE:
            predicate = asked.predicate if truth(texts[-1]) else INVERSE[asked.predicate]
            made = [Condition(attribute, predicate) for attribute in asked.attributes]
        else:
            if asked.predicate not in LISTS and asked.quantifier is None and len(texts) > 1:
                for text in texts[:-1]:
                    self._notes.add(name, f"it takes one value, {shown(text)} was left out")
                texts = texts[-1:]
            made = [self._compared(name, attribute, asked, texts) for attribute in asked.attributes]
        self._count(made)
        return _grouped(Combinator.OR if asked.is_any_attribute else Combinator.AND, tuple(made))

    def _compared(self, name: str, attribute: str, asked: Name, texts: list[str]) -> Filter:
        """One attribute compared with each value. A comparison with an unreadable value matches nothing."""
        compared = []
        for text in texts:
            try:
                compared.append(condition(attribute, asked.predicate, text, self._now))
            except NotUsableError as reason:
                self._notes.add(name, reason)
        needs_all = asked.quantifier is Quantifier.ALL or (asked.quantifier is None and asked.predicate is Predicate.NOT_IN)
        if not compared or (needs_all and len(compared) < len(texts)):
            return NOTHING
        return _quantified(attribute, asked.predicate, asked.quantifier, compared)

    def _count(self, made: list[Filter]) -> None:
        for one in made:
            singles = one.parts if isinstance(one, ConditionGroup) else (one,)
            self._conditions += len(singles)
            self._listed += sum(
                len(single.values) for single in singles if isinstance(single, Condition) and len(single.values) > 1
            )
        if self._conditions > MAX_CONDITIONS:
            raise SearchLimitError(f"A search has at most {MAX_CONDITIONS} conditions; use in for many values of one attribute.")
        if self._listed > MAX_LISTED:
            raise SearchLimitError(f"The lists of a search may have at most {MAX_LISTED:,} values; search in several steps.")


def _quantified(attribute: str, predicate: Predicate, quantifier: Quantifier | None, compared: list[Condition]) -> Filter:
    """``in``, ``_any`` and ``_all``: one condition if that is equivalent, otherwise a group of them."""
    is_negation = predicate in (Predicate.NOT_EQ, Predicate.NOT_IN)
    if quantifier is None and predicate not in LISTS:
        return compared[0]
    if predicate in (Predicate.EQ, Predicate.IN, Predicate.NOT_EQ, Predicate.NOT_IN):
        # One of them, or none of them: a list. The other two (equal to all, different from one) are groups.
        if quantifier is None or quantifier is (Quantifier.ALL if is_negation else Quantifier.ANY):
            values: tuple[Value, ...] = tuple(value for one in compared for value in one.values)
            return Condition(attribute, Predicate.NOT_IN if is_negation else Predicate.IN, values)
        single = Predicate.NOT_EQ if is_negation else Predicate.EQ
        compared = [Condition(attribute, single, one.values) for one in compared]
    [grouped] = _grouped(Combinator.OR if quantifier is Quantifier.ANY else Combinator.AND, tuple(compared))
    return grouped


def _grouped(combinator: Combinator, parts: tuple[Filter, ...]) -> list[Filter]:
    """A group if necessary: nothing for no parts, the part itself for one."""
    return [ConditionGroup(combinator, parts)] if len(parts) > 1 else list(parts)


def _texts(node: Node | list[str] | None, key: str) -> list[str]:
    """The elements of ``a`` or ``v``: texts, or hashes with a ``name`` or ``value``."""
    if not isinstance(node, dict):
        return node or []
    return [text for one in node.values() for text in ((_last(one.get(key)),) if isinstance(one, dict) else one) if text]
