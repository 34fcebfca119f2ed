"""The private parts of kafka-python that we use for speed. No other module uses them.

Correctness does not depend on anything here: with ``kafka_speedups`` off, or with a version of kafka-python that this was not
checked with, the product uses only kafka-python's public API, logs that once, and takes more CPU time.

What it saves, with kafka-python 3.0.12:

- A poll of a waiting member asks the I/O thread three times (is the coordinator known, send fetches, wait for them), and each
  time both threads take the GIL from deliveries. Here it asks once.
- A reader has its own I/O thread, and the polling thread waits for it: four wake-ups for each fetch, and a socket to wake each
  other. Here the polling thread does the work itself, as kafka-python does if no I/O thread was started: two wake-ups.
- A wait without a result ends with an exception that references itself: some 50 objects for the garbage collector each time, and
  pauses of 30 to 100 ms without deliveries. Here it simply ends.
- Each answer of a broker takes thirteen system calls. Each of them releases the GIL, and gets it back from a busy event loop only
  after milliseconds. Here there are six.
- Another thread cannot end a poll, so polls must be short and frequent. Here it can.
- If a member waits for a join, its poll continues until its time is over, even if the join ends early. Here it ends with the join.
- A producer that may not send more at the moment, or whose partition has no leader, busy-loops, 24,000 times a second. Here it
  waits.

One hook is not about speed. kafka-python cannot read a batch in which a header name is not UTF-8 (Kafka's protocol forbids such names,
but brokers accept them). Without the hooks, the role ends with an error, and nothing is lost. Here the record is read, with question
marks in the name.
"""

from __future__ import annotations

import math
import selectors
import ssl
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib.metadata import version
from typing import Any, ClassVar, Final

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import MemberState

from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings

log = logger(__name__)

CHECKED_WITH: Final = frozenset({"3.0.12"})
"""The versions of kafka-python that these hooks were checked with (tests/contract/test_compat.py)."""


class Hooks:
    """No hooks: kafka-python unchanged."""

    least_poll_ms: ClassVar[int] = 50
    """The shortest poll of a group member. If a topic has grown, kafka-python waits for the join only in the poll that starts it.
    A member that is alone joins within milliseconds. With others, a join may take longer: then the group thread notices that it
    does not end, and rejoins.
    """
    subscribed_poll_ms: ClassVar[int] = 1000
    """The shortest poll right after a change of the subscription. It starts a join, which may take longer than `least_poll_ms` on a
    busy machine.
    """

    def configure(self, config: dict[str, Any]) -> dict[str, Any]:
        """The configuration of a client."""
        return config

    def request_join(self, consumer: KafkaConsumer) -> None:
        """For a group member, called before each poll."""

    def speed_up_member(self, consumer: KafkaConsumer) -> None:
        """For a group member, called once."""

    def speed_up_reader(self, consumer: KafkaConsumer) -> Callable[[], None] | None:  # noqa: ARG002 - as below
        """For a reader, called once. Returns a function that ends its poll from another thread; None if there is none."""
        return None

    def set_fetch_wait(self, consumer: KafkaConsumer, milliseconds: int) -> None:
        """For a reader: from now on, the broker may hold a fetch for this long."""

    def end_busy_loops(self, producer: KafkaProducer) -> None:
        """For a producer, called once."""


class Speedups(Hooks):
    """The hooks for the versions in `CHECKED_WITH`."""

    least_poll_ms = subscribed_poll_ms = 0

    def __init__(self) -> None:
        # kafka-python has no setting for the transport. Connections that this process opens from now on use ours.
        import kafka.net.manager  # noqa: PLC0415 - private, and only where the version is known
        import kafka.record.memory_records  # noqa: PLC0415

        kafka.net.manager.KafkaTCPTransport, kafka.net.manager.KafkaSSLTransport = _transports()
        kafka.record.memory_records.DefaultRecordBatch = _readable_batch()

    def configure(self, config: dict[str, Any]) -> dict[str, Any]:
        return config | {"selector": FewWaitsSelector}

    def request_join(self, consumer: KafkaConsumer) -> None:
        """Request the join that the member must make or has started, until it is over.

        If kafka-python starts a join because a topic has grown, and the join ends between two polls, kafka-python forgets it.
        Without this, the member notices only later that its join takes too long, and rejoins.
        """
        coordinator = consumer._coordinator  # noqa: SLF001
        if coordinator.need_rejoin() or coordinator.rejoining:
            coordinator.request_rejoin()

    def speed_up_member(self, consumer: KafkaConsumer) -> None:
        coordinator = consumer._coordinator  # noqa: SLF001
        _trust_connection(coordinator)
        # The I/O thread sends heartbeats. While the answer to one is overdue (the broker hangs), no poll would wait at all.
        coordinator.time_to_next_poll = lambda: math.inf
        _end_with_the_join(consumer)

    def speed_up_reader(self, consumer: KafkaConsumer) -> Callable[[], None] | None:
        fetches = _Fetches(consumer._fetcher)  # noqa: SLF001
        # Only heartbeats need an I/O thread, and a reader sends none. Work that is due between two polls (metadata) is done in the
        # next one.
        consumer._net.stop()  # noqa: SLF001
        consumer._fetcher.fetch_records = fetches.fetch_records  # noqa: SLF001
        return fetches.end_poll

    def set_fetch_wait(self, consumer: KafkaConsumer, milliseconds: int) -> None:
        """kafka-python reads this configuration for each fetch."""
        consumer._fetcher.config["fetch_max_wait_ms"] = milliseconds  # noqa: SLF001

    def end_busy_loops(self, producer: KafkaProducer) -> None:
        """If a broker can take no more, kafka-python confuses seconds with milliseconds, and does not wait if the answer is 0. While
        a partition has no leader, it asks for the metadata in each turn, and each time this ends its own wait.
        """
        client = producer._sender._client  # noqa: SLF001 - used only by its thread
        delay_s = client.connection_delay
        client.connection_delay = lambda node: max(delay_s(node) * 1000, _FULL_WAIT_MS)
        _request_update_once(client.cluster)


def hooks_for(settings: Settings) -> Hooks:
    """The hooks that the settings and the installed version allow."""
    installed = version("kafka-python")
    if not settings.kafka_speedups:
        log.info("kafka-python is used without speed-ups; it takes more CPU time", reason="kafka_speedups is off")
        return Hooks()
    if installed not in CHECKED_WITH:
        reason = f"they were checked with {', '.join(sorted(CHECKED_WITH))}, and {installed} is installed"
        log.info("kafka-python is used without speed-ups; it takes more CPU time", reason=reason)
        return Hooks()
    return Speedups()


_FULL_WAIT_MS = 10
"""How long a producer that may not send more at the moment waits. An answer or a new connection wakes it earlier."""
_NO_PARTITION: Final = TopicPartition("", -1)
_WAITS_LEFT_OUT = 3
"""How many zero-length waits are skipped in a row: received data waits for a few steps of the client at most."""
_READ_BYTES = 64 * 1024
_NOTHING_LEFT = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class FewWaitsSelector(selectors.DefaultSelector):
    """The standard selector, with two differences.

    - A zero-length wait (the client has more to do) is skipped, up to three times in a row.
    - The KeyError for an unknown socket does not describe it. kafka-python looks one up before every wait, and catches the error.
      The standard selector puts the socket's addresses into the text, twice, which takes system calls.

    Registration is that of the standard selector: kafka-python closes a client's sockets from another thread, during a wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self._left_out = 0

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """The registration of a file object, or of its descriptor.

        Raises:
            KeyError: it is not registered.
        """
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        # A closed one is still found by identity, as in the standard selector.
        return super().get_key(fileobj if descriptor < 0 else descriptor)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """The events so far; waits for at most ``timeout`` seconds."""
        if timeout is not None and timeout <= 0 and self._left_out < _WAITS_LEFT_OUT:
            self._left_out += 1
            return []
        self._left_out = 0
        return super().select(timeout)


def _transports() -> tuple[type, type]:  # noqa: C901 - two classes that need their bases first
    """The transport classes, created on demand, because kafka-python 3.1 no longer has their module."""
    from kafka.errors import KafkaConnectionError  # noqa: PLC0415
    from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport  # noqa: PLC0415

    class _Transport(KafkaTCPTransport):  # type: ignore[misc]  # kafka-python is untyped
        def _sock_recv(self) -> tuple[bytes, Exception | None]:
            """The received data, or the error that ended the connection. Data before the end is returned first: it may contain
            the reason.
            """
            received: list[bytes] = []
            try:
                while data := self._sock.recv(_READ_BYTES):
                    received.append(data)
                    if len(data) < _READ_BYTES and not isinstance(self._sock, ssl.SSLSocket):
                        return b"".join(received), None  # there is no more; if there is, we are notified
            except _NOTHING_LEFT:
                return b"".join(received), None
            except Exception as error:  # noqa: BLE001 - those who wait for answers get it
                end = KafkaConnectionError(error)
            else:
                end = KafkaConnectionError("The broker closed the connection.")
            if not received:
                return b"", end
            # Later, so that tasks that the data wakes run first.
            self._net.call_later(0, lambda: self.abort(end))
            return b"".join(received), None

        async def _write_to_sock(self) -> None:
            """Write the data, and wait only for what the socket does not accept."""
            if self._write_buffer:
                _, error = self._sock_send()
                if error:
                    self._writing = False
                    self.abort(error=error)
                    return
                self.last_write = time.monotonic()
            await super()._write_to_sock()

    class _TlsTransport(_Transport, KafkaSSLTransport):  # type: ignore[misc]
        pass

    return _Transport, _TlsTransport


def _request_update_once(metadata: Any) -> None:
    """Ignore a request for metadata while an earlier one is pending. The refresh loop is already awake, or backs off."""
    request_update = metadata.request_update

    def once() -> Any:
        earlier = metadata._future  # noqa: SLF001
        is_waiting = metadata.need_update and earlier is not None and not earlier.is_done
        return earlier if is_waiting else request_update()

    metadata.request_update = once


def _readable_batch() -> type:
    """The class of a batch whose records can be read even if the name of a header is not UTF-8. Created on demand, as the transports."""
    from kafka.errors import CorruptRecordError  # noqa: PLC0415
    from kafka.record.default_records import DefaultRecordBatch  # noqa: PLC0415

    class _ReadableBatch(DefaultRecordBatch):  # type: ignore[misc]  # kafka-python is untyped
        __slots__ = ()

        def __next__(self) -> Any:
            try:
                return super().__next__()
            except CorruptRecordError as error:
                if not isinstance(error.__context__, UnicodeDecodeError):
                    raise
                _make_header_names_readable(self._buffer, self._pos)
                return super().__next__()

        next = __next__

    return _ReadableBatch


def _make_header_names_readable(buffer: bytearray, at: int) -> None:
    """In the record at a position, replace the bytes that are not ASCII in header names that are not UTF-8.

    A record is: length, attributes, time, offset, key, value, number of headers, headers (KIP-98). Lengths of -1 mean null.
    """
    from kafka.record.util import decode_varint  # noqa: PLC0415

    for _ in range(4):
        _, at = decode_varint(buffer, at)
    for _ in range(2):
        length, at = decode_varint(buffer, at)
        at += max(length, 0)
    count, at = decode_varint(buffer, at)
    for _ in range(count):
        length, at = decode_varint(buffer, at)
        name = bytes(buffer[at : at + length])
        try:
            name.decode()
        except UnicodeDecodeError:
            buffer[at : at + length] = bytes(byte if byte < 128 else ord("?") for byte in name)  # as long as before
        at += length
        length, at = decode_varint(buffer, at)
        at += max(length, 0)


def _trust_connection(coordinator: Any) -> None:
    """While there is a connection to the coordinator, do not look it up again."""
    make_ready = coordinator.ensure_coordinator_ready

    def ensure_coordinator_ready(timeout_ms: float | None = None) -> bool:
        node = coordinator.coordinator_id
        if node is not None and coordinator._client.connected(node):  # noqa: SLF001
            return True
        return bool(make_ready(timeout_ms=timeout_ms))

    coordinator.ensure_coordinator_ready = ensure_coordinator_ready


def _end_with_the_join(consumer: KafkaConsumer) -> None:
    """If a member waits for a join, its poll ends with the join, not when its time is over: there is nothing to fetch."""
    fetch_records = consumer._fetcher.fetch_records  # noqa: SLF001

    def fetch_nothing(*arguments: Any, **named: Any) -> tuple[dict[Any, list[Any]], bool]:
        known = consumer.group_metadata()
        if known.state == MemberState.STABLE and known.generation_id >= 0 and known.member_id:
            return {_NO_PARTITION: []}, False  # a poll continues while it has nothing at all
        found: tuple[dict[Any, list[Any]], bool] = fetch_records(*arguments, **named)
        return found

    consumer._fetcher.fetch_records = fetch_nothing  # noqa: SLF001


def _nothing() -> None:
    """Does not wait."""


class _Fetches:
    """Replaces `Fetcher.fetch_records`.

    The original also ends a wait without a result with an exception that nobody sees and that references itself: some 50 objects
    for the garbage collector each time. Every 15 ms, that is enough for pauses of 30 to 100 ms without deliveries.
    """

    def __init__(self, fetcher: Any) -> None:
        from kafka.future import Future  # noqa: PLC0415 - private, and only where the version is known

        self._new_future: Callable[[], Any] = Future
        self._fetcher = fetcher
        self._is_to_end = False
        self._wake: Callable[[], None] = _nothing
        """Ends the current wait. Set and called on the polling thread."""

    def end_poll(self) -> None:
        """End the current or the next poll. Called on any thread."""
        self._is_to_end = True
        # Fails if the client is closed, or its thread has died: nobody is waiting then, and the poll raises the reason.
        with suppress(Exception):
            self._fetcher._net.call_soon_threadsafe(lambda: self._wake())  # noqa: PLW0108, SLF001 - of the wait at that time

    def fetch_records(
        self, max_records: int | None = None, update_offsets: bool = True, timeout_ms: float | None = None
    ) -> tuple[dict[Any, list[Any]], bool]:
        """Records that have arrived or that arrive in time, and whether there is nothing to wait for. See kafka-python."""
        fetcher = self._fetcher
        records, partial = fetcher.fetched_records(max_records, update_offsets=update_offsets)
        if records:
            if not partial:
                self._run(fetcher._send_fetches_async())  # noqa: SLF001
            return records, False
        if self._ends():
            return {_NO_PARTITION: []}, False  # a poll continues while it has nothing at all
        if not self._run(self._await_records(timeout_ms, not partial)):
            return records, True
        records, _ = fetcher.fetched_records(max_records, update_offsets=update_offsets)
        if not records and self._ends():
            return {_NO_PARTITION: []}, False
        return records, False

    def _run(self, work: Coroutine[Any, Any, object]) -> object:
        """Run kafka-python's loop on this thread until the work is done. The original first wakes the loop, over a socket."""
        net, done = self._fetcher._net, self._new_future()  # noqa: SLF001

        async def run() -> None:
            try:
                done.success(await work)
            except BaseException as error:  # noqa: BLE001 - raised in the poll
                done.failure(error)

        net.call_soon(run)
        net.poll(future=done)
        if done.exception is not None:
            raise done.exception
        return done.value

    def _ends(self) -> bool:
        ends, self._is_to_end = self._is_to_end, False
        return ends

    def _awaited(self) -> list[Any]:
        """The futures that a poll waits for: fetches, a reset of offsets, and metadata while the leader of a partition is unknown."""
        fetcher = self._fetcher
        awaited = list(fetcher._fetch_futures)  # noqa: SLF001
        if fetcher._reset_task is not None and not fetcher._reset_task.is_done:  # noqa: SLF001
            awaited.append(fetcher._reset_task)  # noqa: SLF001
        metadata = fetcher._manager.cluster  # noqa: SLF001
        if metadata.need_update:
            # The leader of a partition is unknown. The original sleeps while its I/O thread asks for it. Here, nobody would.
            awaited.append(metadata.request_update())
        return awaited

    async def _await_records(self, timeout_ms: float | None, is_to_send: bool) -> bool:
        """Send fetches, and wait for any. Returns whether there was something to wait for. Runs in kafka-python's loop."""
        fetcher = self._fetcher
        if is_to_send:
            await fetcher._send_fetches_async()  # noqa: SLF001
        if fetcher._completed_fetches:  # noqa: SLF001 - arrived after the poll had checked, before this wait
            return True
        awaited = self._awaited()
        if not awaited:
            return False
        woken = self._new_future()

        def wake(_: object = None) -> None:
            if not woken.is_done:
                woken.success(None)

        for future in awaited:
            future.add_both(wake)
        self._wake = wake
        if self._is_to_end:  # requested before this wait
            wake()
        # kafka-python rounds down, and would poll repeatedly in the last millisecond.
        timer = None if timeout_ms is None else fetcher._net.call_later((timeout_ms + 1) / 1000, wake)  # noqa: SLF001
        try:
            await woken
        finally:
            self._wake = _nothing
            if timer is not None:
                fetcher._net.cancel(timer)  # noqa: SLF001
        return True
