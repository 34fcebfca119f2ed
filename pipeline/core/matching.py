"""The comparisons of filters that an index decides: paths in the payload, each with the values that it may have. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

MAX_ELEMENTS: Final = 10_000
"""Elements of arrays that one filter looks at in one payload: a payload can hold millions, and the events behind it wait."""


def values_at(payload: Any, path: str) -> Iterator[Any]:
    """What a path leads to: one value, or several where it meets an array."""
    return _walk(payload, path.split("."))


def missing_member(payload: Any, path: str) -> str | None:
    """The first member of a path that the payload does not have; None when all are there, or an array is on the way."""
    value = payload
    for name in path.split("."):
        if isinstance(value, list):
            return None
        if not isinstance(value, dict) or name not in value:
            return name
        value = value[name]
    return None


def has_one_of(payload: Any, path: str, values: Sequence[object]) -> bool:
    """Whether a path leads to one of these values.

    A path is member names joined by dots (``ship_address.country_iso``); a path that leads nowhere, be it
    into an empty array, has the value None. Where a path meets an array, any of its elements may have the value
    (``line_items.variant.sku``), of the first 10,000.
    """
    # True == 1 in Python; in JSON they are different values.
    wanted = {(isinstance(value, bool), value) for value in values}
    return any(not isinstance(found, dict) and (isinstance(found, bool), found) in wanted for found in values_at(payload, path))


def _walk(payload: Any, path: Sequence[str]) -> Iterator[Any]:
    """Every value that the path leads to."""
    room = MAX_ELEMENTS
    ahead: list[tuple[Any, int]] = [(payload, 0)]
    while ahead:
        value, step = ahead.pop()
        if isinstance(value, list) and value:
            elements = value[:room]
            room -= len(elements)
            ahead += ((element, step) for element in reversed(elements))
        elif step == len(path) or isinstance(value, list):
            yield None if isinstance(value, list) else value
        else:
            ahead.append((value.get(path[step]) if isinstance(value, dict) else None, step + 1))
