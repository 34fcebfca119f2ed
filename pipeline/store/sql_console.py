"""Runs a single SELECT that a person wrote, on the embedded ClickHouse: read-only, bounded, without access to files and networks.

A ClickHouse server has users, roles and quotas for this (deploy/clickhouse). The embedded ClickHouse has none, and its read-only
mode still writes files (INTO OUTFILE) and reads them (file()). So the engine itself first parses the statement. What runs is the
engine's own rendering of it, as a subquery, where only a SELECT is valid, and only with functions that reach nothing outside.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Any, Final

from clickhouse_connect.driver.exceptions import Error

from pipeline.store.connection import Client, Connections, StoreBudgetError, StoreError, StoreRejectedError
from pipeline.store.errors import over_budget

MAX_ROWS: Final = 10_000
MAX_SECONDS: Final = 30
MAX_MEMORY: Final = 2 * 1024**3
MAX_STATEMENT: Final = 100_000
VIEWS: Final = (
    *("attempt_history", "attempt_details", "attempt_figures", "attempt_figures_daily", "received_events", "event_bodies"),
    "endpoint_history",
)
"""The views for people: the tables behind them may change."""
_TOO_MANY_ROWS_OR_BYTES: Final = 396
_UNKNOWN_TABLE: Final = 60
_SYNTAX_ERROR: Final = 62

_LIMITS: Final = (
    f"SET max_execution_time = {MAX_SECONDS}, timeout_before_checking_execution_speed = 0, max_memory_usage = {MAX_MEMORY}, "
    f"max_result_rows = {MAX_ROWS}, result_overflow_mode = 'throw', "
    # A condition on the body in attempt_details then reads only the attempts of matching events.
    "enable_join_runtime_filters_index_analysis = 1"
)
_OURS_AROUND: Final = re.compile(r"[.:\s]*In scope SELECT formatQuery\(.*\)(?=\.)", re.DOTALL)
"""How ClickHouse's messages refer to our statement around the person's."""
_FUNCTION: Final = re.compile(r"^( *)Function (\S+)", re.MULTILINE)
_TABLE_FUNCTION: Final = re.compile(r"TableExpression[^\n]*\n *Function (\S+)")
_SETTINGS: Final = re.compile(r"^ *Set *$", re.MULTILINE)
_GENERATORS: Final = frozenset(
    {"numbers", "numbers_mt", "zeros", "zeros_mt", "generateseries", "generate_series", "values", "null"}
)
_OTHER_STATEMENT: Final = re.compile(
    r"\s*(alter|attach|create|delete|desc|describe|detach|drop|exists|explain|grant|insert|kill|optimize|rename|revoke|set|show|system"
    r"|truncate|update|use)\s",
    re.IGNORECASE,
)
"""ClickHouse reads ``DELETE FROM t`` as ``SELECT DELETE FROM t``, and would say that there is no column DELETE."""
_ABOUT_TABLES: Final = frozenset({"DESC", "DESCRIBE", "EXISTS", "SHOW"})
_OF_THE_ANSWER: Final = re.compile(r"^(FORMAT|INTO OUTFILE) ", re.MULTILINE)
"""Clauses of a whole statement, as the engine renders them. They would be invalid in a subquery."""
_TOTALS: Final = re.compile(r"^ *WITH TOTALS$", re.MULTILINE)
"""As the engine renders it. A subquery loses the totals."""
_REACHING_OUT: Final = re.compile(r"file|ai[a-z]+|dict[a-z0-9]*|joinget.*|catboost.*|filesystem.*|naivebayes.*")


@dataclass(frozen=True, slots=True)
class SqlResult:
    """Column names with their types, and rows."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Any, ...], ...]
    seconds: float


class SqlConsole:
    """Runs statements, each on a separate connection."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def ask(self, statement: str) -> SqlResult:
        """The result of a SELECT.

        Raises:
            StoreRejectedError: it is not a single SELECT, it is wrong, or it accesses something outside.
            StoreBudgetError: it takes more time, memory or rows than allowed.
            StoreUnavailableError: ClickHouse cannot answer now.
        """
        if len(statement) > MAX_STATEMENT:
            raise StoreRejectedError(f"The statement has {len(statement):,} characters; at most {MAX_STATEMENT:,} are accepted.")
        if other := _OTHER_STATEMENT.match(statement):
            raise StoreRejectedError(_only_a_select(other[1].upper()))
        try:
            return await self._connections.read_alone(lambda client: _ask(client, statement))
        except StoreError as error:
            explained = _explained(error)
            if explained is None:
                raise
            raise explained from error


def _only_a_select(other: str) -> str:
    refusal = f"Only a single SELECT is accepted here, not {other}."
    if other not in _ABOUT_TABLES:
        return refusal
    columns = "SELECT name, type, comment FROM system.columns WHERE table = 'attempt_history'"
    return f"{refusal} The views are {', '.join(VIEWS)}. For the columns of one: {columns}"


def _explained(error: StoreError) -> StoreError | None:
    """The error in words for the author of a statement, because the usual ones speak of searches and migrations. None if
    ClickHouse's own words are good enough.
    """
    code = error.__cause__.code if isinstance(error.__cause__, Error) else None
    if code == _TOO_MANY_ROWS_OR_BYTES:
        return StoreBudgetError(f"The answer has more than {MAX_ROWS:,} rows; add a LIMIT, or group the rows.")
    if isinstance(error, StoreBudgetError):
        size = f"{MAX_MEMORY // 1024**3} GB"
        return StoreBudgetError(
            f"The statement needs more than {MAX_SECONDS} seconds or {size} of memory; narrow it, by created_at for example."
        )
    if code == _UNKNOWN_TABLE:
        return StoreRejectedError(f"This table or view does not exist. Use one of these views: {', '.join(VIEWS)}.")
    if code == _SYNTAX_ERROR:
        detail = _OURS_AROUND.sub("", str(error))
        return StoreRejectedError(f"Only a single SELECT is accepted here, and ClickHouse cannot read this as one. {detail}")
    return None


def _ask(client: Client, statement: str) -> SqlResult:
    started = time.monotonic()
    # Set before the engine sees the statement, for the lifetime of this connection.
    client.command(_LIMITS)
    client.command("SET readonly = 1")
    [(rendered,)] = client.query("SELECT formatQuery({statement:String})", parameters={"statement": statement}).result_rows
    _refuse_lost_clauses(rendered)
    # One statement without comments, as rendered by the engine: it cannot leave the parentheses, and inside them only a SELECT is
    # valid.
    select = "\n".join(("SELECT * FROM (", rendered, ")"))
    _check(client.raw_query(f"EXPLAIN AST {select}", fmt="TSVRaw").decode("utf-8", "replace"))
    began = time.monotonic()
    answer = client.raw_query(select, fmt="JSONCompact")
    # An answer that took longer may be incomplete: see reader.py.
    if time.monotonic() - began >= MAX_SECONDS:
        raise over_budget()
    found = json.loads(answer)
    return SqlResult(
        columns=tuple((column["name"], column["type"]) for column in found["meta"]),
        rows=tuple(map(tuple, found["data"])),
        seconds=round(time.monotonic() - started, 3),
    )


def _refuse_lost_clauses(rendered: str) -> None:
    """A text in the statement cannot be mistaken for a clause, because the engine writes line breaks in it as escapes."""
    if clause := _OF_THE_ANSWER.search(rendered):
        raise StoreRejectedError(
            f"Leave out {clause[1]}: the command's option --format chooses the format, and the API answers with JSON."
        )
    if _TOTALS.search(rendered):
        raise StoreRejectedError("WITH TOTALS has no effect here: use WITH ROLLUP, which adds totals as rows.")


def _check(tree: str) -> None:
    """Refuse access to files, networks or models, and settings; ``tree`` is the engine's syntax tree, one node per line."""
    if _SETTINGS.search(tree):
        raise StoreRejectedError("The limits cannot be changed: leave out SETTINGS.")
    used = {name.lower() for _, name in _FUNCTION.findall(tree)}
    outside = {name for name in used if _REACHING_OUT.fullmatch(name)}
    outside |= {name.lower() for name in _TABLE_FUNCTION.findall(tree)} - _GENERATORS
    if outside:
        names = ", ".join(sorted(outside))[:200]
        raise StoreRejectedError(f"A SELECT here may only read tables and views; leave out {names}.")
