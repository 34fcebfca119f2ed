"""Translates the driver's errors into ours. No other module reads them."""

from __future__ import annotations

import re
import ssl
from typing import Final

from clickhouse_connect.driver.exceptions import DataError, Error, NotSupportedError, ProgrammingError

from pipeline.store.errors import (
    StoreBusyError,
    StoreError,
    StoreLimitError,
    StoreLoginError,
    StoreRejectedError,
    StoreRowsError,
    StoreUnavailableError,
    over_budget,
)

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
_LOGIN: Final = {
    192,  # UNKNOWN_USER
    193,  # WRONG_PASSWORD
    194,  # REQUIRED_PASSWORD
    516,  # AUTHENTICATION_FAILED: it does not say whether the user or the password is wrong
}
_TOO_MANY_QUERIES: Final = 202
_OF_THE_SERVER: Final = "(total)"
"""What ClickHouse's message contains if all queries together use too much memory, not this one alone."""
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
"""The row itself is wrong. Errors that a table or a setting of the server may also cause are not listed."""
_TOO_LARGE: Final = re.compile(r"^HTTP driver received HTTP status 413\b")
_HINTS: Final = {
    60: " The migrations have not been applied to this database.",
    81: " The migrations have not been applied to this ClickHouse.",
    497: " `oms-webhooks grants` prints the rights of each role.",
}
_CHECK_LOGIN: Final = "Check OMS_WEBHOOKS_CLICKHOUSE_USERNAME and OMS_WEBHOOKS_CLICKHOUSE_PASSWORD."


def store_error(error: Error, where: str, *, searching: bool) -> StoreError:
    """Classify an error of the driver by what can be done about it.

    ``where`` names the ClickHouse and begins a sentence. If a search reaches a limit, it asks for too much. If an insert does, the
    server is short of resources at the moment.
    """
    code = error.code
    if code in _LOGIN:
        return StoreLoginError(f"{where} refuses the login: wrong user name or password. {_CHECK_LOGIN} ({_first_line(error)})")
    if too_much := _too_much(error, where, searching=searching):
        return too_much
    if not searching and (refused := _refused_rows(error, where)):
        return refused
    if code is None and not isinstance(error, ProgrammingError | DataError | NotSupportedError):
        return _unreached(error, where)
    hint = _HINTS.get(code or 0, "")
    if code in _UNAVAILABLE:
        return StoreUnavailableError(f"{where} cannot do it now: {_first_line(error)}{hint}")
    return StoreRejectedError(f"{where} refused: {_first_line(error)}{hint}")


def _unreached(error: Error, where: str) -> StoreUnavailableError:
    cause = _innermost(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        advice = "Check OMS_WEBHOOKS_CLICKHOUSE_CA_FILE, the host name and the dates of the certificate."
        return StoreLoginError(f"The certificate of {where} is not trusted: {cause.verify_message}. {advice}")
    return StoreUnavailableError(f"{where} cannot be reached or did not answer: {_transport(error, cause)}")


def _too_much(error: Error, where: str, *, searching: bool) -> StoreError | None:
    """A limit was reached: the search's own, or one of the server."""
    if error.code == _TOO_MANY_QUERIES and searching:
        return StoreBusyError()
    if error.code not in _BUDGET:
        return None
    if searching and _OF_THE_SERVER not in str(error):
        return over_budget(error.code)
    return StoreLimitError(f"{where} is short of memory or time: {_first_line(error)}")


def _refused_rows(error: Error, where: str) -> StoreRowsError | None:
    if error.code in _ROWS:
        return StoreRowsError(f"{where} refused: {_first_line(error)}")
    if error.code is None and _TOO_LARGE.match(str(error)):
        return StoreRowsError(f"{where}, or a proxy in front of it, accepts no request this large (HTTP 413).")
    return None


def _first_line(error: BaseException) -> str:
    text = str(error).partition("DB::Exception: ")[2] or str(error)
    lines = text.strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


def _innermost(error: Error) -> BaseException:
    cause: BaseException = error
    while cause.__cause__ is not None or cause.__context__ is not None:
        cause = cause.__cause__ or cause.__context__ or cause
    return cause


def _transport(error: Error, cause: BaseException) -> str:
    """The network error: the innermost cause, whose text contains no credentials (outer ones may quote the URL)."""
    return _first_line(error) if cause is error else f"{type(cause).__name__}: {_first_line(cause)}"
