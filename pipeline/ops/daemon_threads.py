"""Daemon threads: if a thread blocks because a server hangs, the process can still exit."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

ResultT = TypeVar("ResultT")
P = ParamSpec("P")


async def in_thread(work: Callable[[], ResultT], name: str) -> ResultT:
    """Run blocking work in a separate thread. If the caller is cancelled or the process exits, the thread is abandoned.

    ``asyncio.to_thread`` would wait for its threads when the loop is closed.
    """
    return await start_thread(work, name)


def start_thread(work: Callable[[], ResultT], name: str) -> asyncio.Future[ResultT]:
    """Start blocking work in a daemon thread. The future gets its result, or the error that ended it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[ResultT] = loop.create_future()

    def settle(result: ResultT | None, error: BaseException | None) -> None:
        if future.done():  # the caller was cancelled
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # it is only None if the work returns None

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is waiting
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


class DaemonThreads(Executor):
    """A pool of daemon threads, started on demand. ``ThreadPoolExecutor`` would join its threads when the process exits."""

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._closed = False

    def submit(self, fn: Callable[P, ResultT], /, *args: P.args, **kwargs: P.kwargs) -> Future[ResultT]:
        """Run a function in one of the threads. If all are busy, it waits behind earlier submissions.

        Raises:
            RuntimeError: there is no thread and none can be started, or the pool has ended. The function will not run.
        """
        future: Future[ResultT] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool of threads is closed")
            if not self._idle.acquire(blocking=False) and len(self._threads) < self._count:
                self._start_thread()
            self._work.put((future, lambda: fn(*args, **kwargs)))
        return future

    def _start_thread(self) -> None:
        """Start another thread. If that fails, the existing ones do the work."""
        thread = threading.Thread(target=self._run, name=f"{self._name}_{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
        else:
            self._threads.append(thread)

    def join(self, deadline: float | None) -> bool:
        """Accept no more work, and wait for work in progress until ``deadline`` by ``time.monotonic()`` (None: without limit).

        Returns whether all work has ended.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._work.put(None)
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        work = self._work.get()
        while work is not None:
            future, call = work
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - raised where the future is awaited
                    future.set_exception(error)
            del work, future, call  # the thread may wait for long
            work = self._next()

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """The next submission, or None at the end. A thread is idle only if nothing waits for it."""
        try:
            return self._work.get_nowait()
        except queue.Empty:
            self._idle.release()
            return self._work.get()
