"""A writer, with kafka-python."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from typing import Any, Final, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from pipeline.broker.api import Pending, Position
from pipeline.broker.errors import BrokerError, NoSessionError, PublishError, UnavailableError
from pipeline.broker.failure_backoff import FailureBackoff
from pipeline.broker.kafka.compat import Hooks
from pipeline.broker.kafka.errors import ours
from pipeline.broker.kafka.session import opening_session
from pipeline.ops.logs import logger

log = logger(__name__)

_CONNECT_S: Final = 10.0
_BLOCK_MS: Final = 20
"""How long kafka-python may block the event loop: it asks for the partitions of a topic if it has forgotten them."""
_PART_S: Final = 1.0
"""How long one attempt to close a producer may take."""
_POLL_S: Final = 0.01
_HELD_AT_ONCE: Final = 100
"""How many held-back records are written at once while the event loop may have to wait."""
_FOR_THE_LOOP: Final[dict[str, Any]] = {"max_block_ms": _BLOCK_MS}
_ONE_BY_ONE: Final[dict[str, Any]] = {
    "enable_idempotence": False,
    "max_in_flight_requests_per_connection": 1,  # to keep the order
    "batch_size": 0,
    "linger_ms": 0,
    "max_block_ms": int(_CONNECT_S * 1000),
}


class _Record(NamedTuple):
    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int | None

    def write(self, producer: KafkaProducer) -> Any:
        """Returns kafka-python's future.

        Raises:
            UnavailableError: it cannot be accepted at the moment.
            PublishError: it will never be accepted.
        """
        topic, partition, key, value, headers, timestamp_ms = self
        try:
            return producer.send(topic, key=key, value=value, headers=headers, partition=partition, timestamp_ms=timestamp_ms)
        except KafkaError as error:
            raise _why(topic, error) from error
        except Exception as error:  # raised by kafka-python's checks, which would raise it again
            raise PublishError(f"Kafka does not accept a record for {topic}: {error}") from error


class _Written:
    """A record that was passed to a producer, or is held back."""

    __slots__ = ("error", "future", "is_judged", "number", "record")

    def __init__(self, record: _Record, number: int) -> None:
        self.record = record
        self.number = number
        """The order in which records are sent."""
        self.future: Any = None
        """kafka-python's; None while no producer has the record."""
        self.is_judged = False
        """Whether the record was written alone, so that a refusal is about this record."""
        self.error: BrokerError | None = None

    @property
    def is_done(self) -> bool:
        if self.error is not None:
            return True
        future = self.future
        return future is not None and future.is_done and (self.is_judged or not _is_refusal(future.exception))

    @property
    def is_in_doubt(self) -> bool:
        """It was refused, or failed because another one was."""
        future = self.future
        return not self.is_judged and future is not None and future.is_done and _is_refusal(future.exception)

    def write(self, producer: KafkaProducer, *, is_judged: bool = False) -> None:
        """Pass it to a producer. :meth:`position` reports errors."""
        try:
            self.future = self.record.write(producer)
        except BrokerError as error:
            self.error = error
        self.is_judged = is_judged


class KafkaProducerClient:
    """See `pipeline.broker.api.ProducerClient`.

    In kafka-python, a record that a broker refuses ends an idempotent producer: all other records in progress fail with the same
    error, and so do all later ones. So the producer is replaced. The failed records are written one by one, by a producer that is
    not idempotent: this distinguishes refused records from those that failed with them. Then another idempotent producer
    continues. Records that are sent in the meantime are held back, to keep the order. A record that Kafka had accepted, but not
    yet acknowledged, is then written twice.
    """

    def __init__(self, config: dict[str, Any], topics: Collection[str], *, hooks: Hooks) -> None:
        """Connect, and fetch the metadata of the topics.

        Raises:
            NoSessionError: no broker accepted the client, or returned the metadata.
        """
        self._config = config
        self._hooks = hooks
        self._lines: dict[tuple[str, int | None], deque[_Written]] = {}
        """Records without a result, in order. No partition: the key determines it."""
        self._known: dict[str, Collection[int]] = {}
        self._held: deque[_Written] = deque()
        self._holding = threading.Lock()
        self._is_closing = threading.Event()
        self._replacing: threading.Thread | None = None
        self._numbers = count()
        self._refusals = FailureBackoff(log)
        producer = self._connect(_FOR_THE_LOOP)
        deadline = time.monotonic() + _CONNECT_S
        try:
            self._learn_all(producer, topics, deadline)
        except BaseException:
            producer.close(timeout=0)
            raise
        self._producer: KafkaProducer | None = producer

    def _connect(self, special: dict[str, Any]) -> KafkaProducer:
        with opening_session(self._config) as met:
            producer = KafkaProducer(**met | special)
        self._hooks.end_busy_loops(producer)
        return producer

    def _learn_all(self, producer: KafkaProducer, topics: Collection[str], deadline: float) -> None:
        """Ask for all topics at once: kafka-python asks the brokers at most ten times a second, for all topics needed by then."""
        with ThreadPoolExecutor(max(len(topics), 1), "topics of the producer") as threads:
            for learned in [threads.submit(self._learn, producer, topic, deadline) for topic in topics]:
                learned.result()

    def _learn(self, producer: KafkaProducer, topic: str, deadline: float) -> None:
        while True:
            try:
                self._known[topic] = _partitions(producer, topic)
            except UnavailableError as error:
                if time.monotonic() > deadline:
                    message = f"Kafka did not return the metadata of {topic} within {_CONNECT_S:.0f} s ({error})"
                    raise NoSessionError(message) from error
            else:
                return

    def partitions(self, topic: str) -> Collection[int]:
        producer = self._producer
        if producer is not None:
            self._known[topic] = _partitions(producer, topic)
        elif topic not in self._known:
            raise UnavailableError(f"the partitions of {topic} are unknown while the producer is replaced")
        return self._known[topic]

    def send(
        self,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        timestamp_ms: int | None,
    ) -> Pending:
        record = _Record(topic, partition, key, value, list(headers), timestamp_ms)
        with self._holding:
            if self._is_closing.is_set():
                raise UnavailableError("the producer is closed")
            producer = self._producer
            written = _Written(record, next(self._numbers))
            if producer is None:
                self._held.append(written)
        if producer is not None:
            written.future = record.write(producer)
        self._lines.setdefault((topic, partition), deque()).append(written)
        return written

    def serve(self) -> None:
        """Drop finished records, and replace the producer if a record was refused. kafka-python's thread does everything else."""
        failed: _Written | None = None
        for line in self._lines.values():
            while line and line[0].is_done:
                line.popleft()
            if line and line[0].is_in_doubt:
                failed = line[0]
        producer = self._producer
        if failed is None or producer is None or self._is_closing.is_set():
            return
        error = f"{type(failed.future.exception).__name__}: {failed.future.exception}"
        self._refusals.note("a record was refused; replacing the producer", topic=failed.record.topic, error=error)
        self._producer = None
        under_way = sorted((each for line in self._lines.values() for each in line), key=lambda written: written.number)
        self._replacing = threading.Thread(target=self._replace, args=(producer, under_way), name="replace producer", daemon=True)
        self._replacing.start()

    def _replace(self, former: KafkaProducer, under_way: Sequence[_Written]) -> None:
        """Determine the results of the former producer's records, and let another producer continue with those held back."""
        self._close_in_time(former)
        trouble = FailureBackoff(log)
        while not self._is_closing.is_set():
            try:
                self._judge([written for written in under_way if written.is_in_doubt])
                self._go_on(self._connect(_FOR_THE_LOOP))
            except Exception as error:  # noqa: BLE001 - whatever it is, records wait for a producer
                self._is_closing.wait(trouble.note("the producer cannot be replaced yet", error=repr(error)))
            else:
                return

    def _close_in_time(self, producer: KafkaProducer) -> None:
        """Close a producer when the results of all its records are known, or when this client is closed."""
        while not _closes(producer) and not self._is_closing.is_set():
            pass

    def _judge(self, in_doubt: Sequence[_Written]) -> None:
        """Write failed records one by one, in order, until the result of each is known."""
        if not in_doubt:
            return
        producer = self._connect(_ONE_BY_ONE)
        for written in in_doubt:
            written.write(producer, is_judged=True)
        self._close_in_time(producer)

    def _go_on(self, producer: KafkaProducer) -> None:
        """Write the records that were held back, and let the event loop write directly from then on."""
        deadline = time.monotonic() + _CONNECT_S
        for topic in list(self._known):
            with suppress(BrokerError):  # it may have been deleted; then writing to it fails
                self._learn(producer, topic, deadline)
        while True:
            with self._holding:
                if self._is_closing.is_set():
                    break
                for written in [self._held.popleft() for _ in range(min(_HELD_AT_ONCE, len(self._held)))]:
                    written.write(producer)
                if not self._held:
                    self._producer = producer
                    return
        _closes(producer)

    def position(self, pending: Pending) -> Position:
        written: Any = pending
        if written.error is not None:
            raise written.error
        if written.future is None or not written.future.is_done:
            raise UnavailableError("it is not acknowledged yet")
        if written.future.exception is not None:
            raise _why(written.record.topic, written.future.exception) from written.future.exception
        metadata = written.future.value
        return Position(metadata.topic, metadata.partition, metadata.offset, metadata.timestamp)

    def close(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        if self._replacing is not None:
            self._replacing.join(seconds)
        with self._holding:
            self._is_closing.set()
            producer, self._producer = self._producer, None
        # kafka-python aborts a close if it splits a batch in that time (a record was too large). The next attempt continues.
        while producer is not None and not _closes(producer):
            if time.monotonic() >= deadline:
                log.warning("the producer was closed with records that Kafka had not acknowledged")
                break
            time.sleep(_POLL_S)
        left = sorted((each for line in list(self._lines.values()) for each in tuple(line)), key=lambda written: written.number)
        with suppress(BrokerError):
            self._judge([written for written in left if written.is_in_doubt])
        for written in left:
            if written.future is None or written.is_in_doubt:
                written.error = UnavailableError("the producer was closed before the record could be written again")


def _closes(producer: KafkaProducer) -> bool:
    """Close a producer. False: some of its records have no result yet, so it is still open."""
    try:
        producer.close(timeout=_PART_S)
    except KafkaError:
        return False
    return True


def _partitions(producer: KafkaProducer, topic: str) -> Collection[int]:
    try:
        known: Collection[int] = producer.partitions_for(topic)
    except KafkaError as error:
        raise _why(topic, error) from error
    return known


def _why(topic: str, error: Exception) -> BrokerError:
    if _passes(error):
        return UnavailableError(f"{type(error).__name__}: {error}")
    return PublishError(f"Kafka does not accept a record for {topic}: {error}")


def _passes(error: Exception) -> bool:
    return isinstance(error, KafkaError) and isinstance(ours(error), UnavailableError)


def _is_refusal(error: Exception | None) -> bool:
    return error is not None and not _passes(error)
