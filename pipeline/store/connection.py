"""Connections to ClickHouse: a server over HTTP, or embedded in this process (chDB). Async methods around blocking clients.

A client belongs to one thread: a chDB client does one thing at a time, and so does a ClickHouse session. Inserts have their own
thread, so that a slow search never delays them, and so that they happen in the order of the calls. Searches take turns (see
`query_queue.py`): the embedded ClickHouse shares the processor with the recorder, and must not starve it.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error, ProgrammingError

from pipeline.ops import metrics
from pipeline.ops.daemon_threads import DaemonThreads
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from pipeline.store.client_options import at_a_server, for_all, in_process
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
from pipeline.store.search.query_queue import QueryQueue, max_concurrent
from pipeline.store.stored_span import StoredSpan

__all__ = [
    "Client",
    "Connections",
    "StoreBudgetError",
    "StoreBusyError",
    "StoreError",
    "StoreLimitError",
    "StoreLoginError",
    "StoreRejectedError",
    "StoreRowsError",
    "StoreUnavailableError",
]

log = logger(__name__)

ResultT = TypeVar("ResultT")

ANSWER_SECONDS: Final = 30
"""How long to wait for an answer. Longer than any search may take; an insert that takes longer is safe to retry."""

PING_SECONDS: Final = 8
"""How long to wait for the answer to a ping."""
CLOSE_SECONDS: Final = 0.5
"""How long a server that does not answer may delay the end of this process. Callers have already waited for their inserts."""
_PAUSE_MS: Final = 20
"""How long a search waits for an insert, at most, after each block that it reads. A search must not stall while a backlog is
recorded.
"""
_STOP: Final = "KILL QUERY WHERE user = currentUser() AND Settings['log_comment'] = {token:String} ASYNC"

# The driver and its HTTP client log what they raise, with stack traces. Our logs show their errors once, as StoreErrors.
for _name in ("clickhouse_connect", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class Connections:
    """One ClickHouse, as configured: ``clickhouse_url``, or embedded at ``clickhouse_path``.

    Nothing is opened before it is needed. ``read``, ``write`` and ``prepare`` run a function with a client in a thread and raise
    :class:`StoreError`. A started function runs to its end even if its caller is cancelled. ClickHouse is then told to stop the
    query of a search.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._writer = DaemonThreads(1, "store-writer")
        self.stored: StoredSpan | None = None
        self.turns = QueryQueue(max_concurrent(settings), settings.search_wait_seconds)
        self._readers = DaemonThreads(self.turns.max_concurrent, "store-reader")
        self._probe = DaemonThreads(1, "store-probe")
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._clients: list[Client] = []
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._closed = False
        self._held = ""
        self._is_away: Callable[[], str | None] = lambda: None

    @property
    def is_embedded(self) -> bool:
        """Whether ClickHouse is embedded in this process."""
        return not self._settings.clickhouse_url

    @property
    def where(self) -> str:
        """The name of this ClickHouse in messages."""
        if self.is_embedded:
            return "ClickHouse in this process"
        return f"ClickHouse at {urlsplit(self._settings.clickhouse_url).netloc.rpartition('@')[2]}"

    @property
    def cluster(self) -> str:
        """The cluster whose nodes hold the tables; empty for a single ClickHouse."""
        return self._settings.clickhouse_cluster

    @property
    def insert_quorum(self) -> str:
        """How many replicas must have an insert before it counts, on a cluster."""
        return self._settings.clickhouse_insert_quorum

    @property
    def database(self) -> str:
        return self._settings.clickhouse_database

    def hold(self, why: str) -> None:
        """Refuse every read and write from now on: the tables may not exist yet."""
        self._held = why

    def refuse_reads_while(self, is_away: Callable[[], str | None]) -> None:
        """Refuse searches immediately while ClickHouse is known not to answer: a few hanging searches would block all others."""
        if not self.is_embedded:
            self._is_away = is_away

    def release(self) -> None:
        """Allow reads and writes: the tables exist."""
        self._held = ""

    async def read(self, work: Callable[[Client], ResultT], place: int | None = None) -> ResultT:
        """Run a part of a search when it is its turn. ``place`` is the search's place in the queue (``turns.place()``); by
        default the end.

        Raises:
            StoreBusyError: too many other searches are ahead.
        """
        return await self._in_turn(lambda token: self._call(work, self._open_for_searches, token), place)

    async def write(self, work: Callable[[Client], ResultT]) -> ResultT:
        """Change data, after all earlier calls."""
        self._refuse_while_held()
        return await self.set_up(work)

    async def set_up(self, work: Callable[[Client], ResultT]) -> ResultT:
        """Like :meth:`write`, but not refused by :meth:`hold`: it creates the tables."""
        return await self._run(self._writer, lambda: self._call(work, self._open_ours))

    async def read_alone(self, work: Callable[[Client], ResultT]) -> ResultT:
        """Read with a separate client, which is closed afterwards: its settings affect nobody else."""
        return await self._in_turn(lambda token: self._alone(work, self._open_for_searches, token), None)

    async def write_concurrently(self, work: Callable[[Client], ResultT]) -> ResultT:
        """Change data with a separate client: it neither waits for inserts nor delays them."""
        self._refuse_while_held()
        return await self._run(self._readers, lambda: self._alone(work, self._open_ours))

    async def ping(self) -> None:
        """Return when ClickHouse answers. The ping has its own connection and does not queue with searches.

        Raises:
            StoreError: ClickHouse does not answer.
        """
        await self._with_probe_client(lambda client: client.command("SELECT 1"))

    async def prepare(self, work: Callable[[Client], ResultT]) -> ResultT:
        """Run migrations, with a client that uses no database yet."""
        return await self._run(self._writer, lambda: self._alone(work, lambda: self._open(None, ANSWER_SECONDS)))

    async def close(self) -> None:
        """Wait for what is running, then release everything: another process can open the directory afterwards."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._close)

    async def _in_turn(self, call: Callable[[str], ResultT], place: int | None) -> ResultT:
        self._refuse_while_away()
        return await self.turns.run(lambda token: self._run(self._readers, lambda: call(token)), self._stop, place)

    async def _stop(self, token: str) -> None:
        try:
            await self._with_probe_client(lambda client: client.command(_STOP, parameters={"token": token}))
        except StoreError as error:
            log.info("could not stop an abandoned search; it ends at its time limit", reason=str(error))

    async def _with_probe_client(self, work: Callable[[Client], object]) -> None:
        await self._run(self._probe, lambda: self._call(work, lambda: self._open(None, PING_SECONDS)))

    async def _run(self, executor: Executor, call: Callable[[], ResultT]) -> ResultT:
        if self._closed:
            raise StoreUnavailableError("The connections to ClickHouse are closed: this process is stopping.")
        return await asyncio.get_running_loop().run_in_executor(executor, call)

    def _refuse_while_away(self) -> None:
        self._refuse_while_held()
        if problem := self._is_away():
            raise StoreUnavailableError(problem)

    def _refuse_while_held(self) -> None:
        if self._held:
            raise StoreUnavailableError(self._held)

    def _call(self, work: Callable[[Client], ResultT], open_client: Callable[[], Client], token: str | None = None) -> ResultT:
        """Run ``work`` with this thread's client. A search has a ``token``, by which it can be stopped."""
        client = getattr(self._thread, "client", None)
        if client is None:
            client = self._thread.client = open_client()
            with self._lock:
                self._clients.append(client)
        try:
            return self._work(client, work, token)
        except BaseException:
            if self.is_embedded:
                self._replace(client, open_client)
            raise

    def _replace(self, client: Client, open_client: Callable[[], Client]) -> None:
        """Replace a chDB client whose statement failed: chDB 4.4 would put that statement's rows before the next answer."""
        self._thread.client = None
        # Open the new one first: closing the last client would close the engine.
        try:
            fresh = open_client()
        except Exception as error:  # noqa: BLE001 - the caller raises why the statement failed; the next call opens a client again
            log.warning("no new connection to the embedded ClickHouse could be opened", error=str(error))
            return
        with self._lock:
            self._clients.remove(client)
            self._clients.append(fresh)
        self._thread.client = fresh
        client.close()

    def _alone(self, work: Callable[[Client], ResultT], open_client: Callable[[], Client], token: str | None = None) -> ResultT:
        client = open_client()
        try:
            return self._work(client, work, token)
        finally:
            client.close()

    def _work(self, client: Client, work: Callable[[Client], ResultT], token: str | None) -> ResultT:
        def named() -> ResultT:
            if token is not None:
                client.set_client_setting("log_comment", token)
            return work(client)

        return self._translated(named, searching=token is not None)

    def _open_ours(self) -> Client:
        """For inserts. In the embedded ClickHouse they have priority: queries of searches pause while an insert runs."""
        return self._set(self._open(self.database, ANSWER_SECONDS), {"priority": 1} if self.is_embedded else {})

    def _open_for_searches(self) -> Client:
        settings = {"priority": 2, "low_priority_query_wait_time_ms": _PAUSE_MS} if self.is_embedded else {}
        if threads := self._settings.search_threads or int(self.is_embedded):
            settings["max_threads"] = threads
        return self._set(self._open(self.database, ANSWER_SECONDS), settings)

    def _set(self, client: Client, settings: Mapping[str, int]) -> Client:
        for name, value in settings.items():
            self._translated(partial(client.set_client_setting, name, value), searching=False)
        return client

    def _open(self, database: str | None, answer_seconds: int) -> Client:
        try:
            return self._translated(
                lambda: clickhouse_connect.get_client(**self._options(database, answer_seconds)), searching=False
            )
        except StoreRejectedError as error:
            if self.is_embedded and isinstance(error.__cause__, ProgrammingError):
                raise _not_opened(error.__cause__, self._directory()) from error
            raise
        except ImportError as error:
            raise StoreRejectedError(
                "ClickHouse in this process needs chDB: pip install 'oms-webhooks[embedded]', or set clickhouse_url."
            ) from error

    def _translated(self, call: Callable[[], ResultT], *, searching: bool) -> ResultT:
        try:
            return call()
        except Error as error:
            translated = store_error(error, self.where, searching=searching)
            metrics.STORE_ERRORS.labels(translated.kind).inc()
            raise translated from error
        except OSError as error:
            # The embedded ClickHouse uses a temporary file for an insert.
            metrics.STORE_ERRORS.labels(StoreUnavailableError.kind).inc()
            raise StoreUnavailableError(f"{self.where} cannot use its files: {error.strerror or error}") from error

    def _options(self, database: str | None, answer_seconds: int) -> dict[str, Any]:
        options = in_process(self._directory()) if self.is_embedded else at_a_server(self._settings, answer_seconds)
        return {"database": database, **options, **for_all(self._settings)}

    def _directory(self) -> Path:
        with self._lock:
            if self._settings.clickhouse_path is not None:
                self._settings.clickhouse_path.mkdir(parents=True, exist_ok=True)
                return self._settings.clickhouse_path
            if self._temporary is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="oms-webhooks-clickhouse-")
            return Path(self._temporary.name)

    def _close(self) -> None:
        # A server that does not answer is abandoned. The directory of the embedded engine must be free afterwards.
        deadline = None if self.is_embedded else time.monotonic() + CLOSE_SECONDS
        ended = [threads.join(deadline) for threads in (self._writer, self._readers, self._probe)]
        if not all(ended):
            return
        for client in self._clients:
            client.close()
        if self._temporary is not None:
            self._temporary.cleanup()


def _not_opened(error: ProgrammingError, path: Path) -> StoreError:
    if "different path" in str(error):
        return StoreRejectedError(f"ClickHouse is open in this process with a directory other than {path}; close that one first.")
    message = f"ClickHouse cannot open {path}. Only one process at a time can: stop the other, or set another clickhouse_path."
    return StoreUnavailableError(message)
