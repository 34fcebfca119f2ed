"""The settings of searches: how much of ClickHouse, or of a process with embedded ClickHouse, they may use."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings


class SearchSettings(BaseSettings):
    """A part of Settings."""

    searches_at_once: int = Field(
        default=0,
        ge=0,
        le=100,
        description="How many search queries one process runs concurrently. Others wait. 0: 8 with a ClickHouse server; with ClickHouse in "
        "this process, the number of cores minus one for the recorder (at least 2, at most 8).",
    )
    search_threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="How many ClickHouse threads a search query may use (max_threads). 0: the server's own setting; one with ClickHouse in "
        "this process.",
    )
    search_wait_seconds: float = Field(
        default=10.0,
        gt=0,
        le=25,
        description="How long a search may wait to run. After that the API answers 503 with Retry-After.",
    )
