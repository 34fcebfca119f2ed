"""Erases a person's data from ClickHouse: finds it, and overwrites it in place.

Rows stay, without the personal content. That an attempt was made, when, to whom and with which status is not personal data, and
the writer needs the rows' positions to know what is stored (exactly once). Overwritten means rewritten on disk: a mutation
rewrites the parts, unlike DELETE FROM, which only hides rows until a merge.

Statements that change data name ids only, because ClickHouse keeps the text of mutations. The search terms are bound parameters
of queries that are not logged.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from clickhouse_connect.driver.client import Client

from pipeline.core.json_text import folded
from pipeline.core.person_patterns import encoded_forms, whole_word_pattern
from pipeline.store.bound_values import BoundValues
from pipeline.store.clickhouse_cluster import on_cluster, storage_table
from pipeline.store.connection import Connections, StoreRejectedError
from pipeline.store.reader import QueryBudget, Reader, Rows, sql
from pipeline.store.rows import MAX_PARTITIONS
from pipeline.store.search.body_conditions import BODIES
from pipeline.store.search.conditions import milliseconds
from pipeline.store.search.like_patterns import like_pattern
from schemas.event_key import EVENT_KEY_HEADER

MAX_EVENTS: Final = 20_000
"""No person has more. If there are more, the address may be the shop's own."""
MAX_QUOTES: Final = 20_000
"""No person is quoted in more answers of other orders, or in more dead letters. Each of them is named in a mutation."""
_SHORTEST_QUOTED: Final = 6
"""A shorter order number is only searched for in columns: in bodies it could be any number."""
_IDS_AT_ONCE: Final = 400
"""Ids are sent in the URL of a request, whose length is limited."""
_BUDGET: Final = QueryBudget(seconds=25.0)
_WEEK: Final = timedelta(days=7)

IdT = TypeVar("IdT")

_LETTER_ID: Final = f"kafka_offset * {MAX_PARTITIONS} + kafka_partition"
_REFERENCES: Final = "order_number = '', shipment_numbers = [], subscription_id = ''"
_HAS_REFERENCES: Final = "order_number != '' OR notEmpty(shipment_numbers) OR subscription_id != ''"
_HAS_ANSWER: Final = "response_body != '' OR notEmpty(response_headers) OR error != ''"
_NO_ANSWER: Final = "response_body = '', response_headers = [], error = ''"
# The event key contains the key of the event's record: an order number.
_HAS_KEY: Final = f"mapContains(request_headers, '{EVENT_KEY_HEADER}')"
_NO_KEY: Final = f"request_headers = mapFilter((name, value) -> name != '{EVENT_KEY_HEADER}', request_headers)"

# In this order: events come last, because an interrupted run finds the other rows by them.
_OVERWRITES: Final = (
    (
        "attempts",
        "attempts",
        "id",
        "Int64",
        f"{_REFERENCES}, {_NO_ANSWER}, {_NO_KEY}",
        f"{_HAS_REFERENCES} OR {_HAS_ANSWER} OR {_HAS_KEY}",
    ),
    ("attempts", "answers", "id", "Int64", _NO_ANSWER, _HAS_ANSWER),
    (
        "dead_letters",
        "dead_letters",
        _LETTER_ID,
        "Int64",
        "record_key = NULL, record_value = NULL, headers = [], detail = 'erased'",
        "detail != 'erased'",
    ),
    (
        "events",
        "events",
        "event_id",
        "String",
        f"{_REFERENCES}, request_body = '', event_key = ''",
        f"{_HAS_REFERENCES} OR request_body != '' OR event_key != ''",
    ),
)
"""Table, field of `PersonData`, id expression, type of the id, what is overwritten, and the condition for a row that is not
overwritten yet.
"""
ERASED: Final = tuple(dict.fromkeys(table for table, *_ in _OVERWRITES))
"""The tables that are overwritten."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose data: exactly one of ``email`` and ``order_number``. ``orders`` are more order numbers known to be the person's."""

    email: str = ""
    order_number: str = ""
    orders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PersonData:
    """What ClickHouse holds about a person: ids and order numbers. Nothing else leaves the store.

    ``answers`` are attempts of other orders whose answer quotes the person. Only their answers are overwritten.
    """

    events: tuple[str, ...] = ()
    attempts: tuple[int, ...] = ()
    answers: tuple[int, ...] = ()
    dead_letters: tuple[int, ...] = ()
    orders: tuple[str, ...] = ()

    def ids(self, kind: str) -> Sequence[str | int]:
        """The ids in one of the fields."""
        found: Sequence[str | int] = getattr(self, kind)
        return found


class Eraser:
    """Every method raises StoreUnavailableError, and StoreBudgetError when a part of the work takes too long."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._reader = Reader(connections, _BUDGET)

    async def find(self, subject: Subject) -> PersonData:
        """Everything about a person that is not overwritten yet.

        By e-mail address: the events whose body quotes it, and all events of their orders. By order number: the events of that
        order. In addition, their attempts, attempts whose answer quotes the search term, and dead letters that quote it or whose
        key is the number of such an order.

        Raises:
            StoreRejectedError: there are too many events, answers or dead letters for one person.
        """
        orders = {*subject.orders, subject.order_number} - {""}
        events: dict[str, None] = {}
        if subject.email:
            for event_id, order_number in await self._quoting_events(subject.email):
                events[event_id] = None
                orders |= {order_number} - {""}
        found = PersonData(orders=tuple(sorted(orders)))
        found = replace(found, events=tuple(await self._events_of(found.orders, events)))
        attempts = {*await self._attempts_of(found)}
        answers = await self._quoting_attempts(subject, attempts)
        letters = await self._dead_letters(subject, found.orders)
        return replace(found, attempts=tuple(sorted(attempts)), answers=tuple(sorted(answers)), dead_letters=letters)

    async def start(self, traces: PersonData) -> None:
        """Start to overwrite. ClickHouse finishes even if this process dies; see :meth:`left`."""
        cluster = self._connections.cluster
        for table, kind, key, key_type, changes, _ in _OVERWRITES:
            storage = f"{storage_table(table, cluster)}{on_cluster(cluster)}"
            for ids in _pieces(traces.ids(kind)):
                parameters = BoundValues()
                condition = f"{key} IN {parameters.add(ids, f'Array({key_type})')}"
                await self._command(sql("ALTER TABLE", storage, "UPDATE", changes, "WHERE", condition), parameters)

    async def left(self, traces: PersonData) -> int:
        """How many of the rows are not overwritten yet."""
        total = 0
        for table, kind, key, key_type, _, is_left in _OVERWRITES:
            for ids in _pieces(traces.ids(kind)):
                parameters = BoundValues()
                condition = f"{key} IN {parameters.add(ids, f'Array({key_type})')} AND ({is_left})"
                total += int((await self._rows(sql("SELECT count() FROM", table, "WHERE", condition), parameters))[0][0])
        return total

    async def _quoting_events(self, email: str) -> list[tuple[str, str]]:
        """Event id and order number. Week by week, so that no query exceeds its budget."""
        found: list[tuple[str, str]] = []
        for first in await self._weeks("events", "received_at"):
            parameters = BoundValues()
            condition = f"{_within('received_at', first, parameters)} AND {_quotes('request_body', email, parameters)}"
            select = sql("SELECT DISTINCT event_id, order_number FROM events WHERE", condition, f"LIMIT {MAX_EVENTS + 1:d}")
            found += [(row[0], row[1]) for row in await self._rows(select, parameters)]
            _refuse_too_many({event_id for event_id, _ in found}, MAX_EVENTS, "events")
        return found

    async def _events_of(self, orders: Sequence[str], quoting: Mapping[str, None]) -> Mapping[str, None]:
        """Also the events in which nothing is quoted: those of the orders. References that arrived after an erasure are found, too."""
        found = dict(quoting)
        for some in _pieces(orders):
            parameters = BoundValues()
            condition = f"order_number IN {parameters.add(some, 'Array(String)')}"
            select = sql("SELECT DISTINCT event_id FROM events WHERE", condition, f"LIMIT {MAX_EVENTS + 1:d}")
            found |= {row[0]: None for row in await self._rows(select, parameters)}
            _refuse_too_many(found, MAX_EVENTS, "events")
        return found

    async def _attempts_of(self, traces: PersonData) -> list[int]:
        found: list[int] = []
        for column, values in (("event_id", traces.events), ("order_number", traces.orders)):
            for some in _pieces(values):
                parameters = BoundValues()
                condition = (
                    f"{column} IN {parameters.add(some, 'Array(String)')} AND ({_HAS_REFERENCES} OR {_HAS_ANSWER} OR {_HAS_KEY})"
                )
                rows = await self._rows(sql("SELECT id FROM attempts WHERE", condition), parameters)
                found += [int(row[0]) for row in rows]
        return found

    async def _quoting_attempts(self, subject: Subject, own: Set[int]) -> set[int]:
        """Those of other orders. ``own`` are the attempts of the person's orders."""
        quoted = _quoted(subject)
        found: set[int] = set()
        limit = f"LIMIT {len(own) + MAX_QUOTES + 1:d}"
        for first in await self._weeks("attempts", "created_at") if quoted else ():
            parameters = BoundValues()
            body, error = (_quotes(column, quoted, parameters) for column in ("response_body", "error"))
            header = f"arrayExists(header -> {_quotes('header.2', quoted, parameters)}, response_headers)"
            condition = f"{_within('created_at', first, parameters)} AND ({body} OR {error} OR {header})"
            rows = await self._rows(sql("SELECT id FROM attempts WHERE", condition, limit), parameters)
            found |= {int(row[0]) for row in rows} - own
            _refuse_too_many(found, MAX_QUOTES, "answers that quote it")
        return found

    async def _dead_letters(self, subject: Subject, orders: Sequence[str]) -> tuple[int, ...]:
        quoted, found = _quoted(subject), set[int]()
        if quoted:
            parameters = BoundValues()
            columns = ("ifNull(record_value, '')", "ifNull(record_key, '')", "detail")
            tests = [_quotes(column, quoted, parameters) for column in columns]
            tests.append(f"arrayExists(header -> {_quotes('header.2', quoted, parameters)}, headers)")
            found |= await self._letters(" OR ".join(tests), parameters)
            _refuse_too_many(found, MAX_QUOTES, "dead letters")
        for some in _pieces(orders):  # the key of an event is its order's number
            parameters = BoundValues()
            found |= await self._letters(f"record_key IN {parameters.add(some, 'Array(String)')}", parameters)
            _refuse_too_many(found, MAX_QUOTES, "dead letters")
        return tuple(sorted(found))

    async def _letters(self, condition: str, parameters: BoundValues) -> set[int]:
        limit = f"LIMIT {MAX_QUOTES + 1:d}"
        rows = await self._rows(sql("SELECT", _LETTER_ID, "FROM dead_letters WHERE", condition, limit), parameters)
        return {int(row[0]) for row in rows}

    async def _weeks(self, table: str, column: str) -> list[datetime]:
        """The starts of the weeks in which the table has rows; minimum and maximum are in the parts' indexes."""
        select = sql("SELECT min(", column, "), max(", column, "), count() FROM", table)
        [(first, last, count)] = await self._rows(select, BoundValues())
        weeks, start = [], first.astimezone(UTC)
        while count and start <= last:
            weeks.append(start)
            start += _WEEK
        return weeks

    async def _rows(self, statement: str, parameters: BoundValues) -> Rows:
        return await self._reader.with_full_budget().rows(statement, parameters.values, more={"log_queries": 0})

    async def _command(self, statement: str, parameters: BoundValues) -> None:
        def run(client: Client) -> None:
            client.command(statement, parameters=parameters.values, settings={"mutations_sync": 0})

        await self._connections.write(run)


def _refuse_too_many(found: Collection[str | int], most: int, what: str) -> None:
    if len(found) > most:
        raise StoreRejectedError(f"More than {most:,} {what} are not one person's. Search for something else.")


def _quoted(subject: Subject) -> str:
    """The text to search bodies for; empty if it is too short."""
    text = subject.email or subject.order_number
    return text if len(text) >= _SHORTEST_QUOTED else ""


def _quotes(column: str, text: str, parameters: BoundValues) -> str:
    """Whether a column quotes a text in one of its forms, or means it with its escapes undone. LIKE uses the index."""
    tests = []
    if (body := BODIES.get(column)) is not None:
        meaning = body.strings or f"normalizeUTF8NFC(caseFoldUTF8({body.text}))"
        like = f"{meaning} LIKE {parameters.add(like_pattern(folded(text)), 'String')}"
        word = f"match({meaning}, {parameters.add(whole_word_pattern(folded(text)), 'String')})"
        tests.append(f"({body.differs} AND {like} AND {word})")
    for form in encoded_forms(text):
        like = f"lowerUTF8({column}) LIKE {parameters.add(like_pattern(form), 'String')}"
        tests.append(f"({like} AND match(lowerUTF8({column}), {parameters.add(whole_word_pattern(form), 'String')}))")
    return f"({' OR '.join(tests)})"


def _pieces(ids: Sequence[IdT]) -> Iterator[list[IdT]]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield list(ids[start : start + _IDS_AT_ONCE])


def _within(column: str, first: datetime, parameters: BoundValues) -> str:
    since, until = milliseconds(first), milliseconds(first + _WEEK)
    return f"{column} >= {parameters.time(since)} AND {column} < {parameters.time(until)}"
