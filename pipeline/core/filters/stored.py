"""An endpoint's filters in three forms: as given, as stored in its record, and as matched with events. Pure.

Filters that can be expressed as paths with values are stored that way, because every release can read them. Other expressions
require a record of version 2. A process that reads only version 1 refuses such a record and reports it, instead of delivering
unwanted events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.core.filters.equalities import Equality, split
from pipeline.core.filters.expression import Expression, compile_expression
from pipeline.core.filters.tokens import FilterError
from schemas.endpoint import EXPRESSIONS_VERSION, EndpointRecord
from schemas.event import SCHEMA_VERSION
from schemas.filter_texts import FilterValue, expressions_of

MAX_VALUES: Final = 100
"""A comparison with at most this many values is stored as a path with values; others are stored as expressions."""


@dataclass(frozen=True, slots=True)
class Filters:
    """The conditions on an event. An index decides ``equalities``; ``expressions`` are evaluated."""

    texts: tuple[str, ...] = ()
    equalities: tuple[Equality, ...] = ()
    expressions: tuple[Expression, ...] = ()
    unreadable: str | None = None
    """Why these filters cannot be evaluated here. If this is set, they accept no event."""

    def __bool__(self) -> bool:
        return bool(self.equalities or self.expressions or self.unreadable)


NO_FILTERS: Final = Filters()


def compiled(texts: Iterable[str]) -> Filters:
    """Check and compile expressions.

    Raises:
        FilterError: one of them cannot be a filter; the message says which one if there are several.
    """
    given = tuple(texts)
    equalities: list[Equality] = []
    expressions: list[Expression] = []
    for number, text in enumerate(given, 1):
        try:
            found, rest = split(text)
            if rest:  # errors give the position in the whole text
                compile_expression(text)
            expressions += map(compile_expression, rest)
        except FilterError as error:
            message = str(error) if len(given) == 1 else f"expression {number}, {error}"
            raise FilterError(message) from None
        equalities += found
    return Filters(given, tuple(equalities), tuple(expressions))


def fields_of(filters: Filters) -> dict[str, Any]:
    """The fields of a record with these filters."""
    paths = dict(filters.equalities)
    is_plain = not filters.expressions and len(paths) == len(filters.equalities)
    if is_plain and all(len(values) <= MAX_VALUES for values in paths.values()):
        return {"filters": paths, "expressions": filters.texts, "schema_version": SCHEMA_VERSION}
    return {"filters": {}, "expressions": filters.texts, "schema_version": EXPRESSIONS_VERSION}


def filters_of(record: EndpointRecord) -> Filters:
    """The filters of a record of any release. Never fails: see ``Filters.unreadable``.

    A process of an older release may have changed ``filters`` and kept ``expressions``, which it does not know. In that case,
    ``expressions`` are outdated.
    """
    if not record.expressions:
        return _of_paths(record.filters) if record.filters else NO_FILTERS
    try:
        filters = compiled(record.expressions)
    except FilterError as error:
        return Filters(record.expressions, unreadable=str(error))
    if record.schema_version < EXPRESSIONS_VERSION and not _same(filters.equalities, record.filters):
        return _of_paths(record.filters)
    return filters


def texts_of(record: EndpointRecord) -> tuple[str, ...]:
    """The filters of a record of any release, as expressions."""
    return filters_of(record).texts


def _of_paths(paths: Mapping[str, tuple[FilterValue, ...]]) -> Filters:
    return Filters(expressions_of(paths), tuple(paths.items()))


def _same(equalities: Sequence[Equality], paths: Mapping[str, tuple[FilterValue, ...]]) -> bool:
    # In Python True == 1, so types are compared too.
    def typed(pairs: Iterable[Equality]) -> dict[str, list[tuple[type, object]]]:
        return {path: [(type(value), value) for value in values] for path, values in pairs}

    return typed(equalities) == typed(paths.items())
