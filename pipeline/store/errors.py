"""What can go wrong with ClickHouse, by what there is to do about it. Messages hold no credentials and no statements."""

from __future__ import annotations

import re
from typing import ClassVar, Final

from clickhouse_connect.driver.exceptions import DataError, Error, NotSupportedError, ProgrammingError


class StoreError(Exception):
    """ClickHouse did not do what was asked. ``kind`` is its label in the metrics."""

    kind: ClassVar[str] = "rejected"


class StoreUnavailableError(StoreError):
    """ClickHouse cannot be reached or cannot answer at present: try again later. The statement may have been carried out."""

    kind = "unavailable"


class StoreRejectedError(StoreError):
    """The statement, the data or the configuration is wrong: trying again does not help."""


class StoreLimitError(StoreUnavailableError):
    """ClickHouse is short of memory or time for so much at once: less at a time may succeed, and so may trying again."""


class StoreRowsError(StoreRejectedError):
    """ClickHouse refuses the rows themselves. Fewer at a time show which; a record that is refused alone is refused for good."""


class StoreBudgetError(StoreError):
    """A search needed more time or memory than a search may take: narrow it."""

    kind = "budget"


# ClickHouse's numeric error codes (system.errors lists them on a server).
_BUDGET: Final = {
    158,  # TOO_MANY_ROWS
    159,  # TIMEOUT_EXCEEDED
    160,  # TOO_SLOW
    191,  # SET_SIZE_LIMIT_EXCEEDED
    241,  # MEMORY_LIMIT_EXCEEDED
    307,  # TOO_MANY_BYTES
    396,  # TOO_MANY_ROWS_OR_BYTES
}
_UNAVAILABLE: Final = {
    74,  # CANNOT_READ_FROM_FILE_DESCRIPTOR
    75,  # CANNOT_WRITE_TO_FILE_DESCRIPTOR
    173,  # CANNOT_ALLOCATE_MEMORY
    198,  # DNS_ERROR
    202,  # TOO_MANY_SIMULTANEOUS_QUERIES
    209,  # SOCKET_TIMEOUT
    210,  # NETWORK_ERROR
    225,  # NO_ZOOKEEPER
    236,  # ABORTED
    242,  # TABLE_IS_READ_ONLY
    243,  # NOT_ENOUGH_SPACE
    252,  # TOO_MANY_PARTS
    254,  # NO_ACTIVE_REPLICAS
    279,  # ALL_CONNECTION_TRIES_FAILED
    285,  # TOO_FEW_LIVE_REPLICAS
    286,  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
    289,  # REPLICA_IS_NOT_IN_QUORUM
    319,  # UNKNOWN_STATUS_OF_INSERT
    369,  # ALL_REPLICAS_ARE_STALE
    373,  # SESSION_IS_LOCKED
    394,  # QUERY_WAS_CANCELLED
    425,  # SYSTEM_ERROR
    439,  # CANNOT_SCHEDULE_TASK
    499,  # S3_ERROR
    516,  # AUTHENTICATION_FAILED: a password that is being rotated
    745,  # SERVER_OVERLOADED
    999,  # KEEPER_EXCEPTION
}
_ROWS: Final = {
    128,  # TOO_LARGE_ARRAY_SIZE
    131,  # TOO_LARGE_STRING_SIZE
    321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    469,  # VIOLATED_CONSTRAINT
}
"""What is wrong with a row. Errors that a table or a setting of the server may cause just as well are not among them."""
_TOO_LARGE: Final = re.compile(r"^HTTP driver received HTTP status 413\b")
_HINTS: Final = {
    60: " The migrations have not been applied to this database.",
    81: " The migrations have not been applied to this ClickHouse.",
    516: " Check clickhouse_username and clickhouse_password.",
}

NARROW: Final = (
    "Narrow it: a time range (created_at_gteq, created_at_lteq), an order number, an endpoint, or a longer part of the body "
    "(three characters at least)."
)


def over_budget() -> StoreBudgetError:
    """A search that takes more than it may."""
    return StoreBudgetError(f"The search needs more time or memory than it may take. {NARROW}")


def store_error(error: Error, where: str, *, searching: bool) -> StoreError:
    """Name an error of the driver by what there is to do about it.

    ``where`` names the ClickHouse, as a sentence begins. For a search a limit means that it asks for too much; for an insert it
    means that the server is short of something now.
    """
    code = error.code
    if code in _BUDGET:
        if searching:
            return over_budget()
        return StoreLimitError(f"{where} is short of memory or time: {_first_line(error)}")
    if not searching and (refused := _refused_rows(error, where)):
        return refused
    if code is None and not isinstance(error, ProgrammingError | DataError | NotSupportedError):
        return StoreUnavailableError(f"{where} cannot be reached or did not answer: {_transport(error)}")
    hint = _HINTS.get(code or 0, "")
    if code in _UNAVAILABLE:
        return StoreUnavailableError(f"{where} cannot do it now: {_first_line(error)}{hint}")
    return StoreRejectedError(f"{where} refused: {_first_line(error)}{hint}")


def _refused_rows(error: Error, where: str) -> StoreRowsError | None:
    if error.code in _ROWS:
        return StoreRowsError(f"{where} refused: {_first_line(error)}")
    if error.code is None and _TOO_LARGE.match(str(error)):
        return StoreRowsError(f"{where}, or a proxy before it, takes no request as large as that (HTTP 413).")
    return None


def _first_line(error: BaseException) -> str:
    text = str(error).partition("DB::Exception: ")[2] or str(error)
    lines = text.strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


def _transport(error: Error) -> str:
    """What the network said: the innermost cause, whose text names no credentials (the outer ones may quote the URL)."""
    cause: BaseException = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__ or cause
    return _first_line(error) if cause is error else f"{type(cause).__name__}: {_first_line(cause)}"
