"""``/webhooks/attempts``: the search form, the results, and their distribution over time, endpoints and event types."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from pipeline.core.search import AttemptQuery, Cursor, SearchLimitError, Sort, beginning, decode_cursor
from pipeline.store.search.conditions import has_body
from pipeline.store.search.find import is_found_by_index
from pipeline.store.search.queries import AttemptPage, AttemptRow
from pipeline.store.search.summary import MAX_BY_BODY, SearchSummary, summary_of
from pipeline.web.api.attempts import asked
from pipeline.web.api.exports import EXPORT_PARAMETERS, export
from pipeline.web.auth import principal_of
from pipeline.web.dashboard.attempt_list_view import TIMES, AttemptListPage, AttemptListRow, AttemptListView, drawn
from pipeline.web.dashboard.filter_chips import FIELDS, FilterForm, has_blanks, in_utc, read_filters
from pipeline.web.dashboard.highlight import excerpt, needles
from pipeline.web.dashboard.optional_reads import OptionalReads, optional
from pipeline.web.dashboard.page import PREFIX, DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.dashboard.sessions import own_address
from pipeline.web.dashboard.time_zone import local
from pipeline.web.endpoint_names import endpoint_names
from pipeline.web.errors import ApiError, InvalidError, explained
from pipeline.web.quick_search import ReferenceKind, canonical_number, matching, named, recognize
from pipeline.web.routes import AFTER, FILTERS, PAGE, Parameter
from pipeline.web.search_errors import searching
from pipeline.web.services import AttemptListServices
from schemas.api_key import Access
from schemas.audit import AuditAction

ATTEMPTS: Final = f"{PREFIX}/attempts"
_BEFORE: Final = Parameter("before", "The cursor of the following page. Shows the attempts before it.")
_BARS: Final = 60
_MAX_NAMED: Final = 50
"""The most endpoints that part of a name may match."""
_COUNTED_AT_ONCE: Final = 100
"""The most attempts that are counted without another query. An order, for example, has fewer."""

_LinkedPage = tuple[AttemptPage, str | None, str | None]
"""A page, and the query strings of the previous and the next page."""


def attempt_search_pages(renderer: PageRenderer, api: AttemptListServices) -> Iterable[DashboardPage]:
    """The pages, below ``/webhooks``."""

    async def index(request: web.Request) -> web.StreamResponse:
        filters = read_filters(await _as_meant(api, in_utc(request.query.items())))
        if has_blanks(request.query.items()) or list(filters.pairs) != list(read_filters(request.query.items()).pairs):
            # Redirect to a link without the empty fields of the form, with times in UTC, numbers as the OMS writes them, and
            # endpoints by id. Parameters without effect stay in the link, so that they are reported.
            return renderer.redirect(request, f"{ATTEMPTS}?{urlencode([*filters.pairs, *filters.unknown])}")
        link = f"{own_address(request)}{ATTEMPTS}" + (f"?{filters.query()}" if filters.pairs else "")
        try:
            query = await asked(api, request, local(api.clock()), has_pages=True)
            if _is_one_look(request, query):
                found, counted = await _found_and_counted(api, request, query, filters)
            else:
                found, counted = await asyncio.gather(
                    _found(api, request, query, filters),
                    optional(api, api.search.summary(query, _BARS)),
                )
        except (ApiError, SearchLimitError) as error:
            problems = error.sentences if isinstance(error, InvalidError) else [str(error)]
            view = _view(api, filters, None, OptionalReads(None), problems=problems)
            status = explained(request, error).status
            return renderer.show(request, "attempts.html", status, view=view, times=TIMES, link=link)
        view = _view(api, filters, found, counted, ignored=query.ignored)
        return renderer.show(request, "attempts.html", view=view, times=TIMES, link=link)

    async def as_csv(request: web.Request) -> web.StreamResponse:
        return await export(api, request, "csv", local(api.clock()))

    async def as_json(request: web.Request) -> web.StreamResponse:
        return await export(api, request, "json", local(api.clock()))

    return [
        DashboardPage("GET", "/attempts", index, Access.VIEWER, (FILTERS, *PAGE, AFTER, _BEFORE)),
        DashboardPage("GET", "/attempts/export.csv", as_csv, Access.VIEWER, EXPORT_PARAMETERS, exports=True),
        DashboardPage("GET", "/attempts/export.json", as_json, Access.VIEWER, EXPORT_PARAMETERS, exports=True),
    ]


async def _as_meant(api: AttemptListServices, pairs: Iterable[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """The filters, with numbers as the OMS writes them and endpoints by id: people type ``r742 992 696`` and names."""
    meant: list[tuple[str, str]] = []
    for key, value in pairs:
        if key in (FIELDS["order"], FIELDS["shipment"]):
            kind = ReferenceKind.ORDER if key == FIELDS["order"] else ReferenceKind.SHIPMENT
            meant.append((key, await _number(api, kind, value.strip())))
        elif key == FIELDS["endpoint"] and value.strip() and not value.strip().isdigit():
            found, _ = matching(named(api.registry.all()), recognize(value))
            if len(found) == 1:
                meant.append((key, str(found[0].id)))
            elif 1 < len(found) <= _MAX_NAMED:
                meant += [("q[endpoint_id_in][]", str(one.id)) for one in found]
            else:
                meant.append((key, value))
        else:
            meant.append((key, value))
    return meant


async def _number(api: AttemptListServices, kind: ReferenceKind, typed: str) -> str:
    """One number, never both: as it was typed, as in the API, if it is on record. Otherwise as our OMS writes it."""
    other = canonical_number(typed)
    if other == typed:
        return typed
    looked = await optional(api, api.search.recorded_values([(kind.value, typed)]))
    return typed if looked.found else other


def _view(
    api: AttemptListServices,
    filters: FilterForm,
    found: AttemptListPage | None,
    counted: OptionalReads[SearchSummary],
    ignored: Sequence[str] = (),
    problems: Sequence[str] = (),
) -> AttemptListView:
    return AttemptListView(
        filters=filters,
        found=found,
        summary=counted.found,
        no_summary=counted.problem,
        histogram=drawn(counted.found.histogram, filters) if counted.found else None,
        endpoints=endpoint_names(api.registry.receivers()),
        ignored=ignored,
        problems=problems,
        event_names=api.events.types.names,
        removed_names=[one.name for one in api.catalogue.removed()],
    )


def _is_one_look(request: web.Request, query: AttemptQuery) -> bool:
    """Whether this is the first page of a search that an index answers. Then the same query also returns the statistics."""
    is_first = query.after is None and not request.query.get("before", "")
    is_newest = query.in_time is not None and query.in_time.descending
    return is_first and is_newest and (any(map(has_body, query.required)) or is_found_by_index(query))


async def _found_and_counted(
    api: AttemptListServices, request: web.Request, query: AttemptQuery, filters: FilterForm
) -> tuple[AttemptListPage, OptionalReads[SearchSummary]]:
    """A page with its statistics, in one query, because finding the attempts takes longer than reading them."""
    has_bodies = any(map(has_body, query.required))
    async with searching(api):
        most = MAX_BY_BODY if has_bodies else _COUNTED_AT_ONCE
        newest = await api.search.attempts(replace(query, per_page=max(most, query.per_page), after=beginning()))
    page = replace(newest, items=newest.items[: query.per_page])
    is_all = newest.next_cursor is None
    counted = OptionalReads(summary_of(newest.items, is_all=is_all, bars=_BARS))
    if not (has_bodies or is_all):
        counted = await optional(api, api.search.summary(query, _BARS))
    has_more = bool(page.items) and (not is_all or len(newest.items) > len(page.items))
    older = _after(page, filters, descending=True) if has_more else None
    return AttemptListPage(await _rows(api, request, query, page.items), None, older), counted


async def _found(api: AttemptListServices, request: web.Request, query: AttemptQuery, filters: FilterForm) -> AttemptListPage:
    async with searching(api):
        if query.in_time is None:
            page, newer, older = await _page_by_number(api, query, filters)
        else:
            before = request.query.get("before", "")
            page, newer, older = await _page_by_cursor(api, query, filters, before, descending=query.in_time.descending)
    found = AttemptListPage(await _rows(api, request, query, page.items), newer, older)
    if query.in_time is None:
        found = replace(found, number=page.current_page, pages=page.pages)
    return replace(found, sorted_count=page.total_count, sorted_since=page.sorted_since) if page.sorted_since else found


async def _page_by_number(api: AttemptListServices, query: AttemptQuery, filters: FilterForm) -> _LinkedPage:
    page = await api.search.attempts(query)
    newer = filters.query(page=str(page.current_page - 1)) if page.current_page > 1 and page.items else None
    has_more = page.current_page < page.pages or not (page.is_exact or page.sorted_since)
    return page, newer, filters.query(page=str(page.current_page + 1)) if has_more else None


async def _page_by_cursor(
    api: AttemptListServices, query: AttemptQuery, filters: FilterForm, before: str, *, descending: bool
) -> _LinkedPage:
    if before and (cursor := decode_cursor(before)) is not None:
        # Backward: search in the opposite order, then reverse the rows.
        back, sorts = Cursor(cursor.created_at_ms, cursor.id, not descending), (Sort("created_at", descending=not descending),)
        found = await api.search.attempts(replace(query, sorts=sorts, page=1, after=back))
        if found.next_cursor is not None:
            page = replace(found, items=found.items[::-1])
            return page, _before(page, filters), _after(page, filters, descending=descending)
    page = await api.search.attempts(replace(query, after=query.after or beginning(descending=descending)))
    newer = _before(page, filters) if query.after is not None and page.items else None
    return page, newer, filters.query(after=page.next_cursor) if page.next_cursor else None


def _before(page: AttemptPage, filters: FilterForm) -> str:
    return filters.query(before=_cursor(page.items[0], descending=True))


def _after(page: AttemptPage, filters: FilterForm, *, descending: bool) -> str:
    return filters.query(after=_cursor(page.items[-1], descending=descending))


def _cursor(row: AttemptRow, *, descending: bool) -> str:
    return Cursor(round(row.created_at.timestamp() * 1000), row.id, descending).encode()


async def _rows(
    api: AttemptListServices, request: web.Request, query: AttemptQuery, attempts: Sequence[AttemptRow]
) -> Sequence[AttemptListRow]:
    """The attempts. Readers who may see bodies also get excerpts around the matches in the bodies."""
    wanted = needles(query)
    if not wanted or not attempts or not principal_of(request).role.covers(Access.OPERATOR):
        return [AttemptListRow(one) for one in attempts]
    async with searching(api):
        found = await api.search.request_bodies(attempts)
    await api.audit.put(
        request, AuditAction.VIEW_BODY, "attempts", f"excerpts of {sum(one.event_id in found for one in attempts)}"
    )
    # A page of bodies takes long: meanwhile, other requests are answered.
    excerpts = await asyncio.to_thread(lambda: {event_id: excerpt(body, wanted) for event_id, body in found.items()})
    return [AttemptListRow(one, excerpts.get(one.event_id, ())) for one in attempts]
