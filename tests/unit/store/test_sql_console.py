"""What the console says about a statement that ClickHouse cannot read."""

from __future__ import annotations

from typing import Any, cast

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from pipeline.store.connection import Connections
from pipeline.store.errors import StoreRejectedError
from pipeline.store.sql_console import _SYNTAX_ERROR, SqlConsole, _explained


@pytest.mark.parametrize("statement", ["DELETE FROM attempts", "\n drop table attempts", "insert\tinto attempts select 1"])
async def test_other_statements_are_refused_because_only_one_select_is_accepted(statement: str) -> None:
    with pytest.raises(StoreRejectedError, match=r"^Only a single SELECT is accepted here, not (DELETE|DROP|INSERT)\.$"):
        await SqlConsole(cast("Connections", cast("Any", None))).ask(statement)


@pytest.mark.parametrize(
    "statement", ["SHOW TABLES", "describe attempt_history", "DESC attempt_history", "EXISTS attempt_history"]
)
async def test_who_asks_for_tables_is_told_the_views(statement: str) -> None:
    with pytest.raises(StoreRejectedError, match=r", not [A-Z]+\. The views are attempt_history, .* FROM system\.columns"):
        await SqlConsole(cast("Connections", cast("Any", None))).ask(statement)


def test_our_wrapping_of_a_statement_is_not_mentioned() -> None:
    cause = DatabaseError("...")
    cause.code = _SYNTAX_ERROR
    error = StoreRejectedError(
        "ClickHouse in this process refused: Syntax error (Multi-statements are not allowed): failed at position 9 (end of query): ; "
        "SELECT 2. : In scope SELECT formatQuery('SELECT 1; SELECT \\'2'). (SYNTAX_ERROR)"
    )
    error.__cause__ = cause
    found = _explained(error)
    assert isinstance(found, StoreRejectedError)
    assert str(found) == (
        "Only a single SELECT is accepted here, and ClickHouse cannot read this as one. ClickHouse in this process refused: Syntax "
        "error (Multi-statements are not allowed): failed at position 9 (end of query): ; SELECT 2. (SYNTAX_ERROR)"
    )
