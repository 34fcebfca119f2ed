"""Statistics from ClickHouse for pages that also work without them. If ClickHouse is unavailable, the page says so."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.search_errors import SearchLimits, searching

FoundT = TypeVar("FoundT")


@dataclass(frozen=True, slots=True)
class OptionalReads(Generic[FoundT]):
    """The result, or None and the reason in a sentence."""

    found: FoundT | None
    problem: str | None = None


async def optional(limits: SearchLimits, reading: Awaitable[FoundT]) -> OptionalReads[FoundT]:
    """Wait for statistics, within the time limit of a search."""
    try:
        async with searching(limits):
            return OptionalReads(await reading)
    except InvalidError as error:
        return OptionalReads(None, " ".join(error.sentences))
    except ApiError as error:
        return OptionalReads(None, str(error))
