"""Searches for attempts as typed values, and the parser of query strings in the ransack grammar.

``q[order_number_eq]=R1&q[endpoint_id_in][]=7&q[s]=created_at desc&page=2``. Pure; ``docs/search.md`` describes the grammar.
Uses nothing else of `pipeline`. Start reading in `parse.py`, then `query.py`.
"""

from __future__ import annotations

from pipeline.core.search.attributes import ATTRIBUTES, SORTABLE, Kind
from pipeline.core.search.cursor import Cursor, beginning, decode_cursor
from pipeline.core.search.parse import parse_query
from pipeline.core.search.predicates import PREDICATES, Predicate
from pipeline.core.search.problems import SearchLimitError
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
    leaves,
)

__all__ = [
    "ATTRIBUTES",
    "DEFAULT_PER_PAGE",
    "MAX_PER_PAGE",
    "NOTHING",
    "PREDICATES",
    "SORTABLE",
    "AttemptQuery",
    "Combinator",
    "Condition",
    "ConditionGroup",
    "Cursor",
    "Filter",
    "Kind",
    "Predicate",
    "SearchLimitError",
    "Sort",
    "Value",
    "beginning",
    "decode_cursor",
    "leaves",
    "parse_query",
]
