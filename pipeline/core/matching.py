"""Which endpoints get an event: those that subscribed to its type, whose filters (if any) accept its payload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def accepts(filters: Mapping[str, Sequence[object]], payload: Any) -> bool:
    """Whether every filtered path of the payload has one of its values.

    A path is member names joined by dots (``ship_address.country_iso``); a path that leads nowhere, be it
    into an empty array, has the value None. Where a path meets an array, any of its elements may have the value
    (``line_items.variant.sku``).
    """
    return all(
        any(_same(found, value) for found in values_at(payload, path) for value in values) for path, values in filters.items()
    )


def values_at(payload: Any, path: str) -> list[Any]:
    """What a path leads to: one value, or several where it meets an array."""
    return _walk(payload, path.split("."))


def _walk(value: Any, path: Sequence[str]) -> list[Any]:
    if isinstance(value, list):
        return [found for element in value for found in _walk(element, path)] or [None]
    if not path:
        return [value]
    return _walk(value.get(path[0]) if isinstance(value, dict) else None, path[1:])


def _same(found: object, value: object) -> bool:
    # True == 1 in Python; in JSON they are different values.
    return found == value and isinstance(found, bool) == isinstance(value, bool)
