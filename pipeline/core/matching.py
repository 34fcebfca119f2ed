"""The comparisons of filters that an index decides: paths in the payload, each with its accepted values. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

MAX_ELEMENTS: Final = 10_000
"""How many array elements one filter reads in one payload: a payload can have millions, and the next events wait."""


def values_at(payload: Any, path: str) -> Iterator[Any]:
    """The value at a path; several if there is an array on the path."""
    return _walk(payload, path.split("."))


def missing_step(payload: Any, path: str) -> int | None:
    """The index of the first member of a path that the payload lacks; None if all exist, or if an array is on the path."""
    value = payload
    for step, name in enumerate(path.split(".")):
        if isinstance(value, list):
            return None
        if not isinstance(value, dict) or name not in value:
            return step
        value = value[name]
    return None


def has_one_of(payload: Any, path: str, values: Sequence[object]) -> bool:
    """Whether a path leads to one of these values.

    A path is member names joined by dots (``ship_address.country_iso``). A path that leads nowhere, or into an empty array, has
    the value None. If a path meets an array, any of its first 10,000 elements may have the value (``line_items.variant.sku``).
    """
    # In Python True == 1; in JSON these are different values.
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
