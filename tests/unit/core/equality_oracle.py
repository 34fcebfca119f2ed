"""The naive form of the index of subscriptions: tells for one endpoint whether each path has one of its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.matching import has_one_of


def accepts(filters: Mapping[str, Sequence[object]], payload: Any) -> bool:
    """Return whether every path of the payload has one of its values."""
    return all(has_one_of(payload, path, values) for path, values in filters.items())
