"""Translates errors of a search into answers that say what the user can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from pipeline.store.errors import StoreBudgetError, StoreBusyError, StoreUnavailableError
from pipeline.web.errors import ApiError, InvalidError


class SearchLimits(Protocol):
    """An object with a time limit for searches."""

    @property
    def search_timeout_seconds(self) -> float:
        """How long a search may take, including the wait for other searches."""


@asynccontextmanager
async def searching(limits: SearchLimits) -> AsyncIterator[None]:
    """Translate errors of a search into answers that say what the user can do."""
    try:
        async with asyncio.timeout(limits.search_timeout_seconds):
            yield
    except StoreBudgetError as error:
        raise InvalidError({"q": [str(error)]}) from error
    except StoreBusyError as error:
        raise ApiError(503, str(error), headers={"Retry-After": str(error.retry_after)}) from error
    except StoreUnavailableError as error:
        raise ApiError(503, f"Attempts cannot be searched right now: {error}") from error
    except TimeoutError as error:
        message = (
            f"The search did not finish within {limits.search_timeout_seconds:g} seconds, including the wait for other searches. "
            "Try again later, or narrow it to a shorter time range."
        )
        raise ApiError(503, message) from error
