"""What the console says of a statement that ClickHouse cannot read."""

from __future__ import annotations

from clickhouse_connect.driver.exceptions import DatabaseError

from pipeline.store.errors import StoreRejectedError
from pipeline.store.sql_console import _SYNTAX_ERROR, _explained


def test_nothing_is_said_of_what_we_put_around_a_statement() -> None:
    cause = DatabaseError("...")
    cause.code = _SYNTAX_ERROR
    error = StoreRejectedError(
        "ClickHouse in this process refused: Syntax error (Multi-statements are not allowed): failed at position 9 (end of query): ; "
        "SELECT 2. : In scope SELECT formatQuery('SELECT 1; SELECT \\'2'). (SYNTAX_ERROR)"
    )
    error.__cause__ = cause
    told = _explained(error)
    assert isinstance(told, StoreRejectedError)
    assert str(told) == (
        "One SELECT only is taken here, and ClickHouse cannot read this as one. ClickHouse in this process refused: Syntax error "
        "(Multi-statements are not allowed): failed at position 9 (end of query): ; SELECT 2. (SYNTAX_ERROR)"
    )
