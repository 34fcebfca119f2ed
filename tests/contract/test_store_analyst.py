"""Analysts' SQL on the engine: it is answered, but changes nothing, writes nothing, and reads nothing from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.store.errors import StoreBudgetError, StoreRejectedError
from pipeline.store.rows import attempt_id
from pipeline.store.sql_console import VIEWS, SqlConsole
from pipeline.store.writer import Table
from tests.contract.store_case import Store
from tests.contract.store_records import attempt_rows


@pytest.fixture
async def embedded(embedded_store: Store) -> Store:
    """Provide ClickHouse in process: SQL is accepted only there."""
    await embedded_store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(3)))
    return embedded_store


ANSWERED: list[tuple[str, list[tuple[object, ...]]]] = [
    ("SELECT count() AS n FROM attempt_history", [(3,)]),
    ("select id from attempts order by id limit 2 -- the first two", [(attempt_id(0, 0),), (attempt_id(0, 1),)]),
    ("WITH 2 AS two SELECT two + 1;", [(3,)]),
    ("SELECT 1 UNION ALL SELECT 1", [(1,), (1,)]),
    ("SELECT number FROM numbers(2)", [(0,), (1,)]),
    ("SELECT format('{}-{}', 'a', 'b'), ') FORMAT CSV /*'", [("a-b", ") FORMAT CSV /*")]),
    ("SELECT sum(attempts) FROM attempt_figures", [(3,)]),
    ("SELECT NULL, 18446744073709551615", [(None, 2**64 - 1)]),
]
REFUSED = [
    "DROP TABLE attempts",
    "ALTER TABLE attempts DELETE WHERE 1",
    "INSERT INTO attempts (id) VALUES (1)",
    "INSERT INTO FUNCTION file('{outside}', CSV) SELECT 1",
    "SELECT 1; DROP TABLE attempts",
    "SELECT 1) FROM attempts; DROP TABLE attempts; SELECT (1",
    "SELECT 1 INTO OUTFILE '{outside}'",
    "SELECT 1) INTO OUTFILE '{outside}'; SELECT (1",
    "SELECT 1) INTO OUTFILE '{outside}' --",
    "SELECT 1 FORMAT CSV",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1 SETTINGS max_execution_time = 0",
    "SELECT * FROM (SELECT 1 SETTINGS max_memory_usage = 0)",
    "SET readonly = 0",
    "USE system",
    "KILL QUERY WHERE 1",
    "SYSTEM STOP MERGES",
    "SELECT * FROM file('/etc/hostname', 'LineAsString')",
    "SELECT * FROM `file`('/etc/hostname', 'LineAsString')",
    "SELECT file('/etc/hostname')",
    "SELECT FiLe('/etc/hostname')",
    "SELECT (SELECT count() FROM url('http://127.0.0.1:1/', 'CSV'))",
    "WITH x AS (SELECT * FROM s3('http://127.0.0.1:1/x', 'CSV')) SELECT * FROM x",
    "SELECT * FROM remote('127.0.0.1:1', 'system.one')",
    "SELECT * FROM attempts WHERE id IN (SELECT * FROM executable('x', 'CSV', 'a Int8'))",
    "SELECT * FROM python('x')",
    "SELECT * FROM Python('x')",
    "SELECT * FROM sqlite('/x', 'y')",
    "SELECT aiGenerate('x', 'y')",
    "SELECT dictGet('a', 'b', 1)",
    "EXPLAIN SELECT * FROM file('/etc/hostname')",
    "DESCRIBE file('/etc/hostname')",
    "no statement at all",
    "",
    "SELECT '" + "x" * 100_001 + "'",
]


async def test_selects_are_answered(embedded: Store) -> None:
    for statement, rows in ANSWERED:
        found = await SqlConsole(embedded.connections).ask(statement)
        assert (statement, list(found.rows)) == (statement, rows)
        assert len(found.columns) == len(rows[0])


async def test_everything_else_is_refused(embedded: Store, tmp_path: Path) -> None:
    """It takes a second: each statement gets a console of its own."""
    outside = tmp_path / "outside"
    for statement in REFUSED:
        with pytest.raises(StoreRejectedError):
            await SqlConsole(embedded.connections).ask(statement.replace("{outside}", str(outside)))
        assert not outside.exists()
        assert await embedded.rows("SELECT count() FROM attempts") == [(3,)]
        # It leaves nothing behind for others either.
        assert await embedded.rows("SELECT value FROM system.settings WHERE name = 'readonly'") == [("0",)]
    await embedded.writer.append(Table.ATTEMPTS, 1, attempt_rows(range(1), 1))


@pytest.mark.parametrize(
    ("statement", "what_to_do"),
    [
        ("SELECT number FROM numbers(10001)", "The answer has more than 10,000 rows; add a LIMIT"),
        (
            "SELECT length(groupArray(toString(number))) FROM numbers(1000000000)",
            "more than 30 seconds or 2 GB of memory; narrow it",
        ),
    ],
)
@pytest.mark.slow
async def test_limits(embedded: Store, statement: str, what_to_do: str) -> None:
    """It takes seconds until the engine has used up so much memory."""
    with pytest.raises(StoreBudgetError, match=what_to_do):
        await SqlConsole(embedded.connections).ask(statement)


async def test_a_misspelled_view_lists_the_existing_ones(embedded: Store) -> None:
    with pytest.raises(
        StoreRejectedError, match=r"^This table or view does not exist\. .* attempt_history, .*endpoint_history\.$"
    ):
        await SqlConsole(embedded.connections).ask("SELECT * FROM atempt_history")
    found = await embedded.rows("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'")
    assert {name for [name] in found} == set(VIEWS)


async def test_anything_but_one_select_is_explained(embedded: Store) -> None:
    for statement in ("DROP TABLE attempts", "SELECT 1; SELECT 2", "no statement at all"):
        with pytest.raises(StoreRejectedError, match="Only a single SELECT is accepted here"):
            await SqlConsole(embedded.connections).ask(statement)


@pytest.mark.parametrize(
    ("statement", "what_to_do"),
    [
        ("SELECT 1 FORMAT CSV", "^Leave out FORMAT: "),
        ("SELECT 1 INTO OUTFILE 'found.csv' FORMAT CSV", "^Leave out INTO OUTFILE: "),
        (
            "SELECT state, count() FROM attempt_history GROUP BY state WITH TOTALS",
            "^WITH TOTALS has no effect here: use WITH ROLLUP",
        ),
    ],
)
async def test_clauses_that_would_be_lost_are_refused(embedded: Store, statement: str, what_to_do: str) -> None:
    with pytest.raises(StoreRejectedError, match=what_to_do):
        await SqlConsole(embedded.connections).ask(statement)


async def test_a_text_is_not_taken_for_such_a_clause(embedded: Store) -> None:
    found = await SqlConsole(embedded.connections).ask("SELECT '\nFORMAT CSV\nWITH TOTALS' AS `\nFORMAT CSV`")
    assert found.rows == (("\nFORMAT CSV\nWITH TOTALS",),)
