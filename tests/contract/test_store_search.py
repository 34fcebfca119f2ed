"""Searches, on both engines: every attribute, pages, injection attempts, limits.

Tests with many searches take a second or two.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.core.search import AttemptQuery, parse_query
from pipeline.store.connection import StoreBudgetError
from pipeline.store.reports.notification_history import NotificationHistory
from pipeline.store.rows import RowPosition, attempt_id, attempt_row, event_row
from pipeline.store.search.queries import EndpointSummary, QueryBudget, Search
from pipeline.store.writer import Table
from schemas.attempt import Attempt, AttemptState, Outcome
from tests.contract.store_case import Store
from tests.contract.store_records import START, attempt, attempt_rows, body, dispatch, meta

ATTEMPTS: list[Attempt] = [
    attempt(0),
    attempt(
        1,
        event=meta(1, event_name="shipment_shipped", subscription_id=None, stock_item_id=None, skus=()),
        endpoint_id=8,
        state=AttemptState.FAILED,
        outcome=Outcome.RETRIED,
        http_status_code=None,
        failure="connect",
        error="Could not connect to the endpoint.",
        duration_ms=5000.5,
        response_body="",
    ),
    attempt(
        2,
        event=meta(1, event_name="shipment_shipped", subscription_id=None, stock_item_id=None, skus=()),
        endpoint_id=8,
        attempt=2,
        http_status_code=200,
        target_url="https://Other.example/a_b",
        response_body="100% OK",
    ),
    attempt(
        3,
        event=meta(3, order_number=None, shipment_numbers=()),
        state=AttemptState.FAILED,
        outcome=Outcome.EXHAUSTED,
        http_status_code=500,
        created_at=START + timedelta(days=8),
        response_body="Fehler: ÜBERLAST",
    ),
]
BODIES = {
    0: 'GÜNTHER Straße 100%_x \\"quoted\\" back\\\\slash',
    1: "Jürgen, Łódź, Ankara; 日本語",
    3: "nothing to see; 100x_x",
}


FINDS: list[tuple[str, str, list[int]]] = [
    ("id_eq", str(attempt_id(2, 1)), [1]),
    ("id_in", str(attempt_id(2, 3)), [3]),
    ("event_id_eq", "evt_1", [2, 1]),
    ("event_id_not_eq", "evt_1", [3, 0]),
    ("idempotency_key_eq", "evt_0", [0]),
    ("event_name_eq", "shipment_shipped", [2, 1]),
    ("event_eq", "order_completed", [3, 0]),
    ("event_name_start", "Shipment_", [2, 1]),
    ("endpoint_id_eq", "8", [2, 1]),
    ("endpoint_id_not_in", "8", [3, 0]),
    ("target_url_cont", "other.EXAMPLE", [2]),
    ("target_url_end", "A_B", [2]),
    ("target_url_end", "aXb", []),
    ("http_status_code_eq", "204", [0]),
    ("http_status_code_in", "500", [3]),
    ("http_status_code_not_eq", "204", [3, 2, 1]),
    ("http_status_code_not_in", "204", [3, 2, 1]),
    ("http_status_code_gteq", "204", [3, 0]),
    ("http_status_code_lt", "204", [2]),
    ("http_status_code_null", "1", [1]),
    ("http_status_code_not_null", "1", [3, 2, 0]),
    ("http_status_code_blank", "t", [1]),
    ("http_status_code_present", "0", [1]),
    ("state_eq", "failed", [3, 1]),
    ("state_not_eq", "failed", [2, 0]),
    ("attempt_gt", "1", [2]),
    ("duration_ms_gt", "4999.9", [1]),
    ("duration_ms_eq", "12.375", [3, 2, 0]),
    ("error_cont", "COULD NOT", [1]),
    ("error_present", "1", [1]),
    ("error_null", "1", [3, 2, 0]),
    ("order_number_eq", "R000000001", [2, 1]),
    ("order_number_eq", "r000000001", []),
    ("order_number_start", "r00000000", [2, 1, 0]),
    ("order_number_not_eq", "R000000001", [3, 0]),
    ("order_number_blank", "1", [3]),
    ("order_number_gt", "R000000000", [2, 1]),
    ("shipment_number_eq", "H00000000001", [2, 1]),
    ("shipment_number_in", "H90000000000", [0]),
    ("shipment_number_cont", "h9", [2, 1, 0]),
    ("shipment_number_not_eq", "H00000000001", [3, 0]),
    ("shipment_number_null", "1", [3]),
    ("subscription_id_eq", "S3", [3]),
    ("subscription_id_null", "1", [2, 1]),
    ("stock_item_id_eq", "3", [3]),
    ("stock_item_id_not_eq", "3", [2, 1, 0]),
    ("stock_item_id_null", "true", [2, 1]),
    ("sku_eq", "MUG", [3, 0]),
    ("sku_end", "u-3", [3]),
    ("created_at_gteq", "2026-03-10", [3]),
    ("created_at_lteq", "2026-03-02", [2, 1, 0]),
    ("created_at_gt", "2026-03-02T12:00:01.123Z", [3, 2]),
    ("created_at_gteq", "2026-03-02T13:00:01.123+01:00", [3, 2, 1]),
    ("created_at_eq", "2026-03-02T12:00:01.123Z", [1]),
    ("created_at_in", "2026-03-02T12:00:01.123Z", [1]),
    ("created_at_not_eq", "2026-03-02T12:00:01.123Z", [3, 2, 0]),
    ("response_body_cont", "100% ok", [2]),
    ("response_body_cont", "überlast", [3]),
    ("response_body_cont", "grüSSe", [0]),
    ("response_body_blank", "1", [1]),
    ("request_body_cont", "günther", [0]),
    ("request_body_cont", "GÜNTHER STRASSE", [0]),
    ("request_body_i_cont", "JÜRGEN, łÓDŹ", [2, 1]),
    ("request_body_cont", "日本語", [2, 1]),
    ("request_body_cont", "本", [2, 1]),
    ("request_body_cont", "ü", [2, 1, 0]),
    ("request_body_cont", "100%", [0]),
    ("request_body_cont", "100%_x", [0]),
    ("request_body_cont", "100x_x", [3]),
    ("request_body_cont", "100_", []),
    ("request_body_cont", "%", [0]),
    ("request_body_cont", '\\"quoted\\"', [0]),
    ("request_body_cont", "back\\\\slash", [0]),
    ("request_body_cont", "k\\slash", [0]),
    ("request_body_start", '{"ID":"evt_3"', [3]),
    ("request_body_end", '100x_x"}}', [3]),
    ("request_body_not_eq", body(3, BODIES[3]).decode(), [2, 1, 0]),
    ("request_body_eq", body(3, BODIES[3]).decode(), [3]),
    ("request_body_present", "1", [3, 2, 1, 0]),
    ("request_body_null", "1", []),
]


STRANGE = [
    "' OR 1=1 --",
    "') OR ('1'='1",
    "\\' OR 2=2 --",
    "b\\",
    "{p0:String}",
    "{name:Identifier}",
    "x\x00y",
    "tab\tnew\nline",
    "; DROP TABLE attempts",
    "%%_%",
    "$1 ? %s :x",
    "\ufeff🎁" * 50,
    "long" * 3000,
]


@pytest.fixture
async def filled(store: Store) -> Store:
    """Provide four attempts of three events; one event was dispatched twice."""
    await store.writer.append(Table.ATTEMPTS, 2, [attempt_row(RowPosition(2, n), one) for n, one in enumerate(ATTEMPTS)])
    events = [(0, ATTEMPTS[0]), (1, ATTEMPTS[1]), (1, ATTEMPTS[1]), (3, ATTEMPTS[3])]
    rows = [
        event_row(RowPosition(0, offset), dispatch(number, event=one.event), body(number, BODIES[number]))
        for offset, (number, one) in enumerate(events)
    ]
    await store.writer.append(Table.EVENTS, 0, rows)
    return store


async def found(store: Store, *conditions: tuple[str, str]) -> list[int]:
    """Return the attempts that a search finds, in order."""
    query = parse_query([(f"q[{name}]", value) for name, value in conditions])
    assert query.ignored == ()
    assert query.conditions
    page = await store.search.attempts(query)
    assert page.total_count == len(page.items)
    return [row.id // 65536 for row in page.items]


async def test_all_attempts_newest_first(filled: Store) -> None:
    page = await filled.search.attempts(AttemptQuery())
    assert [row.id for row in page.items] == [attempt_id(2, number) for number in (3, 2, 1, 0)]
    assert (page.total_count, page.pages, page.current_page, page.per_page) == (4, 1, 1, 25)


async def test_every_attribute_finds_its_attempts(filled: Store) -> None:
    """One store for all searches: opening one takes longer than a hundred of them."""
    expected = {(name, value): numbers for name, value, numbers in FINDS}
    assert {condition: await found(filled, condition) for condition in expected} == expected


async def test_conditions_are_combined(filled: Store) -> None:
    assert await found(filled, ("state_eq", "failed"), ("request_body_cont", "jürgen")) == [1]
    assert await found(filled, ("order_number_in][", "R000000001"), ("order_number_in][", "R000000000")) == [2, 1, 0]
    assert await found(filled, ("request_body_cont", "jürgen"), ("request_body_i_cont", "nothing")) == []


async def test_an_event_dispatched_twice_shows_its_attempts_once(filled: Store) -> None:
    assert await filled.rows("SELECT count() FROM events WHERE event_id = 'evt_1'") == [(2,)]
    assert await found(filled, ("request_body_cont", "Łódź")) == [2, 1]


async def test_sorts(filled: Store) -> None:
    async def ordered(*sorts: str) -> list[int]:
        page = await filled.search.attempts(parse_query([("q[s][]", sort) for sort in sorts]))
        return [row.id // 65536 for row in page.items]

    assert await ordered("created_at asc") == [0, 1, 2, 3]
    assert await ordered("duration_ms desc") == [1, 3, 2, 0]
    assert await ordered("state asc", "endpoint_id desc") == [1, 3, 2, 0]
    assert await ordered("idempotency_key sideways") == [0, 2, 1, 3]


async def test_pages(filled: Store) -> None:
    async def page(number: int, size: int = 3) -> tuple[list[int], int, int]:
        result = await filled.search.attempts(AttemptQuery(page=number, per_page=size))
        return [row.id // 65536 for row in result.items], result.total_count, result.pages

    assert await page(1) == ([3, 2, 1], 4, 2)
    assert await page(2) == ([0], 4, 2)
    assert await page(3) == ([], 4, 2)
    assert await page(10**9) == ([], 4, 2)


async def test_values_are_only_values(filled: Store) -> None:
    names = ("order_number_eq", "order_number_in", "shipment_number_in", "error_cont")
    strange = {
        900 + number: attempt(9, event=meta(9, order_number=value, shipment_numbers=(value,)), error=f"<{value}>")
        for number, value in enumerate(STRANGE)
    }
    assert {(name, value): await found(filled, (name, value)) for name in names for value in STRANGE} == {
        (name, value): [] for name in names for value in STRANGE
    }
    rows = [attempt_row(RowPosition(5, number), one) for number, one in strange.items()]
    await filled.writer.append(Table.ATTEMPTS, 5, rows)
    assert {(name, value): await found(filled, (name, value)) for name in names for value in STRANGE} == {
        (name, value): [900 + number] for name in names for number, value in enumerate(STRANGE)
    }
    assert (await filled.search.attempts(AttemptQuery())).total_count == len(ATTEMPTS) + len(STRANGE)


async def test_ignored_conditions_do_not_reach_the_store(filled: Store) -> None:
    query = parse_query([("q[token_eq]", "x"), ("q[secret_cont]", "x"), ("q[state_eq]", "failed")])
    assert len(query.ignored) == 2
    assert [row.id // 65536 for row in (await filled.search.attempts(query)).items] == [3, 1]


async def test_a_condition_with_an_invalid_value_finds_nothing(filled: Store) -> None:
    for pairs in ([("q[endpoint_id_eq]", "abc")], [("q[created_at_gteq]", "garbage"), ("q[request_body_cont]", "jürgen")]):
        query = parse_query(pairs)
        page = await filled.search.attempts(query)
        assert (page.items, page.total_count, page.is_exact, page.next_cursor) == ((), 0, True, None)
        assert (await filled.search.facets(query)).total == 0
        assert (await filled.search.histogram(query)).bars == ()
        assert (await filled.search.summary(query, 60)).facets.total == 0
        assert (await NotificationHistory(filled.connections).failed(query, 10)).notifications == ()
    either = parse_query([("q[m]", "or"), ("q[endpoint_id_eq]", "abc"), ("q[state_eq]", "failed")])
    assert [row.id // 65536 for row in (await filled.search.attempts(either)).items] == [3, 1]
    grouped = parse_query(
        [("q[state_eq]", "failed"), ("q[g][0][m]", "or"), ("q[g][0][id_eq]", "x"), ("q[g][0][attempt_eq]", "1")]
    )
    assert [row.id // 65536 for row in (await filled.search.attempts(grouped)).items] == [3, 1]


NARROW = r" Narrow it with a time range \(created_at_gteq"


async def test_a_search_that_takes_too_long_says_how_to_narrow_it(store: Store) -> None:
    """It takes seconds: a million rows are written."""
    columns = "id, event_id, event_name, created_at, response_body"
    values = "number, toString(number), 'order_completed', toDateTime64('2026-03-02 00:00:00', 3, 'UTC'), repeat('abc ', 40)"
    await store.command(f"INSERT INTO attempts ({columns}) SELECT {values} FROM numbers(1200000)")
    with pytest.raises(StoreBudgetError, match=r"ran for longer than it may, and was stopped\." + NARROW):
        await Search(store.connections, QueryBudget(seconds=0.01)).attempts(parse_query([("q[response_body_cont]", "xyz")]))


@pytest.mark.slow  # tests/unit/store test the message of each error
async def test_a_search_that_takes_too_much_memory_says_how_to_narrow_it(store: Store) -> None:
    """It takes seconds: a million rows are written."""
    # The ids of all these events, used to find their attempts, take more than 20 MB.
    values = "toString(number), toDateTime64('2026-03-02 00:00:00', 3, 'UTC'), 'abc'"
    await store.command(f"INSERT INTO events (event_id, received_at, request_body) SELECT {values} FROM numbers(1000000)")
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(3)))
    with pytest.raises(StoreBudgetError, match=r"needs more memory than it may use\." + NARROW):
        await Search(store.connections, QueryBudget(memory_bytes=20_000_000)).attempts(
            parse_query([("q[request_body_cont]", "ab")])
        )


async def test_one_attempt_with_its_siblings(filled: Store) -> None:
    first, second = attempt_id(2, 1), attempt_id(2, 2)
    detail = await filled.search.attempt(first)
    assert detail is not None
    assert detail.attempt.error == "Could not connect to the endpoint."
    assert detail.request_body == body(1, BODIES[1]).decode()
    assert [(row.id, row.attempt) for row in detail.siblings] == [(second, 2)]
    assert await filled.search.attempt(attempt_id(2, 4)) is None
    assert await filled.search.attempt(2**63 - 1) is None


async def test_endpoint_summaries(filled: Store) -> None:
    summaries = await filled.search.endpoint_summaries([7, 8, 99], last=1)
    assert {
        key: (summary.attempts_count, [row.id // 65536 for row in summary.attempts]) for key, summary in summaries.items()
    } == {
        7: (2, [3]),
        8: (2, [2]),
        99: (0, []),
    }
    every = await filled.search.endpoint_summaries([8])
    assert [row.id // 65536 for row in every[8].attempts] == [2, 1]
    assert await filled.search.endpoint_summaries([8], last=0) == {8: EndpointSummary(2, ())}
    assert await filled.search.endpoint_summaries([]) == {}


async def test_indexes_serve_the_common_searches(filled: Store) -> None:
    """Without an index, a search would read everything; ClickHouse's EXPLAIN names the one used."""

    async def explained(condition: str) -> str:
        return "\n".join(row[0] for row in await filled.rows(f"EXPLAIN indexes = 1 SELECT event_id FROM {condition}"))

    checks: dict[str, str] = {
        "attempts WHERE order_number = 'R1'": "order_number_bloom",
        "attempts WHERE hasAny(shipment_numbers, ['H1'])": "shipment_numbers_bloom",
        "attempts WHERE id = 7": "id_minmax",
        "attempts WHERE event_id = 'e'": "event_id_bloom",
        "events WHERE order_number = 'R1'": "order_number_blocks",
        "events WHERE hasAny(shipment_numbers, ['H1'])": "shipment_numbers_blocks",
        "events WHERE subscription_id = 'S1'": "subscription_id_blocks",
        "events WHERE stock_item_id = 7": "stock_item_id_bloom",
        "events WHERE event_id = 'e'": "event_id_blocks",
    }
    for condition, index in checks.items():
        assert index in await explained(condition)
    body_search = "EXPLAIN indexes = 1 SELECT event_id FROM events WHERE lowerUTF8(request_body) LIKE lowerUTF8('%Günther%')"
    plan = "\n".join(row[0] for row in await filled.rows(body_search))
    assert "request_body_ngrams" in plan
    assert '"gün"' in plan
    positions = "EXPLAIN SELECT max(kafka_offset) FROM attempts WHERE kafka_partition = 1 GROUP BY kafka_partition"
    assert "(positions)" in "\n".join(row[0] for row in await filled.rows(positions))
