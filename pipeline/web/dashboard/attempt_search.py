"""``/webhooks/attempts``: the search. Its form, what was found, and how that is spread over time, endpoints and event types."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from pipeline.core.search import AttemptQuery, Cursor, SearchLimitError, Sort, beginning, decode_cursor
from pipeline.store.conditions import has_body
from pipeline.store.figures import Histogram
from pipeline.store.search import AttemptPage, AttemptRow
from pipeline.store.summary import MOST_BY_BODY, Summary, summary_of
from pipeline.web.api import Api
from pipeline.web.attempts_api import asked
from pipeline.web.audit import audit
from pipeline.web.auth import principal_of
from pipeline.web.dashboard.charts import Bar, Chart, columns
from pipeline.web.dashboard.desk import Desk
from pipeline.web.dashboard.figures import Figures, figures
from pipeline.web.dashboard.filters import ORDERS, Filters, has_blanks, read_filters
from pipeline.web.dashboard.highlight import Piece, excerpt, needles
from pipeline.web.dashboard.pages import PREFIX, Page
from pipeline.web.dashboard.texts import iso, stamp, words
from pipeline.web.errors import ApiError, explained
from pipeline.web.export_api import EXPORT_PARAMETERS, export
from pipeline.web.routes import AFTER, FILTERS, PAGE, Parameter
from pipeline.web.searching import searching
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.event import EventType

ATTEMPTS: Final = f"{PREFIX}/attempts"
_BEFORE: Final = Parameter("before", "The cursor of the page behind: what comes before it.")
_BARS: Final = 60
_MOST_ENDPOINTS: Final = 200
"""Endpoints that a menu shows; with more, their ids are typed."""


@dataclass(frozen=True, slots=True)
class Row:
    """An attempt, and what of its body was searched for."""

    attempt: AttemptRow
    excerpt: Sequence[Piece] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A page of rows; ``newer`` and ``older`` are the query strings of the pages beside it, None where there is none."""

    rows: Sequence[Row] = ()
    newer: str | None = None
    older: str | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """A bar of the histogram, and the search for its time."""

    bar: Bar
    href: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """The histogram: its bars with their links, and the times at its ends."""

    chart: Chart
    slots: Sequence[Slot]
    begin: str
    end: str


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows. ``found`` is None when the search could not be made; ``problems`` say why."""

    filters: Filters
    found: Found | None
    summary: Summary | None
    no_summary: str | None
    histogram: Drawn | None
    endpoints: Mapping[int, str]
    ignored: Sequence[str]
    problems: Sequence[str]

    @property
    def endpoint_menu(self) -> Sequence[tuple[str, str]]:
        """The endpoints to choose from; none when there are too many, or when another is asked for."""
        menu = [("", "Any"), *((str(one), f"{one} · {url}") for one, url in self.endpoints.items())]
        asked = self.filters.values["endpoint"]
        return menu if len(menu) <= _MOST_ENDPOINTS and asked in dict(menu) else ()

    @property
    def event_menu(self) -> Sequence[tuple[str, str]]:
        """The event types to choose from, and the one that is asked for."""
        known = dict.fromkeys([*(event.value for event in EventType), self.filters.values["event"]])
        return [("", "Any"), *((one, words(one)) for one in known if one)]

    @property
    def order_menu(self) -> Sequence[tuple[str, str]]:
        """The orders to choose from."""
        return list(ORDERS.items())


def attempt_search_pages(desk: Desk) -> Iterable[Page]:
    """The pages, below ``/webhooks``."""

    async def index(request: web.Request) -> web.StreamResponse:
        filters = read_filters(request.query.items())
        if has_blanks(request.query.items()):
            # A form sends its empty fields too. The link without them is the one to keep.
            # What has no effect stays in it, to be told of.
            return desk.redirect(request, f"{ATTEMPTS}?{urlencode([*filters.pairs, *filters.unknown])}")
        try:
            query = await asked(desk.api, request)
            if _is_one_look(request, query):
                found, counted = await _found_and_counted(desk.api, request, query, filters)
            else:
                found, counted = await asyncio.gather(
                    _found(desk.api, request, query, filters), figures(desk.api, desk.api.search.summary(query, _BARS))
                )
        except (ApiError, SearchLimitError) as error:
            problem = explained(request, error)
            sentences = [sentence for of_field in (problem.fields or {}).values() for sentence in of_field]
            view = _view(desk.api, filters, None, Figures(None), problems=sentences or [problem.message])
            return desk.show(request, "attempts.html", problem.status, view=view)
        return desk.show(request, "attempts.html", view=_view(desk.api, filters, found, counted, ignored=query.ignored))

    async def as_csv(request: web.Request) -> web.StreamResponse:
        return await export(desk.api, request, "csv")

    async def as_json(request: web.Request) -> web.StreamResponse:
        return await export(desk.api, request, "json")

    return [
        Page("GET", "/attempts", index, Access.VIEWER, (FILTERS, *PAGE, AFTER, _BEFORE)),
        Page("GET", "/attempts/export.csv", as_csv, Access.VIEWER, EXPORT_PARAMETERS, exports=True),
        Page("GET", "/attempts/export.json", as_json, Access.VIEWER, EXPORT_PARAMETERS, exports=True),
    ]


def _view(
    api: Api,
    filters: Filters,
    found: Found | None,
    counted: Figures[Summary],
    ignored: Sequence[str] = (),
    problems: Sequence[str] = (),
) -> View:
    endpoints = {endpoint.id: endpoint.target_url for endpoint in api.registry.all()}
    return View(
        filters=filters,
        found=found,
        summary=counted.found,
        no_summary=counted.problem,
        histogram=_drawn(counted.found.histogram, filters) if counted.found else None,
        endpoints=endpoints,
        ignored=ignored,
        problems=problems,
    )


def _is_one_look(request: web.Request, query: AttemptQuery) -> bool:
    """Whether it is the first page of the newest attempts that a search for bodies finds: then its figures are of these, too."""
    is_first = query.after is None and not request.query.get("before", "")
    is_newest = query.in_time is not None and query.in_time.descending
    return is_first and is_newest and any(map(has_body, query.required))


async def _found_and_counted(
    api: Api, request: web.Request, query: AttemptQuery, filters: Filters
) -> tuple[Found, Figures[Summary]]:
    """A page with its figures, by one look: each body that is read has its price."""
    async with searching(api):
        newest = await api.search.attempts(replace(query, per_page=max(MOST_BY_BODY, query.per_page), after=beginning()))
    page = replace(newest, items=newest.items[: query.per_page])
    has_more = newest.next_cursor is not None or len(newest.items) > len(page.items)
    counted = summary_of(newest.items, is_all=newest.next_cursor is None, bars=_BARS)
    older = _after(page, filters, descending=True) if has_more else None
    return Found(await _rows(api, request, query, page.items), None, older), Figures(counted)


async def _found(api: Api, request: web.Request, query: AttemptQuery, filters: Filters) -> Found:
    async with searching(api):
        page, newer, older = await _page(api, query, filters, request.query.get("before", ""))
    return Found(await _rows(api, request, query, page.items), newer, older)


async def _page(api: Api, query: AttemptQuery, filters: Filters, before: str) -> tuple[AttemptPage, str | None, str | None]:
    """A page, and the query strings of those beside it."""
    in_time = query.in_time
    if in_time is None:
        page = await api.search.attempts(query)
        newer = filters.query(page=str(page.current_page - 1)) if page.current_page > 1 else None
        has_more = page.current_page < page.pages or not page.is_exact
        return page, newer, filters.query(page=str(page.current_page + 1)) if has_more else None
    if before and (cursor := decode_cursor(before)) is not None:
        # Back towards the beginning: the search in the opposite order, turned round.
        back = Cursor(cursor.created_at_ms, cursor.id, not in_time.descending)
        found = await api.search.attempts(
            replace(query, sorts=(Sort("created_at", descending=not in_time.descending),), page=1, after=back)
        )
        if found.next_cursor is not None:
            page = replace(found, items=found.items[::-1])
            return page, _before(page, filters), _after(page, filters, descending=in_time.descending)
    page = await api.search.attempts(replace(query, after=query.after or beginning(descending=in_time.descending)))
    newer = _before(page, filters) if query.after is not None and page.items else None
    return page, newer, filters.query(after=page.next_cursor) if page.next_cursor else None


def _before(page: AttemptPage, filters: Filters) -> str:
    return filters.query(before=_cursor(page.items[0], descending=True))


def _after(page: AttemptPage, filters: Filters, *, descending: bool) -> str:
    return filters.query(after=_cursor(page.items[-1], descending=descending))


def _cursor(row: AttemptRow, *, descending: bool) -> str:
    return Cursor(round(row.created_at.timestamp() * 1000), row.id, descending).encode()


async def _rows(api: Api, request: web.Request, query: AttemptQuery, attempts: Sequence[AttemptRow]) -> Sequence[Row]:
    """The attempts, with the surroundings of what was searched for in their bodies, for those who may see bodies."""
    wanted = needles(query)
    if not wanted or not attempts or not principal_of(request).role.covers(Access.OPERATOR):
        return [Row(one) for one in attempts]
    async with searching(api):
        found = await api.search.bodies_of(attempts)
    await audit(api, request, AuditAction.VIEW_BODY, "attempts", f"excerpts of {len(found)}")
    bodies = {one: body.request_body or "" for one, body in found.items()}
    return [Row(one, excerpt(bodies.get(one.id, ""), wanted)) for one in attempts]


def _label(time: datetime) -> str:
    return stamp(time).removesuffix(":00 UTC").removesuffix(" 00:00")


def _drawn(histogram: Histogram, filters: Filters) -> Drawn:
    width = timedelta(seconds=histogram.seconds)
    chart = columns(
        [
            (
                f"{_label(bar.begins_at)}: {bar.attempts - bar.failures:,} succeeded, {bar.failures:,} failed",
                bar.attempts - bar.failures,
                bar.failures,
            )
            for bar in histogram.bars
        ],
        width=720.0,
        height=72.0,
    )
    links = [
        filters.link(since=iso(bar.begins_at), until=iso(bar.begins_at + width - timedelta(milliseconds=1)))
        for bar in histogram.bars
    ]
    begins = [bar.begins_at for bar in histogram.bars]
    slots = [Slot(bar, f"?{link}") for bar, link in zip(chart.bars, links, strict=True)]
    return Drawn(chart, slots, _label(begins[0]) if begins else "", _label(begins[-1] + width) if begins else "")
