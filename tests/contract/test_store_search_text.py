"""Body searches find text whatever encoder wrote it. An oracle that parses the JSON checks each result.

Tests with many searches take seconds.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Sequence

import pytest
from prometheus_client import REGISTRY

from pipeline.core.search import parse_query
from pipeline.ops.settings import Settings
from pipeline.store.bound_values import BoundValues
from pipeline.store.clickhouse_cluster import storage_table
from pipeline.store.connection import Connections
from pipeline.store.migrate import bundled_migrations, migrate
from pipeline.store.pending_mutations import watch_pending_mutations
from pipeline.store.reader import QueryBudget, Reader
from pipeline.store.rows import Row, RowPosition, Table, attempt_row, event_row
from pipeline.store.search.find import Finder
from pipeline.store.search.queries import Search
from pipeline.store.writer import Writer
from tests.contract.body_oracle import Oracle, bodies, needles
from tests.contract.store_case import Store
from tests.contract.store_records import attempt, dispatch, meta

FEW = 400


async def fill(store: Store, texts: Sequence[str], first: int = 0) -> None:
    """Add an event with an attempt for each text."""
    events, attempts = list[Row](), list[Row]()
    for number, text in enumerate(texts, first):
        one = meta(number, received_at=dispatch(number).received_at)
        events.append(event_row(RowPosition(0, number), dispatch(number, event=one), text.encode()))
        attempts.append(attempt_row(RowPosition(0, number), attempt(number, event=one, response_body=text)))
    await store.writer.append(Table.EVENTS, 0, events)
    await store.writer.append(Table.ATTEMPTS, 0, attempts)


async def all_found(store: Store, *pairs: tuple[str, str]) -> list[int]:
    """Return the numbers of all events that a search selects, as for exports and resends."""
    reader = Reader(store.connections, QueryBudget(seconds=60.0))
    parameters = BoundValues()
    query = parse_query([(f"q[{name}]", value) for name, value in pairs])
    assert not query.ignored
    scope = await Finder(reader).scope(query, parameters)
    assert scope is not None
    rows = await reader.rows(f"SELECT DISTINCT event_id FROM attempts WHERE {scope[1]}", parameters.values)
    return sorted(int(event_id.removeprefix("evt_")) for (event_id,) in rows)


async def first_page(store: Store, name: str, value: str) -> list[int]:
    page = await store.search.attempts(parse_query([(f"q[{name}]", value)]))
    return [int(row.event_id.removeprefix("evt_")) for row in page.items]


async def check(store: Store, texts: list[str], wanted: Sequence[str], pages: int = 1) -> None:
    """Check each needle against the oracle; one in ``pages`` is also searched page by page, as users do."""
    oracle = Oracle(texts)
    for turn, needle in enumerate(wanted):
        expected = oracle.finds(needle)
        assert await all_found(store, ("request_body_cont", needle)) == expected, ascii(needle)
        if turn % pages == 0:
            assert await first_page(store, "request_body_cont", needle) == expected[::-1][:25], ascii(needle)


async def test_needles_find_body_text_on_every_engine(store: Store) -> None:
    texts = bodies(160)
    await fill(store, texts)
    await check(
        store, texts, ("Müller", "Marks & Spencer", "ΟΔΟΣ", "CAFE\u0301", "😀 smile", "/inch", "straße", "u00fc", "nowhere")
    )


@pytest.mark.parametrize("store_kind", ["chdb"], indirect=True)
async def test_needles_find_body_text(store: Store) -> None:
    texts = bodies(FEW)
    await fill(store, texts)
    await check(store, texts, needles(texts, 40), pages=4)


@pytest.mark.slow
@pytest.mark.parametrize("store_kind", ["chdb"], indirect=True)
async def test_many_needles_in_many_bodies(store: Store) -> None:
    texts = bodies(10_000)
    for first in range(0, len(texts), 2_500):
        await fill(store, texts[first : first + 2_500], first)
    await check(store, texts, needles(texts, 400), pages=8)


PASTED = (
    r'{"id":"evt_0","data":{"number":"R123","name":"M\u00fcller","note":"say \"hi\" \/ C:\\new"}}',
    r'{"id":"evt_1","data":{"number":"R123","name":"Müller","note":"say it / C:\\NEW"}}',
    r'{"id":"evt_2","data":{"number":"R1234","name":"M\u00FCLLER GmbH","note":"12\" pizza"}}',
    r'{"id":"evt_3", "data": {"number": "R123", "name": "Mu\u0308ller", "note": "\u65e5\u672c\u8a9e\nzwei"}}',
    r'{"id":"evt_4","data":{"number":"R5","name":"ΟΔΟΣ","note":"Straße","half":"\ud83d u00fc"}}',
)
FINDS: list[tuple[str, str, list[int]]] = [
    # Text as in the bytes, wherever an escape starts or ends.
    ("cont", '"number":"R123"', [0, 1]),
    ("cont", r"M\u00fcller", [0, 1, 2, 3]),
    ("cont", r"m\u00FC", [0, 2]),
    ("cont", "u00fc", [0, 2, 4]),
    ("cont", "0fcller", [0, 2]),
    ("cont", r"\u65e5\u", [3]),
    ("cont", r"C:\\n", [0, 1]),
    ("cont", r"\/ c:", [0, 1]),
    ("cont", r"\"hi", [0]),
    # Decoded text, with quotes of the text and of JSON.
    ("cont", 'say "hi"', [0]),
    ("cont", '12" PIZZA', [2]),
    ("cont", r"C:\new", [0, 1]),
    ("cont", '"name":"Müller"', [0, 1]),
    ("cont", '"name":"müller', [0, 1, 2]),
    ("cont", '"name": "Müller", "note": "日本語', [3]),
    ("cont", '"R123","name":"MÜLLER","note":"say', [0, 1]),
    ("cont", '"Müller"', [0, 1, 3]),
    ("cont", 'Müller","note', [0, 1]),
    ("cont", '"ü"', []),
    ("cont", "日本語\nzwei", [3]),
    ("i_cont", "müller", [0, 1, 2, 3]),
    ("not_cont", "müller", [4]),
    ("not_i_cont", "MÜLLER GMBH", [0, 1, 3, 4]),
    ("start", r'{"id":"evt_0","data":{"number":"R123","name":"Müll', [0]),
    ("not_start", '{"id":"evt_2","data":{"number":"R1234","name":"müller', [0, 1, 3, 4]),
    ("start", r'{"ID":"evt_0","data":{"number":"R123","name":"M\u00fc', [0]),
    ("end", 'zwei"}}', [3]),
    ("end", '12" pizza"}}', [2]),
    ("not_end", '日本語\nZWEI"}}', [0, 1, 2, 4]),
    ("matches", '%"name":"m_ller"%', [0, 1]),
    ("matches", '%"name":%müller%pizza"}}', [2]),
    ("matches", r"%M\\u00FC%", [0, 2]),
    ("does_not_match", "%Müller%", [4]),
    ("eq", PASTED[0], [0]),
    ("eq", r'{"id":"evt_1","data":{"number":"R123","name":"Müller","note":"say it / C:\NEW"}}', [1]),
    ("eq", r'{"id":"evt_1","data":{"number":"R123","name":"müller","note":"say it / C:\NEW"}}', []),
    ("not_eq", PASTED[4], [0, 1, 2, 3]),
    ("eq", unicodedata.normalize("NFD", PASTED[1]), [1]),
    ("cont", "ΟΔΟΣ", [4]),
    ("cont", "strasse", [4]),
    ("cont", "\ufffd u00fc", [4]),
    # Too short for the index.
    ("cont", "ü", [0, 1, 2, 3]),
    ("cont", "日", [3]),
    ("cont", "ß", [4]),
]
SEVERAL: list[tuple[tuple[tuple[str, str], ...], list[int]]] = [
    ((("in][", PASTED[0]), ("in][", PASTED[2])), [0, 2]),
    ((("not_in][", PASTED[0]), ("not_in][", PASTED[2])), [1, 3, 4]),
    ((("cont_any][", "pizza"), ("cont_any][", "ΟΔΟΣ")), [2, 4]),
    ((("cont_all][", "müller"), ("cont_all][", "C:\\new")), [0, 1]),
    ((("not_cont_any][", "müller"), ("not_cont_any][", "gmbh")), [0, 1, 3, 4]),
    ((("not_cont_all][", "pizza"), ("not_cont_all][", "日本")), [0, 1, 4]),
]


async def test_every_predicate_searches_the_same_text(store: Store) -> None:
    await fill(store, PASTED)
    found = {(name, value): await all_found(store, (f"request_body_{name}", value)) for name, value, _ in FINDS}
    assert found == {(name, value): numbers for name, value, numbers in FINDS}
    for conditions, numbers in SEVERAL:
        assert await all_found(store, *((f"request_body_{name}", value) for name, value in conditions)) == numbers, conditions
    # Answers are searched in the same way.
    answered = {(name, value): await all_found(store, (f"response_body_{name}", value)) for name, value, _ in FINDS}
    assert answered == found
    for conditions, numbers in SEVERAL:
        assert await all_found(store, *((f"response_body_{name}", value) for name, value in conditions)) == numbers, conditions


async def test_a_pasted_backslash_is_not_an_escape_in_another_body(store: Store) -> None:
    """The bytes of the second and fourth body mean a line break."""
    await fill(
        store,
        [rf'{{"id":"evt_{n}","note":"{text}"}}' for n, text in enumerate((r"C:\\new", r"C:\new", r"one two\\", r"one two\n"))],
    )
    assert await all_found(store, ("request_body_cont", r"C:\\new")) == [0]
    assert await all_found(store, ("request_body_cont", r"one two\\")) == [2]
    assert await all_found(store, ("request_body_cont", "one two\\")) == [2, 3], "in the bytes"


@pytest.mark.slow  # the tests above cover new rows
async def test_old_rows_are_found_before_and_after_they_are_rewritten(store_settings: Settings) -> None:
    """It takes seconds: all migrations run, and an index is built."""
    texts = bodies(160)
    wanted = ("Müller", "Marks & Spencer", "ΟΔΟΣ", "café", "日本語", "R123456789")
    # With today's column: it is unrelated to texts.
    before = {name: sql for name, sql in bundled_migrations().items() if name < "0030" or name.startswith("0038")}
    connections = Connections(store_settings)
    try:
        await migrate(connections, before)
        store = Store(store_settings, connections, Writer(connections), Search(connections))
        await fill(store, texts)
        # Rows right after the upgrade, before ClickHouse has rewritten them.
        await store.command(f"SYSTEM STOP MERGES {storage_table('events', store_settings.clickhouse_cluster)}")
        await migrate(connections)
        await check(store, texts, wanted)
        table = storage_table("events", store_settings.clickhouse_cluster)
        seen: list[float | None] = []

        async def go_on() -> None:
            seen.append(REGISTRY.get_sample_value("oms_webhooks_clickhouse_rebuild_parts", {"table": table}))
            await store.command(f"SYSTEM START MERGES {table}")
            await asyncio.sleep(0.05)

        await watch_pending_mutations(connections, go_on)
        assert seen[0] == 1
        assert REGISTRY.get_sample_value("oms_webhooks_clickhouse_rebuild_parts", {"table": table}) == 0
        await check(store, texts, wanted)
        # Stored, not only computed: for a needle that occurs nowhere, the index skips the whole part.
        explained = await store.rows(
            "EXPLAIN indexes = 1 SELECT 1 FROM events WHERE request_body_strings LIKE '%nowhere-at-all%'"
        )
        assert any("request_body_strings_ngrams" in line for (line,) in explained)
    finally:
        await connections.close()
