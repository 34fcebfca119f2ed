"""Walking through time, on both engines: cursors while rows arrive, late attempts, figures, and hostile searches.

Tests with many searches take seconds.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from pipeline.core.search import ATTRIBUTES, PREDICATES, AttemptQuery, Kind, Predicate, SearchLimitError, parse_query
from pipeline.core.search.attributes import WORDS
from pipeline.core.search.predicates import INVERSE
from pipeline.store.rows import RowPosition, attempt_id, attempt_row, event_row
from pipeline.store.search import time_windows
from pipeline.store.search.queries import AttemptRow
from pipeline.store.writer import Table
from tests.contract.search_oracle import Asked, Pairs, World, newest_first, world
from tests.contract.store_case import WITHOUT_HTTP_ALONE, Store
from tests.contract.store_records import START, attempt, body, dispatch, event_rows, meta

PAGES_MEANWHILE = 4
"""If rows arrived all the time, the length of the walk would depend on the speed of the machine."""


async def fill(store: Store, seed: int = 7, size: int = 150) -> World:
    made = world(seed, size)
    await store.writer.append(Table.ATTEMPTS, 0, [one.row for one in made.attempts])
    await store.writer.append(Table.EVENTS, 0, made.events)
    return made


async def walked(store: Store, pairs: Pairs, meanwhile: Callable[[], Awaitable[None]] | None = None) -> list[AttemptRow]:
    """Return all pages; ``meanwhile`` runs while each of the first ones is read."""
    rows: list[AttemptRow] = []
    more: Pairs = []
    for number in itertools.count():
        beside = meanwhile() if meanwhile and number < PAGES_MEANWHILE else asyncio.sleep(0)
        page, _ = await asyncio.gather(store.search.attempts(parse_query([*pairs, *more])), beside)
        rows += page.items
        if page.next_cursor is None:
            break
        more = [("after", page.next_cursor)]
    return rows


@pytest.mark.parametrize("order", ["created_at desc", pytest.param("created_at asc", marks=pytest.mark.slow)])
async def test_cursors_while_rows_arrive(store: Store, monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    """No row twice, and none of the first rows missing, whatever the time of new rows."""
    monkeypatch.setattr(time_windows, "_FIRST_ROWS", 20)
    made = await fill(store, size=50)
    wanted = {one.id for one in made.attempts if one.values["state"] == "failed"}
    offsets = itertools.count(1000, 6)

    async def write() -> None:
        offset = next(offsets)
        times = [START + timedelta(days=number * 3 % 400 - 5, milliseconds=offset % 1000) for number in range(offset, offset + 6)]
        rows = [
            attempt_row(RowPosition(3, number), attempt(number, created_at=time))
            for number, time in zip(range(offset, offset + 6), sorted(times), strict=True)
        ]
        await store.writer.append(Table.ATTEMPTS, 3, rows)

    await write()
    rows = await walked(store, [("q[s]", order), ("per_page", "12"), ("q[target_url_cont]", "example")], write)
    failed = await walked(store, [("q[s]", order), ("per_page", "9"), ("q[state_eq]", "failed")], write)
    assert len({row.id for row in rows}) == len(rows) > len(made.attempts)
    assert {one.id for one in made.attempts} <= {row.id for row in rows}
    assert {row.id for row in failed} == wanted
    assert [(row.created_at, row.id) for row in rows] == sorted(
        ((row.created_at, row.id) for row in rows), reverse=order.endswith("desc")
    )


@pytest.mark.parametrize("order", ["created_at asc", "created_at desc"])
async def test_recent_events_are_found_by_body_despite_a_cached_range(store: Store, order: str) -> None:
    """The store's range is a few seconds old; since then, more events arrived than are looked up at once."""

    async def record(numbers: range, delay: timedelta) -> None:
        times = {number: START + delay + timedelta(seconds=number) for number in numbers}
        events = [
            event_row(RowPosition(0, number), dispatch(number, received_at=at), body(number, "needle"))
            for number, at in times.items()
        ]
        attempts = [
            attempt_row(RowPosition(0, number), attempt(number, event=meta(number, received_at=at), created_at=at))
            for number, at in times.items()
        ]
        await store.writer.append(Table.EVENTS, 0, events)
        await store.writer.append(Table.ATTEMPTS, 0, attempts)

    await record(range(30), timedelta(0))
    assert (await store.search.attempts(parse_query([]))).total_count == 30
    await record(range(30, 120), timedelta(hours=1))

    found = await walked(store, [("q[request_body_cont]", "needle"), ("q[s]", order), ("per_page", "20")])
    wanted = [f"evt_{number}" for number in range(120)]
    assert [one.event_id for one in found] == (wanted if order.endswith("asc") else wanted[::-1])


async def test_no_read_returns_an_attempt_twice(store: Store) -> None:
    """Events dispatched twice, batches written twice."""
    made = await fill(store)
    await store.writer.append(Table.ATTEMPTS, 0, [one.row for one in made.attempts])
    counts = "SELECT count(), uniqExact(id) FROM"
    for source in ("attempts", "attempt_details"):
        assert await store.rows(f"{counts} {source}") == [(150, 150)]
    for pairs in (
        [],
        [("q[request_body_cont]", "r")],
        [("q[m]", "or"), ("q[request_body_not_cont]", "r"), ("q[state_eq]", "failed")],
    ):
        ids = [row.id for row in await walked(store, [*pairs, ("per_page", "20")])]
        assert len(set(ids)) == len(ids)
        facets = await store.search.facets(parse_query(pairs))
        histogram = await store.search.histogram(parse_query(pairs))
        assert facets.total == sum(facets.events.values()) == sum(facets.endpoints.values()) == len(ids)
        assert sum(bar.attempts for bar in histogram.bars) == len(ids)
        assert sum(bar.failures for bar in histogram.bars) == facets.states.get("failed", 0)


async def test_bodies_of_late_attempts_are_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry after weeks, an event that waited in Kafka, one whose record has no time of receipt."""
    monkeypatch.setattr(time_windows, "_FIRST_ROWS", 5)
    old = dispatch(1, event=meta(1, received_at=START), received_at=START)
    unsaid = dispatch(2, event=meta(2), received_at=START)
    fresh = [dispatch(number, event=meta(number, received_at=START)) for number in range(10, 40)]
    late = START + timedelta(days=60)
    attempts = [
        *(attempt(number, event=one.event, created_at=START + timedelta(days=number)) for number, one in enumerate(fresh)),
        attempt(98, event=old.event, created_at=late),
        attempt(99, event=unsaid.event, created_at=late),
    ]
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, n), one) for n, one in enumerate(attempts)])
    await store.writer.append(Table.EVENTS, 0, [event_row(RowPosition(0, 0), old, body(1, "the needle"))])
    await store.writer.append(Table.EVENTS, 1, [event_row(RowPosition(1, 0), unsaid, body(2, "the needle"))])
    await store.writer.append(Table.EVENTS, 2, event_rows(range(10, 40), 2))
    found = await store.search.attempts(parse_query([("q[request_body_cont]", "the NEEDLE"), ("per_page", "1")]))
    assert [row.event_id for row in found.items] == ["evt_2"]
    assert found.next_cursor is not None
    found = await store.search.attempts(parse_query([("q[request_body_cont]", "the NEEDLE"), ("after", found.next_cursor)]))
    assert [row.event_id for row in found.items] == ["evt_1"]


async def test_an_attempt_made_before_its_record_was_read_again_is_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record without a usable timestamp is received when it is read: twice if the process died in between. Its attempts do
    not say when."""
    monkeypatch.setattr(time_windows, "_FIRST_ROWS", 5)
    again = START + timedelta(hours=20)
    attempts = [
        attempt(0, event=meta(1), created_at=START),
        attempt(1, event=meta(1), created_at=again),
        *(attempt(number, created_at=again + timedelta(days=number)) for number in range(10, 40)),
    ]
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, n), one) for n, one in enumerate(attempts)])
    dispatched = dispatch(1, event=meta(1, received_at=again), received_at=again)
    await store.writer.append(Table.EVENTS, 0, [event_row(RowPosition(0, 0), dispatched, body(1, "the needle"))])
    found = await store.search.attempts(parse_query([("q[request_body_cont]", "the needle")]))
    assert [row.id for row in found.items] == [attempt_id(0, 1), attempt_id(0, 0)]


async def test_a_count_of_text_matches_stops_if_it_takes_long(store: Store) -> None:
    rows = [attempt_row(RowPosition(0, number), attempt(number)) for number in range(1500)]
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    counted = await store.search.attempts(parse_query([("q[state_eq]", "succeeded")]))
    assert (counted.total_count, counted.is_exact) == (1500, True)
    texts = await store.search.attempts(parse_query([("q[response_body_cont]", "grüße")]))
    assert (texts.total_count, texts.is_exact, texts.pages) == (1000, False, 40)
    for page, pages in ((39, 40), (40, 41), (41, 42)):
        beyond = await store.search.attempts(parse_query([("q[response_body_cont]", "grüße"), ("page", str(page))]))
        assert (beyond.is_exact, beyond.pages) == (False, pages), "reading page after page does not stop at the count"
    last = await store.search.attempts(parse_query([("q[response_body_cont]", "grüße"), ("page", "60")]))
    assert ([row.id for row in last.items], last.total_count, last.is_exact) == (
        [attempt_id(0, number) for number in range(24, -1, -1)],
        1500,
        True,
    )


async def test_figures_match_the_found_attempts(store: Store) -> None:
    made = await fill(store)
    asked: Pairs = [("q[request_body_cont]", "r1"), ("q[created_at_gteq]", "2026-02-01")]
    in_the_body = Asked(("request_body",), "or", "cont", "", ("r1",), ("r1",))
    found = [one for one in newest_first(made.attempts) if in_the_body.holds(one)]
    facets = await store.search.facets(parse_query(asked))
    counted: dict[str, Mapping[Any, int]] = {
        "state": facets.states,
        "event_name": facets.events,
        "endpoint_id": facets.endpoints,
    }
    for name, counts in counted.items():
        assert counts == {value: sum(one.values[name] == value for one in found) for value in {one.values[name] for one in found}}
    histogram = await store.search.histogram(parse_query(asked), 10)
    assert 0 < len(histogram.bars) <= 15
    width = timedelta(seconds=histogram.seconds)
    for bar in histogram.bars:
        inside = [one for one in found if bar.begins_at <= one.values["created_at"] < bar.begins_at + width]
        assert (bar.attempts, bar.failures) == (len(inside), sum(one.values["state"] == "failed" for one in inside))
    nothing = parse_query([("q[created_at_gteq]", "2200-01-01")])
    assert (await store.search.facets(nothing)).total == 0
    assert (await store.search.histogram(nothing)).bars == ()


async def test_an_empty_store(store: Store) -> None:
    for pairs in ([], [("q[request_body_cont]", "abc")], [("q[s]", "id asc")], [("page", "3")]):
        page = await store.search.attempts(parse_query(pairs))
        assert (page.items, page.total_count, page.is_exact, page.next_cursor) == ((), 0, True, None)
    assert (await store.search.facets(AttemptQuery())).total == 0


HOSTILE = [
    "' OR 1=1 --",
    "') OR ('1'='1",
    "\\') OR 1=1 --",
    "\\",
    "%' OR '%'='",
    "'; DROP TABLE attempts; --",
    "/* */",
    "-- ",
    "#",
    "`id`",
    "{p0:String}",
    "{p0:Identifier}",
    "${id}",
    "%(p0)s",
    "%s %d %n",
    "x\x00y",
    "\x00",
    "\ufeff\u202e",
    "🎁" * 200,
    "%" * 50 + "_" * 50,
    "%a" * 200,
    "x" * 20_000,
    "FORMAT JSON SETTINGS readonly=0",
    "SELECT 1) UNION ALL (SELECT 2",
]


@pytest.mark.slow
@WITHOUT_HTTP_ALONE
async def test_hostile_values_are_only_values(store: Store) -> None:
    """A search for one finds the attempt that has it, or nothing; it never changes the meaning or fails."""
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, n), attempt(n)) for n in range(3)])
    await store.writer.append(Table.EVENTS, 0, event_rows(range(3)))
    texts = [name for name, kind in ATTRIBUTES.items() if kind in (Kind.TEXT, Kind.TEXTS, Kind.BODY) and name not in WORDS]
    for text in HOSTILE:
        # One search with all attributes: each of them finds nothing.
        either = [
            ("q[m]", "or"),
            *((f"q[{name}_{form}]", text) for name in texts for form in ("eq", "in_any", "start_any", "cont_all")),
        ]
        wanted = 0 if text.strip(" \x00") else 3
        page = await store.search.attempts(parse_query(either))
        assert (text, page.total_count in (0, wanted)) == (text, True)
        nowhere = [(f"q[{name}_{form}]", text) for name in texts for form in ("not_eq", "not_cont", "not_in")]
        assert (text, (await store.search.attempts(parse_query(nowhere))).total_count) == (text, 3)
    assert await store.rows("SELECT count() FROM attempts") == [(3,)]


async def test_every_predicate_of_every_attribute_runs(store: Store) -> None:
    samples = {Kind.INTEGER: "1", Kind.NUMBER: "1.5", Kind.TIME: "2026-03-02", Kind.STATE: "failed", Kind.BOOLEAN: "1"}
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, n), attempt(n)) for n in range(3)])
    for name, kind in ATTRIBUTES.items():
        pairs: Pairs = [("q[m]", "or")]
        sample = WORDS[name][0] if name in WORDS else samples.get(kind, "x")
        for predicate in PREDICATES[kind]:
            forms = [""] if predicate in INVERSE else ["", "_any", "_all"]
            pairs += [(f"q[{name}_{predicate}{form}]", "1" if predicate in INVERSE else sample) for form in forms]
        query = parse_query(pairs)
        assert query.ignored == ()
        assert (name, (await store.search.attempts(query)).total_count) == (name, 3)
        positive = [one for one in PREDICATES[kind] if one in (Predicate.EQ, Predicate.IN)]
        assert positive


@pytest.mark.parametrize("at_most", [True, False])
@pytest.mark.slow
@WITHOUT_HTTP_ALONE
async def test_the_largest_searches(store: Store, at_most: bool) -> None:
    """At every bound there is an answer; one step beyond, a clear error."""
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, n), attempt(n)) for n in range(3)])
    await store.writer.append(Table.EVENTS, 0, event_rows(range(3)))
    more = 0 if at_most else 1
    searches: list[Pairs] = [
        [("q[request_body_cont_any][]", f"needle {n}") for n in range(200 + more)],
        [(f"q[g][{n}][request_body_{form}]", "evt") for n in range(100 + more) for form in ("not_cont", "cont")],
        [("q[order_number_in][]", f"R{n}") for n in range(1000 + more)],
        [("q" + "[g][0]" * (5 + more) + "[state_eq]", "failed")],
        [("q[request_body_cont]", "x" * (20_000 + more))],
        [("q[request_body_matches]", "%a%b" * (5000 + more))],
    ]
    for pairs in searches:
        if at_most:
            assert (await store.search.attempts(parse_query(pairs))).total_count == 0
        else:
            with pytest.raises(SearchLimitError):
                parse_query(pairs)
