"""A query that ClickHouse stopped at its time limit is reported as such, even if ClickHouse answers as if it had ended."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.store import reader as reader_module
from pipeline.store.connection import Client, Connections, StoreBudgetError
from pipeline.store.reader import QueryBudget, Reader, Rows


class CutShort:
    """Connections to a ClickHouse that stops every query after its time and returns the rows found so far, without an error."""

    def __init__(self, takes: float, found: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
        self.turns = SimpleNamespace(place=lambda: 0)
        self._takes = takes
        self._found = found
        self._now = 1000.0
        monkeypatch.setattr(reader_module, "time", SimpleNamespace(monotonic=lambda: self._now))

    async def read(self, work: Callable[[Client], Rows], place: int) -> Rows:
        return work(cast("Client", self))

    def query(self, statement: str, *, settings: dict[str, Any], **_: object) -> SimpleNamespace:
        self._now += min(self._takes, settings["max_execution_time"])
        return SimpleNamespace(result_rows=self._found)


@pytest.mark.parametrize("found", [[], [(1,)]])
async def test_rows_that_arrive_at_the_time_limit_are_no_answer(found: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(cast("Connections", CutShort(60, found, monkeypatch)), QueryBudget(seconds=10))
    with pytest.raises(StoreBudgetError, match="ran for longer than it may"):
        await reader.rows("SELECT 1", {})


async def test_the_queries_of_one_search_share_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(cast("Connections", CutShort(6, [(1,)], monkeypatch)), QueryBudget(seconds=10))
    assert await reader.rows("SELECT 1", {}) == [(1,)]
    with pytest.raises(StoreBudgetError):
        await reader.rows("SELECT 1", {})
