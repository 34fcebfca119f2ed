"""A search as a typed tree: conditions, groups of them, sorts, a page."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.core.search.cursor import Cursor
from pipeline.core.search.predicates import Predicate

DEFAULT_PER_PAGE: Final = 25
MAX_PER_PAGE: Final = 200

Value = str | int | float | bool | datetime


class Combinator(enum.StrEnum):
    """How the parts of a group are combined."""

    AND = "and"
    OR = "or"


@dataclass(frozen=True, slots=True)
class Condition:
    """One attribute compared with values: one for most predicates, one or more for lists, none for predicates such as null."""

    attribute: str
    predicate: Predicate
    values: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class ConditionGroup:
    """Parts of which all (and) or at least one (or) must hold. It has at least two parts, except for :data:`NOTHING`."""

    combinator: Combinator
    parts: tuple[Condition | ConditionGroup, ...]


Filter = Condition | ConditionGroup

NOTHING: Final = ConditionGroup(Combinator.OR, ())
"""Holds for no attempt: the result of a condition whose value cannot be read. A typing mistake must not find everything."""


@dataclass(frozen=True, slots=True)
class Sort:
    """An attribute to sort by."""

    attribute: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class AttemptQuery:
    """A search. By default, the newest attempts come first. ``ignored`` says what was ignored, and why.

    ``blank`` are keys without a value (a form has many): they mean nothing for a search, but are suspicious if an action applies
    to everything that it finds.

    ``after`` asks for the rows after a cursor (see :class:`Cursor`); ``page`` has no meaning then.
    """

    conditions: tuple[Filter, ...] = ()
    sorts: tuple[Sort, ...] = ()
    page: int = 1
    per_page: int = DEFAULT_PER_PAGE
    ignored: tuple[str, ...] = ()
    combinator: Combinator = Combinator.AND
    after: Cursor | None = None
    blank: tuple[str, ...] = ()

    @property
    def required(self) -> tuple[Filter, ...]:
        """The conditions that must all hold."""
        if self.combinator is Combinator.OR and len(self.conditions) > 1:
            return (ConditionGroup(Combinator.OR, self.conditions),)
        return tuple(part for one in self.conditions for part in _required(one))

    @property
    def in_time(self) -> Sort | None:
        """The sort, if it is by time alone: then pages are found in time windows, and have cursors."""
        if not self.sorts:
            return Sort("created_at", descending=True)
        return self.sorts[0] if len(self.sorts) == 1 and self.sorts[0].attribute == "created_at" else None


def leaves(one: Filter) -> Iterator[Condition]:
    """All conditions in it."""
    if isinstance(one, Condition):
        yield one
    else:
        for part in one.parts:
            yield from leaves(part)


def _required(one: Filter) -> Iterator[Filter]:
    if isinstance(one, ConditionGroup) and one.combinator is Combinator.AND:
        for part in one.parts:
            yield from _required(part)
    else:
        yield one
