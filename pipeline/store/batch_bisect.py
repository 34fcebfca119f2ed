"""Splits a batch that ClickHouse refuses, until each record that it refuses for good is isolated.

A batch that is too large is stored in parts. A record that ClickHouse never accepts must not block its partition forever, nor take
its neighbours with it: it alone is set aside.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from pipeline.store.errors import StoreLimitError, StoreRowsError
from pipeline.store.rows import Row

Append = Callable[[Sequence[Row]], Awaitable[None]]
SetAside = Callable[[int, StoreRowsError], Awaitable[None]]


async def append_in_parts(append: Append, set_aside: SetAside, rows: Sequence[Row]) -> int:
    """Append rows in the order of their offsets; returns how many were stored.

    ``append`` raises :class:`StoreRowsError` or :class:`StoreLimitError` if fewer rows may succeed. If a single record is
    refused, its offset goes to ``set_aside``. This finishes before any later row is appended, because the table's position is then
    beyond the record, and nothing would read it again.
    """
    parts, stored = [rows], 0
    while parts:
        part = parts.pop()
        try:
            await append(part)
        except (StoreRowsError, StoreLimitError) as error:
            if not is_one_record(part):
                parts += reversed(_halves(part))
            elif isinstance(error, StoreRowsError):
                await set_aside(part[0][-1], error)
            else:
                raise
        else:
            stored += len(part)
    return stored


def is_one_record(rows: Sequence[Row]) -> bool:
    """Whether all rows come from one Kafka record."""
    return bool(rows[0][-1] == rows[-1][-1])


def _halves(rows: Sequence[Row]) -> tuple[Sequence[Row], Sequence[Row]]:
    """Two parts of about the same length, cut between two records."""
    middle = len(rows) // 2
    # Rows of one record stay together. If they span the middle, the cut is before the first or after the last of them.
    first = next(index for index in range(middle, -1, -1) if index == 0 or rows[index - 1][-1] != rows[middle][-1])
    cut = first or next(index for index in range(middle, len(rows)) if rows[index][-1] != rows[middle][-1])
    return rows[:cut], rows[cut:]
