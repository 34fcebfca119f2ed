"""Errors of the driver by what there is to do about them."""

from __future__ import annotations

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, DataError, Error, OperationalError, ProgrammingError

from pipeline.store.errors import (
    StoreBudgetError,
    StoreError,
    StoreLimitError,
    StoreLoginError,
    StoreRejectedError,
    StoreRowsError,
    StoreUnavailableError,
    store_error,
)


@pytest.mark.parametrize(
    ("error", "searching", "kind"),
    [
        (DatabaseError("Code: 159. DB::Exception: Timeout exceeded", code=159), True, StoreBudgetError),
        (DatabaseError("Code: 241. DB::Exception: Memory limit", code=241), True, StoreBudgetError),
        (DatabaseError("Code: 241. DB::Exception: Memory limit", code=241), False, StoreLimitError),
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


def test_messages_are_one_sentence_of_bounded_length() -> None:
    error = DatabaseError("Received ClickHouse exception, code: 62: Code: 62. DB::Exception: " + "x" * 5000 + "\nstack", code=62)
    message = str(store_error(error, "ClickHouse at ch:8123", searching=True))
    assert message.startswith("ClickHouse at ch:8123 refused: xxx")
    assert len(message) < 400
    assert "stack" not in message


def test_the_cause_in_the_network_is_named() -> None:
    error = OperationalError("Error executing HTTP request")
    error.__cause__ = OSError("https://user:password@ch quoted by an outer error")
    error.__cause__.__cause__ = ConnectionRefusedError(111, "Connection refused")
    message = str(store_error(error, "ClickHouse at ch:8123", searching=True))
    expected = "cannot be reached or did not answer: ConnectionRefusedError: [Errno 111] Connection refused"
    assert message == f"ClickHouse at ch:8123 {expected}"
