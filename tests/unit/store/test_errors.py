"""Errors of the driver, by what can be done about them."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, DataError, Error, OperationalError, ProgrammingError

from pipeline.store.driver_errors import store_error
from pipeline.store.errors import (
    StoreBudgetError,
    StoreBusyError,
    StoreError,
    StoreLimitError,
    StoreLoginError,
    StoreRejectedError,
    StoreRowsError,
    StoreUnavailableError,
)


@pytest.mark.parametrize(
    ("error", "searching", "kind"),
    [
        (DatabaseError("Code: 159. DB::Exception: Timeout exceeded", code=159), True, StoreBudgetError),
        (DatabaseError("Code: 241. DB::Exception: Memory limit", code=241), True, StoreBudgetError),
        (DatabaseError("Code: 241. DB::Exception: Memory limit", code=241), False, StoreLimitError),
        (DatabaseError("Code: 241. DB::Exception: (total) memory limit exceeded", code=241), True, StoreLimitError),
        (DatabaseError("Code: 160. DB::Exception: Estimated query execution time is too long", code=160), True, StoreBudgetError),
        (DatabaseError("Code: 202. DB::Exception: Too many simultaneous queries", code=202), True, StoreBusyError),
        (DatabaseError("Code: 202. DB::Exception: Too many simultaneous queries", code=202), False, StoreUnavailableError),
        (DatabaseError("Code: 243. DB::Exception: Not enough space", code=243), False, StoreUnavailableError),
        (DatabaseError("Code: 469. DB::Exception: Constraint violated", code=469), False, StoreRowsError),
        (DatabaseError("HTTP driver received HTTP status 413, server response: <html>"), False, StoreRowsError),
        (DatabaseError("HTTP driver received HTTP status 413"), True, StoreUnavailableError),
        (DatabaseError("Code: 252. DB::Exception: Too many parts", code=252), False, StoreUnavailableError),
        (DatabaseError("Code: 242. DB::Exception: Read-only", code=242), False, StoreUnavailableError),
        (DatabaseError("Code: 516. DB::Exception: Authentication failed", code=516), True, StoreLoginError),
        (DatabaseError("HTTP driver received HTTP status 502"), False, StoreUnavailableError),
        (OperationalError("Error executing HTTP request"), True, StoreUnavailableError),
        (DatabaseError("Code: 62. DB::Exception: Syntax error", code=62), True, StoreRejectedError),
        (DatabaseError("Code: 60. DB::Exception: Unknown table", code=60), False, StoreRejectedError),
        (DataError("Failed to write column"), False, StoreRejectedError),
        (ProgrammingError("Column names do not match"), False, StoreRejectedError),
    ],
)
def test_kinds(error: Error, searching: bool, kind: type[StoreError]) -> None:
    assert type(store_error(error, "ClickHouse at ch:8123", searching=searching)) is kind


def test_messages_are_one_sentence_of_limited_length() -> None:
    error = DatabaseError("Received ClickHouse exception, code: 62: Code: 62. DB::Exception: " + "x" * 5000 + "\nstack", code=62)
    message = str(store_error(error, "ClickHouse at ch:8123", searching=True))
    assert message.startswith("ClickHouse at ch:8123 refused: xxx")
    assert len(message) < 400
    assert "stack" not in message


def test_the_network_cause_is_named() -> None:
    error = OperationalError("Error executing HTTP request")
    error.__cause__ = OSError("https://user:password@ch quoted by an outer error")
    error.__cause__.__cause__ = ConnectionRefusedError(111, "Connection refused")
    message = str(store_error(error, "ClickHouse at ch:8123", searching=True))
    expected = "cannot be reached or did not answer: ConnectionRefusedError: [Errno 111] Connection refused"
    assert message == f"ClickHouse at ch:8123 {expected}"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (159, "The search ran for longer than it may, and was stopped."),
        (160, "The search ran for longer than it may, and was stopped."),
        (241, "The search needs more memory than it may use."),
        (158, "The search reads more data than it may."),
    ],
)
def test_an_exceeded_limit_is_named_with_what_to_do(code: int, words: str) -> None:
    message = str(store_error(DatabaseError("Code: …", code=code), "ClickHouse at ch:8123", searching=True))
    assert message.startswith(f"{words} Narrow it with a time range")
    assert "too many searches" not in message.lower()


def test_too_many_searches_are_reported_as_such() -> None:
    message = str(store_error(DatabaseError("Code: 202. DB::Exception: …", code=202), "ClickHouse at ch:8123", searching=True))
    assert message == "Too many searches at once: other searches are ahead of this one. Try again in 5 seconds."
    waited = "Too many searches at once: one other search is ahead of this one, and none of them finished within 10 seconds."
    assert str(StoreBusyError(1, 10.0)).startswith(waited)
