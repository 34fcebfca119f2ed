"""What analysts use: the queries of docs/analytics.md on real rows, the rollup, and the role, as far as this engine has roles."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.store import writer
from pipeline.store.clickhouse_cluster import on_cluster, storage_table
from pipeline.store.connection import Client
from pipeline.store.rows import RowPosition, attempt_id, attempt_row, event_row
from pipeline.store.writer import Table
from schemas.attempt import AttemptState, Outcome
from schemas.delivery import Trigger
from tests.contract.store_case import Store
from tests.contract.store_records import START, attempt, attempt_rows, body, dispatch, event_rows, meta

ROOT = Path(__file__).resolve().parents[2]
QUERIES = dict(
    re.findall(r"^## ([^\n]+)\n.*?```sql\n(.*?)```", (ROOT / "docs/analytics.md").read_text(), re.DOTALL | re.MULTILINE)
)
ROLE = (ROOT / "deploy/clickhouse/analysts.sql").read_text()

FAILED = {
    "state": AttemptState.FAILED,
    "outcome": Outcome.RETRIED,
    "http_status_code": None,
    "failure": "timeout",
    "duration_ms": 900.0,
}


async def test_the_queries_of_the_documentation(store: Store) -> None:
    """Three events: one delivered at once and rescued by a retry, one failed so far, one without endpoints."""
    attempts = [
        attempt(0, endpoint_id=7, event=meta(0), duration_ms=10.0),
        attempt(1, endpoint_id=8, event=meta(0), **FAILED),
        attempt(2, endpoint_id=8, event=meta(0), attempt=2, duration_ms=20.0, created_at=START + timedelta(hours=1)),
        attempt(3, endpoint_id=8, event=meta(1), **FAILED),
    ]
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, n), one) for n, one in enumerate(attempts)])
    dispatches = [dispatch(0), dispatch(0), dispatch(1, endpoint_ids=(8,)), dispatch(2, endpoint_ids=())]
    rows = [
        event_row(RowPosition(0, n), one, body(number))
        for n, (one, number) in enumerate(zip(dispatches, (0, 0, 1, 2), strict=True))
    ]
    await store.writer.append(Table.EVENTS, 0, rows)

    left = dict(QUERIES)

    async def answer(title: str) -> list[tuple[Any, ...]]:
        return await store.rows(left.pop(title))

    hour = START.replace(minute=0, second=0, microsecond=0)
    assert await answer("Failure rate by endpoint and hour") == [
        (hour + timedelta(hours=1), 8, 1, 0, 0.0),
        (hour, 8, 2, 2, 1.0),
        (hour, 7, 1, 0, 0.0),
    ]
    assert await answer("Latency percentiles by endpoint") == [(8, 3, 900.0, 900.0, 900.0), (7, 1, 10.0, 10.0, 10.0)]
    received = [row[:2] + row[3:] for row in await answer("Events that nobody received")]
    assert received == [("evt_2", "order_completed", 0, 0), ("evt_1", "order_completed", 1, 1)]
    assert await answer("Figures that add up") == [(START.date().replace(day=1), 4, 2, 0, [20.0, 900.0, 900.0])]
    assert [row[0] for row in await answer("Attempts by what was sent")] == [attempt_id(0, 3)]
    assert [(row[0], row[3]) for row in await answer("Events by what was sent")] == [("evt_1", "R000000001")]
    url = "https://shop.example/hooks"
    assert await answer("Slowest endpoints") == [(8, url, 606.7, 900.0, 2), (7, url, 10.0, 10.0, 0)]
    assert await answer("Retries that rescued deliveries") == [(7, 1, 1, 0, 0, 0), (8, 2, 0, 1, 0, 1)]
    assert await answer("What the figures promise") == []
    assert left == {}


async def test_a_resend_is_neither_delivered_at_once_nor_rescued_by_a_retry(store: Store) -> None:
    """The attempts of a resend are numbered from 1 again."""
    gave_up = FAILED | {"outcome": Outcome.EXHAUSTED, "attempt": 6}
    attempts = [
        attempt(0, endpoint_id=7, event=meta(0), **gave_up),
        attempt(1, endpoint_id=7, event=meta(0), trigger=Trigger.RESEND),
        attempt(2, endpoint_id=7, event=meta(1), trigger=Trigger.RESEND, attempt=2),
        attempt(3, endpoint_id=7, event=meta(2), trigger=Trigger.TEST),
    ]
    await store.writer.append(Table.ATTEMPTS, 0, [attempt_row(RowPosition(0, n), one) for n, one in enumerate(attempts)])
    assert await store.rows(QUERIES["Retries that rescued deliveries"]) == [(7, 2, 0, 0, 2, 0)]


async def test_figures_of_deleted_attempts_are_not_a_difference(store: Store) -> None:
    """Figures are kept longer than attempts. A batch missing from the figures is found, with its hour."""
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(3)))
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(3, 5), created_at=START + timedelta(days=30)))
    cluster = store.connections.cluster
    await store.command(f"ALTER TABLE {storage_table('attempts', cluster)}{on_cluster(cluster)} DROP PARTITION '20260302'")
    assert await store.rows(QUERIES["What the figures promise"]) == []
    hour = (START + timedelta(days=30)).replace(minute=0, second=0, microsecond=0)
    await store.command(f"TRUNCATE TABLE {storage_table('attempts_hourly', cluster)}{on_cluster(cluster)}")
    assert await store.rows(QUERIES["What the figures promise"]) == [(hour, 0, 2)]


async def test_the_rollup_stays_exact_if_a_batch_is_repeated(store: Store) -> None:
    """An insert's token passes into the view: the same batch, a shorter and a longer one with the same start, another batch."""

    async def figures() -> list[tuple[Any, ...]]:
        return await store.rows("SELECT sum(attempts), sum(failures) FROM attempts_hourly")

    rows = attempt_rows(range(50)) + attempt_rows(range(50, 60), state=AttemptState.FAILED)
    await store.writer.append(Table.ATTEMPTS, 0, rows[:20])
    for again in (rows[:20], rows[:10], rows[:40]):

        def insert(client: Client, again: list[Any] = again) -> None:
            writer._insert(client, Table.ATTEMPTS, again, store.writer._insert_settings | {"insert_deduplication_token": "0/0"})

        await store.connections.write(insert)
        assert await figures() == [(20, 0)]
    await store.writer.append(Table.ATTEMPTS, 0, rows)
    assert await figures() == [(60, 10)]
    # Another partition's batch has the same figures, but is a different batch.
    await store.writer.append(Table.ATTEMPTS, 1, attempt_rows(range(20), 1))
    assert await figures() == [(80, 10)]
    assert await store.rows("SELECT sum(attempts), sum(failures) FROM attempt_figures") == [(80, 10)]
    assert await store.rows("SELECT count(), uniqExact(id) FROM attempt_history") == [(80, 80)]


@pytest.mark.parametrize("view", ["attempt_details", "event_bodies"])
async def test_a_condition_on_the_body_uses_its_index(store: Store, view: str) -> None:
    await store.writer.append(Table.EVENTS, 0, event_rows(range(2000)))
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(2000)))
    asked = f"SELECT count() FROM {view} WHERE lowerUTF8(request_body) LIKE '%r000001234%'"
    assert await store.rows(asked) == [(1,)]
    if not store.settings.clickhouse_cluster:  # a Distributed table does not show its shards' plans
        plan = "\n".join(line for (line,) in await store.rows(f"EXPLAIN indexes = 1 {asked}"))
        index = plan[plan.index("Name: request_body_ngrams") :]
        assert re.search(r"Granules: (\d+)/", index)[1] == "1", plan  # type: ignore[index]


@pytest.mark.parametrize("view", ["attempt_details", "event_bodies"])
async def test_a_condition_on_body_text_uses_both_indexes(store: Store, view: str) -> None:
    said = [event_row(RowPosition(0, 2000 + number), dispatch(number), body(number, "M\\u00fcller")) for number in (7, 8)]
    await store.writer.append(Table.EVENTS, 0, [*event_rows(range(9, 2000)), *said])
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(2000)))
    test = "(lowerUTF8(request_body) LIKE '%müller%' OR request_body_strings LIKE '%müller%')"
    asked = f"SELECT event_id FROM {view} WHERE {test} ORDER BY event_id"
    assert await store.rows(asked) == [("evt_7",), ("evt_8",)]
    if not store.settings.clickhouse_cluster:
        plan = "\n".join(line for (line,) in await store.rows(f"EXPLAIN indexes = 1 {asked}"))
        combined = plan[plan.index("<Combined skip indexes>") :]
        assert re.search(r"Granules: (\d+)/", combined)[1] == "1", plan  # type: ignore[index]


async def test_bodies_and_attempts_appear_once(store: Store) -> None:
    """An event dispatched twice, one whose body is not recorded yet, and every other filter besides the body."""
    await store.writer.append(Table.EVENTS, 0, [*event_rows(range(3)), *event_rows(range(3, 4))])
    again = [event_row(RowPosition(1, 0), dispatch(1, endpoint_ids=(7, 8, 9)), body(1))]
    await store.writer.append(Table.EVENTS, 1, again)
    await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(1, 6)))
    bodies = "SELECT event_id, length(request_body) > 0 FROM attempt_details ORDER BY event_id"
    assert await store.rows(bodies) == [("evt_1", 1), ("evt_2", 1), ("evt_3", 1), ("evt_4", 0), ("evt_5", 0)]
    for test in ("order_number = 'R000000001'", "has(skus, 'SKU-1')", "state = 'succeeded'", "1"):
        found = f"SELECT event_id, endpoint_id FROM attempt_details WHERE lowerUTF8(request_body) LIKE '%r000000001%' AND {test}"
        assert await store.rows(found) == [("evt_1", 7)]
    assert await store.rows("SELECT count(), uniqExact(event_id) FROM event_bodies") == [(4, 4)]


async def test_an_event_published_again_has_the_rows_that_the_documentation_says(store: Store) -> None:
    again = dispatch(1, received_at=START + timedelta(hours=1))
    rows = [event_row(RowPosition(0, 2), again, body(1)), event_row(RowPosition(0, 3), again, body(1, "corrected"))]
    await store.writer.append(Table.EVENTS, 0, [*event_rows(range(1, 2)), *rows])
    await store.writer.append(Table.ATTEMPTS, 1, attempt_rows(range(1, 2), 1))

    counts = {view: (await store.rows(f"SELECT count() FROM {view}"))[0][0] for view in ("event_bodies", "attempt_history")}
    assert counts == {"event_bodies": 3, "attempt_history": 1}
    assert await store.rows("SELECT count(), uniq(id) FROM attempt_details") == [(2, 1)], "one row for each body"
    assert await store.rows("SELECT event_id, dispatches FROM received_events") == [("evt_1", 3)]


async def test_the_role_is_valid_sql_and_grants_existing_views(store: Store) -> None:
    """ClickHouse in process has no users, so this tests that statements are valid and name existing views, not that grants work."""
    statements = [part for part in re.sub(r"^--.*$", "", ROLE, flags=re.MULTILINE).split(";") if part.strip()]
    assert len(statements) == 17
    for statement in statements:
        quoted = statement.replace("\\", "\\\\").replace("'", "\\'")
        assert await store.rows(f"SELECT length(formatQuery('{quoted}')) > 0") == [(1,)]
    views = {
        name
        for (name,) in await store.rows("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'")
    }
    assert set(re.findall(r"GRANT SELECT ON oms_webhooks\.(\w+) TO", ROLE)) == views
    settings = set(re.findall(r"^    (\w+) = .*CONST", ROLE, re.MULTILINE))
    names = ", ".join(f"'{name}'" for name in settings)
    assert await store.rows(f"SELECT count() FROM system.settings WHERE name IN ({names})") == [(len(settings),)]


async def test_no_view_shows_headers(store: Store) -> None:
    query = "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND name LIKE '%headers%'"
    assert {table.removesuffix("_local") for table, _ in await store.rows(query)} == {"attempts", "dead_letters"}
