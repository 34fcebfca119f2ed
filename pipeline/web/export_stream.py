"""Exports all attempts of a search, page by page with a cursor, so that memory is bounded."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from pipeline.core.search import AttemptQuery, beginning, decode_cursor
from pipeline.core.spreadsheet_cells import cell
from pipeline.store.search.bodies import LARGE_BODY, Bodies
from pipeline.store.search.queries import AttemptRow
from pipeline.web.errors import InvalidError
from pipeline.web.search_errors import searching
from pipeline.web.services import AttemptServices
from schemas.http.attempts import AttemptAnswer

_PER_PAGE: Final = 1_000
_PER_PAGE_WITH_BODIES: Final = 50
"""Fewer, because of the bodies."""
_BODIES: Final = ("request_body", "response_body", "response_body_encoding")
_LINE: Final = tuple(AttemptAnswer.model_fields)

Line = dict[str, Any]
"""An attempt as in JSON, with its bodies if they were requested."""


async def pages(api: AttemptServices, query: AttemptQuery, *, with_bodies: bool) -> AsyncIterator[list[Line]]:
    """The attempts of a search, page by page. Only the first page may be empty.

    Raises:
        ApiError: 422, the order is not by time, or the search takes too much; 503, ClickHouse does not answer.
    """
    if query.in_time is None:
        raise InvalidError({"q": ["Exports are sorted by time. Leave out the sort, or sort by created_at only."]})
    # With a cursor, the store does not count all results.
    first = beginning(descending=query.in_time.descending)
    query = replace(query, page=1, per_page=_PER_PAGE_WITH_BODIES if with_bodies else _PER_PAGE, after=query.after or first)
    while True:
        async with searching(api):
            page = await api.search.attempts(query)
        if with_bodies:
            async for lines in _with_bodies(api, page.items):
                yield lines
        else:
            yield [_line(row) for row in page.items]
        cursor = decode_cursor(page.next_cursor) if page.next_cursor else None
        if cursor is None:
            return
        query = replace(query, after=cursor)


async def _with_bodies(api: AttemptServices, attempts: Sequence[AttemptRow]) -> AsyncIterator[list[Line]]:
    """The attempts of a page. One with a large body is read and passed on alone."""
    found, lines = await _bodies(api, attempts, LARGE_BODY), list[Line]()
    for row in attempts:
        bodies = found.get(row.id)
        is_gone = row.id not in found  # its retention has just ended; asking again finds nothing
        if bodies is not None or is_gone:
            lines.append(_with(row, bodies))
            continue
        if lines:
            yield lines
            lines = []
        yield [_with(row, (await _bodies(api, [row])).get(row.id))]
    if lines or not attempts:
        yield lines


async def _bodies(
    api: AttemptServices, attempts: Sequence[AttemptRow], most_bytes: int | None = None
) -> dict[int, Bodies | None]:
    async with searching(api):
        return await api.search.bodies_of(attempts, most_bytes)


def _with(row: AttemptRow, bodies: Bodies | None) -> Line:
    return _line(row) | (asdict(bodies) if bodies else dict.fromkeys(_BODIES))


def _line(row: AttemptRow) -> Line:
    return AttemptAnswer(**asdict(row)).model_dump(mode="json", include=set(_LINE))


async def write_csv(found: AsyncIterator[list[Line]], *, with_bodies: bool) -> AsyncIterator[bytes]:
    """CSV (RFC 4180) with a header. Cells are escaped so that spreadsheets do not read them as formulas."""
    names = _LINE + (_BODIES if with_bodies else ())
    yield _csv_line(names)
    async for lines in found:
        yield b"".join(_csv_line(cell(line[name]) for name in names) for line in lines)


def _csv_line(values: Any) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(values)
    # ClickHouse returns no lone surrogates, but one must not break an export halfway.
    return text.getvalue().encode("utf-8", "replace")


async def write_json(found: AsyncIterator[list[Line]]) -> AsyncIterator[bytes]:
    """A JSON array with one attempt per line."""
    before = b"[\n"
    async for lines in found:
        for line in lines:
            yield before + json.dumps(line, ensure_ascii=False).encode("utf-8", "replace")
            before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"
