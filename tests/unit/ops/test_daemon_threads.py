from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from pipeline.ops.daemon_threads import DaemonThreads, in_thread
from tests.waiting import until


async def test_results_and_errors_are_returned() -> None:
    assert await in_thread(lambda: 7, "work") == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0, "work")


async def test_a_cancelled_caller_does_not_wait() -> None:
    begun, release = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        release.wait(30)

    task = asyncio.create_task(in_thread(work, "work"))
    await until(begun.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()


def test_a_single_thread_runs_tasks_in_order() -> None:
    threads = DaemonThreads(1, "one")
    order: list[int] = []
    futures = [threads.submit(order.append, number) for number in range(50)]
    for future in futures:
        future.result(60)
    assert order == list(range(50))
    assert threads.join(None)
    with pytest.raises(RuntimeError):
        threads.submit(print)


def test_as_many_tasks_run_at_once_as_there_are_threads() -> None:
    threads, together = DaemonThreads(3, "three"), threading.Barrier(3)
    for future in [threads.submit(together.wait, 60) for _ in range(3)]:
        future.result(60)
    assert threads.join(time.monotonic() + 60)


def test_threads_that_failed_to_start_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, done = DaemonThreads(2, "two"), list[int]()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as short_of_threads:
        short_of_threads.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="start new thread"):
                threads.submit(done.append, 1)
    threads.submit(done.append, 2).result(60)
    assert threads.join(time.monotonic() + 60)
    assert done == [2]


def test_existing_threads_continue_while_no_other_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, release = DaemonThreads(3, "three"), threading.Event()
    held_up = threads.submit(release.wait, 60)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as short_of_threads:
        short_of_threads.setattr(threading.Thread, "start", refuse)
        waiting = [threads.submit(lambda: 7) for _ in range(5)]
        release.set()
        assert held_up.result(60)
        assert [future.result(60) for future in waiting] == [7] * 5
    together = threading.Barrier(3)
    for future in [threads.submit(together.wait, 60) for _ in range(3)]:  # now the others can be started
        future.result(60)
    assert threads.join(time.monotonic() + 60)


def test_a_hanging_task_is_not_waited_for() -> None:
    threads, release = DaemonThreads(2, "two"), threading.Event()
    threads.submit(release.wait, 30)
    assert not threads.join(time.monotonic() + 0.05)
    release.set()


def test_the_process_ends_while_tasks_hang() -> None:
    program = """
import asyncio, threading, time
from pipeline.ops.daemon_threads import DaemonThreads, in_thread
hanging = threading.Barrier(3)
def hang():
    hanging.wait(60)
    time.sleep(600)
async def main():
    DaemonThreads(1, "hanging").submit(hang)
    task = asyncio.create_task(in_thread(hang, "hanging"))
    await asyncio.sleep(0)
    hanging.wait(60)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=120, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
