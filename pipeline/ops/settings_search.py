"""The settings of searches: how much of ClickHouse, and of a process that it runs in, they may take."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings


class SearchSettings(BaseSettings):
    """A part of Settings."""

    searches_at_once: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Queries of searches that one process has under way at once; others wait for their turn. 0: with ClickHouse in this "
        "process as many as there are cores, less one for the recorder (2 at least, 8 at most); with a server 8.",
    )
    search_threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Threads of ClickHouse that a query of a search may use (max_threads). 0: one with ClickHouse in this process; with a "
        "server, what the server says.",
    )
    search_wait_seconds: float = Field(
        default=10.0,
        gt=0,
        le=25,
        description="How long a search waits for its turn before it is answered with 503 and Retry-After.",
    )
