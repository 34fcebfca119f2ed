"""How kafka-python's consumers wait for records."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer
from kafka.future import Future
from kafka.net.manager import KafkaConnectionManager


def end_waits_quietly(consumer: KafkaConsumer) -> None:
    """Let a poll that nothing came to end by itself.

    kafka-python 3.0.12 ends it with an exception that nobody hears of, and that holds on to itself: some 50 objects for the garbage
    collector each time. Every 15 ms that is enough for pauses of 30 to 100 ms, in which nothing is delivered.
    """
    fetcher = consumer._fetcher  # noqa: SLF001 - kafka-python has no other way in
    fetcher._net = _QuietLoop(fetcher._net)  # noqa: SLF001


class _QuietLoop:
    """kafka-python's event loop as its fetcher sees it."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def run(self, function: Any, *args: Any) -> Any:
        """Run a coroutine function on the loop, from the poll thread, and return what it returns."""
        is_wait = getattr(function, "__func__", None) is KafkaConnectionManager.wait_for
        return self._loop.run(self._wait if is_wait else function, *args)

    async def _wait(self, woken: Future, timeout_ms: float) -> None:
        def wake() -> None:
            if not woken.is_done:
                woken.success(None)

        timer = self._loop.call_later(timeout_ms / 1000, wake)
        try:
            await woken
        finally:
            self._loop.cancel(timer)
