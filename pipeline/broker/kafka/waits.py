"""How kafka-python's clients wait.

A consumer of kafka-python 3.0.12 is two threads: one polls, the other does the I/O. A poll that has to wait asks the other
thread three times (is the coordinator known, send fetches, wait for them), and each time both threads take the interpreter from whoever
delivers. Here it asks once: with the sparing selector and transport, the fan-out changes threads a third less often.
"""

from __future__ import annotations

import math
from typing import Any

from kafka import KafkaConsumer, KafkaProducer
from kafka.future import Future

_FULL_WAIT_MS = 10
"""Of a producer that may not send more for now: an answer wakes it, or a new connection. This is for what does not."""


def wait_cheaply(consumer: KafkaConsumer) -> None:
    """Let the consumer's polls ask its I/O thread once, and end by themselves when nothing comes."""
    fetches = _Fetches(consumer._fetcher)  # noqa: SLF001 - kafka-python has no other way in
    consumer._fetcher.fetch_records = fetches.fetch_records  # noqa: SLF001
    if consumer._coordinator is not None:  # noqa: SLF001
        _trust_connection(consumer._coordinator)  # noqa: SLF001
        # The I/O thread sends heartbeats by itself. While an answer to one is overdue (the broker hangs), no poll would wait at all.
        consumer._coordinator.time_to_next_poll = lambda: math.inf  # noqa: SLF001


def wait_while_full(producer: KafkaProducer) -> None:
    """Let the producer's thread wait while a broker has five requests to answer, or is being connected to.

    kafka-python 3.0.12 asks how long such a broker wants to be left alone, takes the seconds for milliseconds, and with the answer 0
    turns round and round: 30,000 times a second, with a core of its own, while others wait for the interpreter.
    """
    client = producer._sender._client  # noqa: SLF001 - nobody but its thread asks this object
    delay_s = client.connection_delay
    client.connection_delay = lambda node: max(delay_s(node) * 1000, _FULL_WAIT_MS)


def _trust_connection(coordinator: Any) -> None:
    """As long as there is a connection to the coordinator, it is known: nobody need be asked."""
    make_ready = coordinator.ensure_coordinator_ready

    def ensure_coordinator_ready(timeout_ms: float | None = None) -> bool:
        node = coordinator.coordinator_id
        if node is not None and coordinator._client.connected(node):  # noqa: SLF001
            return True
        return bool(make_ready(timeout_ms=timeout_ms))

    coordinator.ensure_coordinator_ready = ensure_coordinator_ready


class _Fetches:
    """Takes the place of `Fetcher.fetch_records`.

    The original also ends a wait in vain with an exception that nobody hears of, and that holds on to itself: some 50 objects for
    the garbage collector each time. Every 15 ms that is enough for pauses of 30 to 100 ms, in which nothing is delivered.
    """

    def __init__(self, fetcher: Any) -> None:
        self._fetcher = fetcher

    def fetch_records(
        self, max_records: int | None = None, update_offsets: bool = True, timeout_ms: float | None = None
    ) -> tuple[dict[Any, list[Any]], bool]:
        """What has come, or what comes within the time; and whether there is nothing to wait for. See kafka-python."""
        fetcher = self._fetcher
        records, partial = fetcher.fetched_records(max_records, update_offsets=update_offsets)
        if records:
            if not partial:
                fetcher.send_fetches()
            return records, False
        if not fetcher._net.run(self._await_records, timeout_ms, not partial):  # noqa: SLF001
            return records, True
        records, _ = fetcher.fetched_records(max_records, update_offsets=update_offsets)
        return records, False

    async def _await_records(self, timeout_ms: float | None, is_to_send: bool) -> bool:
        """Send fetches, and wait for any; whether there was something to wait for. Runs on the I/O thread."""
        fetcher = self._fetcher
        if is_to_send:
            await fetcher._send_fetches_async()  # noqa: SLF001
        if fetcher._completed_fetches:  # noqa: SLF001 - came after the poll had looked, before its wait began
            return True
        awaited = list(fetcher._fetch_futures)  # noqa: SLF001
        if fetcher._reset_task is not None and not fetcher._reset_task.is_done:  # noqa: SLF001
            awaited.append(fetcher._reset_task)  # noqa: SLF001
        if not awaited:
            return False
        woken = Future()

        def wake(_: object = None) -> None:
            if not woken.is_done:
                woken.success(None)

        for future in awaited:
            future.add_both(wake)
        # kafka-python rounds down, and would ask again and again for what is left of the last millisecond.
        timer = None if timeout_ms is None else fetcher._net.call_later((timeout_ms + 1) / 1000, wake)  # noqa: SLF001
        try:
            await woken
        finally:
            if timer is not None:
                fetcher._net.cancel(timer)  # noqa: SLF001
        return True
