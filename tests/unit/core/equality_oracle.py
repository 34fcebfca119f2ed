"""Paths with their values, all of which must fit: what the index of subscriptions decides, one endpoint at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.matching import has_one_of


def accepts(filters: Mapping[str, Sequence[object]], payload: Any) -> bool:
    """Whether every path of the payload has one of its values."""
    return all(has_one_of(payload, path, values) for path, values in filters.items())
