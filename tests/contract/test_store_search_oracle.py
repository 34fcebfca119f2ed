"""Random searches on random attempts find what a naive filter finds, in order, by pages and by cursors, on both engines.

``ORACLE_EXAMPLES=3000`` runs more of them. The usual 120 examples take half a minute.
"""

from __future__ import annotations

import asyncio
import os
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from pipeline.core.search import AttemptQuery, parse_query
from pipeline.store.rows import attempt_id
from pipeline.store.search import find, first_events, time_windows
from pipeline.store.search.queries import Search
from pipeline.store.writer import Table
from tests.contract.empty_stores import EmptyStores
from tests.contract.search_oracle import (
    ERRORS,
    NUMBERS,
    PIECES,
    SHIPMENTS,
    SKUS,
    URLS,
    Asked,
    AskedGroup,
    Attempted,
    Day,
    Pairs,
    World,
    newest_first,
    world,
)
from tests.contract.store_case import WITHOUT_HTTP_ALONE, Store
from tests.contract.store_records import START

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("ORACLE_EXAMPLES", "120"))
WORLDS = 6

EQUALITY = ["eq", "not_eq", "in", "not_in"]
ORDER = ["gt", "gteq", "lt", "lteq"]
PATTERNS = ["matches", "does_not_match", "cont", "not_cont", "i_cont", "not_i_cont", "start", "not_start", "end", "not_end"]
PRESENCE = ["present", "blank", "null", "not_null"]
BOOLEANS = ["true", "not_true", "false", "not_false"]

pieces = st.lists(st.sampled_from(PIECES), min_size=1, max_size=2).map("".join)


def texts(*known: str) -> st.SearchStrategy[str]:
    """Generate whole values, parts of them, other cases, and values that occur nowhere."""
    whole = st.sampled_from([one for one in known if one] or ["x"])
    piece = st.builds(lambda one, first, length: one[first : first + length] or one, whole, st.integers(0, 4), st.integers(1, 5))
    return st.one_of(whole, piece, whole.map(str.upper), whole.map(str.lower), st.just("nowhere"))


NUMERIC: dict[str, st.SearchStrategy[Any]] = {
    "endpoint_id": st.sampled_from([7, 8, 9, 2**33]),
    "http_status_code": st.sampled_from([200, 204, 300, 500, 503]),
    "attempt": st.integers(0, 7),
    "duration_ms": st.sampled_from([0.0, 0.5, 12.375, 12.0, 5000.0]),
    "stock_item_id": st.sampled_from([1, 2, 3, 2**40]),
    "id": st.integers(0, 150).map(lambda number: attempt_id(0, number)),
}
TEXTUAL: dict[str, st.SearchStrategy[str]] = {
    "event_id": texts("evt_1", "evt_2", "evt_33"),
    "event_name": texts("order_completed", "shipment_shipped"),
    "target_url": texts(*URLS),
    "outcome": texts("delivered", "exhausted"),
    "failure": texts("connect", "timeout"),
    "trigger": texts("event", "repeat"),
    "error": texts(*ERRORS),
    "idempotency_key": texts("evt_1", "evt_2"),
    "order_number": texts(*NUMBERS),
    "subscription_id": texts("S1", "S2"),
    "response_body": st.one_of(pieces, texts(*PIECES)),
    "request_body": st.one_of(pieces, texts(*PIECES)),
}
WORDS: dict[str, st.SearchStrategy[str]] = {
    "outcome": st.sampled_from(["delivered", "repeated", "exhausted", "expired"]),
    "trigger": st.sampled_from(["event", "repeat", "resend", "test"]),
}
"""What can only be one of a few words. Anything else is reported if it is compared as a whole."""
SEVERAL: dict[str, st.SearchStrategy[str]] = {"shipment_number": texts(*SHIPMENTS), "sku": texts(*SKUS)}


def usable(value: object) -> bool:
    """Return stripped texts without empty ones."""
    return not isinstance(value, str) or value == value.strip() != ""


@st.composite
def times(draw: st.DrawFn) -> tuple[str, Any]:
    moment = START + timedelta(days=draw(st.integers(-6, 370)), milliseconds=draw(st.integers(-(10**6), 10**6)))
    if draw(st.booleans()):
        day = datetime(moment.year, moment.month, moment.day, tzinfo=moment.tzinfo)
        return f"{day:%Y-%m-%d}", Day(day)
    return moment.isoformat().replace("+00:00", "Z"), moment


@st.composite
def conditions(draw: st.DrawFn) -> Asked:
    kind = draw(st.sampled_from(["numeric", "text", "text", "several", "time", "body", "body", "state", "boolean"]))
    known: dict[str, Any]
    if kind == "numeric":
        known, predicates = NUMERIC, EQUALITY + ORDER + PRESENCE
    elif kind == "text":
        known, predicates = (
            {name: one for name, one in TEXTUAL.items() if name != "request_body"},
            EQUALITY + ORDER + PATTERNS + PRESENCE,
        )
    elif kind == "several":
        known, predicates = SEVERAL, EQUALITY + PATTERNS + PRESENCE
    elif kind == "time":
        known, predicates = {"created_at": None}, ORDER
    elif kind == "body":
        known, predicates = {"request_body": TEXTUAL["request_body"]}, EQUALITY + PATTERNS + PRESENCE
    elif kind == "state":
        known, predicates = {"state": st.sampled_from(["succeeded", "failed"])}, EQUALITY + PRESENCE
    else:
        known, predicates = {"response_truncated": st.booleans()}, ["eq", "not_eq", *BOOLEANS]
    predicate = draw(st.sampled_from(predicates))
    first = draw(st.sampled_from(sorted(known)))
    attributes: tuple[str, ...] = (first,)
    combinator = draw(st.sampled_from(["and", "or"]))
    if kind in ("text", "several", "body") and draw(st.integers(0, 3)) == 0:
        both = (
            TEXTUAL | SEVERAL
            if predicate not in ORDER
            else {name: one for name, one in TEXTUAL.items() if name != "request_body"}
        )
        attributes = (
            first,
            *(name for name in draw(st.lists(st.sampled_from(sorted(both)), max_size=2, unique=True)) if name != first),
        )
    if predicate in EQUALITY:
        known = known | {name: one for name, one in WORDS.items() if name in known}
        attributes = (first, *(name for name in attributes[1:] if name not in WORDS))
    if predicate in PRESENCE + BOOLEANS:
        yes = draw(st.booleans())
        text = draw(st.sampled_from(["1", "t", "T", "true", "TRUE"] if yes else ["0", "f", "F", "false", "FALSE"]))
        return Asked(attributes, combinator, predicate, "", (text,), (yes,), draw(st.booleans()))
    quantifier = draw(st.sampled_from(["", "_any", "_all"]))
    most = 3 if quantifier or predicate in ("in", "not_in") else 1
    if kind == "time":
        drawn = draw(st.lists(times(), min_size=1, max_size=most))
        written, meant = tuple(text for text, _ in drawn), tuple(value for _, value in drawn)
        return Asked(attributes, combinator, predicate, quantifier, written, meant, draw(st.booleans()))
    values = draw(st.lists(known[first].filter(usable), min_size=1, max_size=most))
    shown = tuple(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
    return Asked(attributes, combinator, predicate, quantifier, shown, tuple(values), draw(st.booleans()))


groups = st.recursive(
    st.builds(AskedGroup, st.sampled_from(["and", "and", "or"]), st.lists(conditions(), max_size=3).map(tuple)),
    lambda inner: st.builds(
        AskedGroup, st.sampled_from(["and", "or"]), st.lists(st.one_of(conditions(), inner), min_size=1, max_size=3).map(tuple)
    ),
    max_leaves=3,
)

SORTS: dict[str, Any] = {
    "endpoint_id": lambda value: value,
    "attempt": lambda value: value,
    "duration_ms": lambda value: value,
    "order_number": lambda value: value.encode(),
    "error": lambda value: value.encode(),
    "subscription_id": lambda value: value.encode(),
    "stock_item_id": lambda value: value,
    "http_status_code": lambda value: value,
}


WAYS = ["newest", "newest", "oldest", "page", *(f"{name} {direction}" for name in SORTS for direction in ("asc", "desc"))]


def sorted_by(found: list[Attempted], name: str, *, descending: bool) -> list[int]:
    """Sort attempts without a value last, as PostgreSQL does, and equal ones newest first."""
    newest = newest_first(found)
    empty = [one for one in newest if one.values[name] is None]
    rest = sorted(
        (one for one in newest if one.values[name] is not None), key=lambda one: SORTS[name](one.values[name]), reverse=descending
    )
    return [one.id for one in ([*empty, *rest] if descending else [*rest, *empty])]


async def by_cursors(search: Search, pairs: Pairs) -> list[int]:
    """Return all pages in sequence."""
    ids: list[int] = []
    more: Pairs = []
    while True:
        page = await search.attempts(parse_query([*pairs, *more]))
        ids += [row.id for row in page.items]
        if page.next_cursor is None:
            return ids
        more = [("after", page.next_cursor)]


async def check(store: Store, made: World, asked: AskedGroup, per_page: int, way: str) -> None:
    """``way``: newest or oldest first by cursors, the second page, or a sort."""
    pairs: Pairs = list(asked.pairs())
    query = parse_query(pairs)
    assert query.ignored == ()
    found = [one for one in newest_first(made.attempts) if asked.holds(one)]
    expected = [one.id for one in found]
    size = [("per_page", str(per_page))]
    if way == "newest":
        assert (pairs, await by_cursors(store.search, [*pairs, *size])) == (pairs, expected)
    elif way == "oldest":
        found_ids = await by_cursors(store.search, [*pairs, *size, ("q[s]", "created_at asc")])
        assert (pairs, found_ids) == (pairs, expected[::-1])
    elif way == "page":
        second = await store.search.attempts(parse_query([*pairs, *size, ("page", "2")]))
        assert (pairs, [row.id for row in second.items]) == (pairs, expected[per_page : 2 * per_page])
        if second.is_exact:
            assert (pairs, second.total_count) == (pairs, len(expected))
        else:  # text matches are counted only up to the page
            assert 2 * per_page < second.total_count <= len(expected), pairs
    else:
        name, direction = way.split()
        in_order = await store.search.attempts(parse_query([*pairs, ("per_page", "200"), ("q[s]", way)]))
        assert (pairs, [row.id for row in in_order.items]) == (pairs, sorted_by(found, name, descending=direction == "desc"))


async def fill(store: Store, seed: int) -> World:
    made = world(seed)
    await store.writer.append(Table.ATTEMPTS, 0, [one.row for one in made.attempts])
    await store.writer.append(Table.EVENTS, 0, made.events)
    counts = "SELECT (SELECT count() FROM attempts), (SELECT count() FROM events)"
    assert await store.rows(counts) == [(len(made.attempts), len(made.events))]
    return made


@pytest.mark.timeout(3600)
@WITHOUT_HTTP_ALONE
@pytest.mark.parametrize("few", [0, 3, 200])
def test_finds_what_a_naive_filter_finds(stores: EmptyStores, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Windows are small, so that every search walks through several; ``few`` varies how bodies are searched."""
    monkeypatch.setattr(time_windows, "_FIRST_ROWS", 10)
    monkeypatch.setattr(time_windows, "_HOUR", 1000)
    monkeypatch.setattr(time_windows, "_WIDER", 4)
    monkeypatch.setattr(find, "_FEW", few)
    monkeypatch.setattr(find, "_FEW_EVENTS", max(few // 5, 1))
    monkeypatch.setattr(find, "_ATTEMPTS_AN_EVENT", 100)
    monkeypatch.setattr(find, "_READ_OF_FEW", 20)
    monkeypatch.setattr(first_events, "MANY_EVENTS", max(few, 2))
    monkeypatch.setattr(first_events, "_RETRIED", 1000)
    monkeypatch.setattr(first_events, "_LONG", 30_000)
    with asyncio.Runner() as runner:
        for seed in range(WORLDS // 3):
            runner.run(_one_world(stores, seed + few * 100))


async def _one_world(stores: EmptyStores, seed: int) -> None:
    async with stores.one() as store:
        made = await fill(store, seed)
        loop = asyncio.get_running_loop()

        @settings(max_examples=EXAMPLES // WORLDS, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(groups, st.sampled_from([35, 70, 200]), st.sampled_from(WAYS))
        def search(asked: AskedGroup, per_page: int, way: str) -> None:
            count = sum(map(asked.holds, made.attempts))
            event("finds nothing" if not count else "finds all" if count == len(made.attempts) else "finds some")
            asyncio.run_coroutine_threadsafe(check(store, made, asked, per_page, way), loop).result(60)

        await asyncio.to_thread(search)


def test_the_oracles_queries_are_valid() -> None:
    """The oracle's queries parse without a report; otherwise the comparison would prove nothing."""
    asked = AskedGroup("or", (Asked(("sku", "error"), "or", "cont", "_any", ("a", "b"), ("a", "b"), is_long=True),))
    assert list(asked.pairs())[-1] == ("q[c][0][v][1][value]", "b")
    assert parse_query(asked.pairs()) != AttemptQuery()


def test_a_long_condition_does_not_hide_a_short_one_with_the_same_key() -> None:
    long, short = (
        Asked(("error",), "and", "cont", "", (text,), (text,), is_long) for text, is_long in (("a", True), ("b", False))
    )
    for parts in ((long, short), (short, long)):
        group = AskedGroup("and", parts)
        assert len(group.counting()) == len(parse_query(group.pairs()).conditions) == 2
