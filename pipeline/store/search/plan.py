"""What is known about a running search, and the resulting condition on attempts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.core.search import AttemptQuery, Cursor
from pipeline.store.bound_values import BoundValues
from pipeline.store.search.conditions import event_where, has_body, is_indexed, where
from pipeline.store.search.first_events import Events, FirstEvents, among
from pipeline.store.search.time_windows import TimeWindow, candidate_events, other_events


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """``whole`` is the time span of the ``stored`` attempts, and ``asked`` its part that the search can match."""

    query: AttemptQuery
    whole: TimeWindow
    stored: int
    asked: TimeWindow
    few: Events | None
    """The events of all attempts that can match, if there are few."""
    first: FirstEvents | None = None
    """The events that the index of bodies found for a window."""

    @property
    def is_narrow(self) -> bool:
        """Whether the search is narrowed to the attempts of a few events."""
        return self.few is not None or self.first is not None

    @property
    def is_counted(self) -> bool:
        """Whether the events are known for the whole search, and not only for a window."""
        return self.few is not None or (self.first is not None and self.first.window == self.asked)

    def conditions(self, window: TimeWindow, parameters: BoundValues) -> str:
        """The condition of the search within a window, as an expression over ``attempts``."""
        required = self.query.required
        # Without any condition, ClickHouse can find the first rows in another order with an index, without reading all rows.
        parts = [window.sql("created_at", parameters)]
        if self.query.after is not None:
            parts.append(_behind(self.query.after, parameters))
        if self.first is not None:
            parts.append(self.first.of_attempts(required, parameters))
            # Their bodies are known to match: no need to read them again.
            required = tuple(one for one in required if not is_indexed(one))
        candidates = "1"
        if any(map(has_body, required)):
            candidates = " AND ".join([self._candidates(window, parameters), *event_where(required, parameters)])
        return " AND ".join([*parts, where(required, parameters, candidates)])

    def _candidates(self, window: TimeWindow, parameters: BoundValues) -> str:
        if self.few is not None:
            return among(self.few, parameters)
        if self.first is None or not self.first.events:
            return candidate_events(self.whole, window, parameters)
        others = other_events(self.first.window, self.first.received, parameters)
        return f"({among(self.first.events, parameters)} OR {others})"


def _behind(cursor: Cursor, parameters: BoundValues) -> str:
    operator = "<" if cursor.descending else ">"
    time, identifier = parameters.time(cursor.created_at_ms), parameters.add(cursor.id, "Int64")
    return f"(created_at {operator} {time} OR created_at = {time} AND id {operator} {identifier})"
