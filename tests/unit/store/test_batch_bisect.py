"""Bisecting: everything that can be stored is, in order; a row refused on its own is set aside before later rows are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store.batch_bisect import append_in_parts, is_one_record
from pipeline.store.errors import StoreLimitError, StoreRowsError, StoreUnavailableError
from pipeline.store.rows import Row


class Table:
    """Takes rows in order, at most ``room`` at a time, and none of the offsets in ``poison``."""

    def __init__(self, poison: frozenset[int] = frozenset(), room: int = 1_000) -> None:
        self.poison = poison
        self.room = room
        self.happened: list[tuple[str, int]] = []
        self.tries = 0

    async def append(self, rows: Sequence[Row]) -> None:
        self.tries += 1
        if len(rows) > self.room and not is_one_record(rows):
            raise StoreLimitError("too many")
        if self.poison & {row[-1] for row in rows}:
            raise StoreRowsError("refused")
        self.happened += [("stored", row[-1]) for row in rows]

    async def set_aside(self, offset: int, error: StoreRowsError) -> None:
        assert str(error) == "refused"
        await asyncio.sleep(0)
        self.happened.append(("aside", offset))


@given(
    offsets=st.lists(st.integers(0, 60), min_size=1, max_size=40).map(sorted),
    poison=st.frozensets(st.integers(0, 60), max_size=8),
    room=st.integers(1, 40),
)
def test_everything_that_can_be_stored_is_and_the_rest_is_set_aside_in_order(
    offsets: list[int], poison: frozenset[int], room: int
) -> None:
    """Several rows may belong to one record: they have one offset, and stay together."""
    table = Table(poison, room)
    stored = asyncio.run(append_in_parts(table.append, table.set_aside, [("row", offset) for offset in offsets]))
    kept = [offset for offset in offsets if offset not in poison]
    assert [offset for what, offset in table.happened if what == "stored"] == kept
    assert [offset for what, offset in table.happened if what == "aside"] == sorted(poison & set(offsets))
    assert [offset for _, offset in table.happened] == sorted(offset for _, offset in table.happened)
    assert stored == len(kept)


async def test_an_accepted_batch_is_tried_once() -> None:
    table = Table()
    assert await append_in_parts(table.append, table.set_aside, [("row", offset) for offset in range(100)]) == 100
    assert table.tries == 1


async def test_one_bad_row_costs_few_tries() -> None:
    table = Table(frozenset({700}))
    assert await append_in_parts(table.append, table.set_aside, [("row", offset) for offset in range(1_000)]) == 999
    assert table.tries < 25


async def test_an_error_that_bisecting_does_not_avoid_is_raised() -> None:
    async def away(_: Sequence[Row]) -> None:
        raise StoreUnavailableError("not now")

    with pytest.raises(StoreUnavailableError, match="not now"):
        await append_in_parts(away, Table().set_aside, [("row", 0), ("row", 1)])


async def test_a_record_that_is_temporarily_too_large_is_not_set_aside() -> None:
    async def short_of_memory(_: Sequence[Row]) -> None:
        raise StoreLimitError("no memory")

    table = Table()
    with pytest.raises(StoreLimitError):
        await append_in_parts(short_of_memory, table.set_aside, [("row", 0), ("row", 1)])
    assert table.happened == []
