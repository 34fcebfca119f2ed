"""A reader outside of any group, with librdkafka."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from operator import methodcaller
from typing import Final

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.broker.api import Fetched, OffsetRange, Partition
from pipeline.broker.errors import BrokerError, OutOfRangeError, UnavailableError
from pipeline.broker.librdkafka.config import QUEUE_BYTES, reader_config
from pipeline.broker.librdkafka.errors import GROUP_ERRORS, OUT_OF_RANGE, PARTITION_END, ours, translated
from pipeline.broker.librdkafka.library_log import with_error_log
from pipeline.broker.librdkafka.session import close_within, open_session, require_brokers
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings

log = logger(__name__)

_READ_S: Final = 5.0
_CLOSE_S: Final = 3.0
_AT_ONCE: Final = 1_000
_LONGEST_S: Final = 0.1
_WAKE_S: Final = 0.001
_TOLD_AFTER_S: Final = 1.0
"""How long errors of some partitions may wait for a poll without records of others."""
_LEADERS_S: Final = 0.5
"""How long the brokers may take to name the leaders of new partitions."""


_read_headers: Final[Callable[[Message], Sequence[tuple[str, bytes]] | None]] = methodcaller("headers")
"""Called from C: for a name that is not UTF-8, confluent-kafka's method returns a value and leaves an exception behind. A caller in C
turns it into a SystemError; one in Python may not notice, and then any later call fails.
"""


class _Record:
    """A fetched record. librdkafka's own class has methods instead of attributes."""

    __slots__ = ("headers", "key", "offset", "timestamp", "topic", "value")

    def __init__(self, topic: str, offset: int, message: Message) -> None:
        self.topic = topic
        self.offset = offset
        self.timestamp = message.timestamp()[1]
        self.key = message.key()
        self.value = message.value()
        self.headers = _headers(message)


def _headers(message: Message) -> Sequence[tuple[str, bytes]]:
    """The headers; none if one has a name that is not UTF-8. Kafka's protocol forbids such names, but brokers accept them."""
    try:
        return _read_headers(message) or ()
    except (UnicodeDecodeError, SystemError):
        log.warning(
            "the headers of a record cannot be read, because a name is not UTF-8",
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
        )
        return ()


class LibrdkafkaFetchClient:
    """See `pipeline.broker.api.FetchClient`.

    librdkafka fetches ahead in its own threads, up to a few megabytes; a poll takes everything that has arrived. To seek, a
    partition is unassigned and assigned again at the new position, because librdkafka's ``seek`` fails while a partition is being
    started.

    There is one fetch at a time from each broker, and the broker may hold it. A new partition waits for this fetch and for the
    next one (a second in total, as measured). So if partitions are added, the consumer is replaced. In addition, the thread of a
    broker with nothing to fetch sleeps for up to a second, and is not woken when a partition is resumed. So a request is sent to
    the broker.
    """

    def __init__(self, settings: Settings, *, partition_bytes: int, read_committed: bool) -> None:
        """Connect.

        Raises:
            NoSessionError: no broker accepted the client.
        """
        errors: list[KafkaError] = []
        is_open = threading.Event()

        def collect(error: KafkaError) -> None:
            # Later errors are not needed, and while the brokers are unavailable there are twenty per second.
            if not is_open.is_set():
                errors.append(error)

        self._positions: dict[Partition, int] = {}
        self._paused: frozenset[Partition] = frozenset()
        self._outside: set[Partition] = set()
        """Positions that are not in the log. librdkafka reports each once, and stops fetching there; we report it until a seek."""
        self._failure: BrokerError | None = None
        self._raised_at = time.monotonic()
        """When it was last certain that no error waits to be raised."""
        require_brokers(settings)
        config = reader_config(settings, partition_bytes=partition_bytes, read_committed=read_committed)
        self._config = config | {"error_cb": with_error_log(collect)}
        self._consumer = Consumer(self._config)
        try:
            open_session(self._consumer, settings, errors)
        except BaseException:
            close_within(self._consumer.close, _CLOSE_S, "reader")
            raise
        is_open.set()

    def assign(self, positions: Mapping[Partition, int]) -> None:
        gone = self._positions.keys() - positions.keys()
        added = {partition: offset for partition, offset in positions.items() if partition not in self._positions}
        self._give_up(gone)
        if added and self._positions:
            self._replace_consumer(self._positions | added)
        else:
            self._begin(added)

    def _replace_consumer(self, positions: Mapping[Partition, int]) -> None:
        """Continue with another consumer. Records that this one fetched ahead are fetched again."""
        former, paused = self._consumer, self._paused
        self._consumer = Consumer(self._config)
        threading.Thread(
            target=close_within, args=(former.close, _CLOSE_S, "former reader"), name="close reader", daemon=True
        ).start()
        self._positions, self._paused = {}, frozenset()
        self._outside.clear()
        self._begin(positions)
        self.pause(paused)

    def _give_up(self, partitions: Collection[Partition]) -> None:
        if not partitions:
            return
        with translated():
            self._consumer.incremental_unassign([TopicPartition(*partition) for partition in partitions])
        for partition in partitions:
            del self._positions[partition]
        self._paused -= frozenset(partitions)
        self._outside -= set(partitions)

    def _begin(self, positions: Mapping[Partition, int]) -> None:
        if not positions:
            return
        partitions = [TopicPartition(*partition) for partition in positions]
        with translated():
            self._consumer.incremental_assign([TopicPartition(*partition, offset) for partition, offset in positions.items()])
            # Otherwise the first fetch would be for partitions whose leaders are known first, and the others would wait for it.
            if len(positions) > 1:
                self._consumer.pause(partitions)
                self._ask_brokers_of(positions, _LEADERS_S)
            # librdkafka remembers that a partition was paused when it was released.
            self._consumer.resume(partitions)
        if len(positions) > 1:
            self._ask_brokers_of(positions, _WAKE_S)
        self._positions |= positions

    def seek(self, partition: Partition, offset: int) -> None:
        if partition not in self._positions:
            return
        if self._positions[partition] == offset and partition not in self._outside:
            return  # the records that were fetched ahead start there
        is_paused = partition in self._paused
        self._give_up([partition])
        self._begin({partition: offset})
        if is_paused:
            self.pause(self._paused | {partition})

    def pause(self, partitions: Collection[Partition]) -> None:
        wanted = frozenset(partitions) & self._positions.keys()
        with translated():
            if added := wanted - self._paused:
                self._consumer.pause([TopicPartition(*partition) for partition in added])
            if gone := self._paused - wanted:
                self._consumer.resume([TopicPartition(*partition) for partition in gone])
                self._ask_brokers_of(gone, _WAKE_S)
        self._paused = wanted

    def _ask_brokers_of(self, partitions: Collection[Partition], seconds: float) -> None:
        """Send a request to the leader of each partition, which wakes the fetching threads. Wait up to ``seconds`` for answers."""
        with suppress(KafkaException):
            self._consumer.offsets_for_times(
                [TopicPartition(*partition, OFFSET_END) for partition in partitions], timeout=seconds
            )

    @property
    def longest_poll(self) -> float:
        return _LONGEST_S

    def allow_long_polls(self) -> None:
        """No effect."""

    def idle(self) -> None:
        """Read errors, which librdkafka otherwise accumulates: twenty per second while brokers are unavailable, 1.3 GB a day."""
        with translated():
            messages = self._consumer.consume(_AT_ONCE, 0)
        for message in messages:
            if message.error() is not None:
                self._take(message, {})
            else:
                self._fetch_again(message)

    def _fetch_again(self, message: Message) -> None:
        """A record of a paused partition had already arrived: seek, so that the next poll returns it."""
        topic, number, offset = message.topic(), message.partition(), message.offset()
        partition = Partition(topic or "", -1 if number is None else number)
        position = self._positions.get(partition)
        if position is not None and offset is not None and offset >= position and partition not in self._outside:
            self._outside.add(partition)  # so that it is not mistaken for a record that was read
            self.seek(partition, position)

    def wake(self) -> None:
        """No effect: librdkafka's poll cannot be ended, but it is short."""

    def poll(self, seconds: float) -> Mapping[Partition, Sequence[Fetched]]:
        if not self._outside and self._failure is None:
            self._raised_at = time.monotonic()
        elif time.monotonic() - self._raised_at > _TOLD_AFTER_S:
            self._raise()
        fetched: dict[Partition, list[Fetched]] = {}
        size = 0
        with translated():
            message = self._consumer.poll(max(seconds, 0.0))
            batch = [] if message is None else [message]
            while batch:
                for each in batch:
                    size += self._take(each, fetched)
                if size >= QUEUE_BYTES:
                    break
                batch = self._consumer.consume(_AT_ONCE, 0)
        if not fetched:
            self._raise()
        return fetched

    def _take(self, message: Message, fetched: dict[Partition, list[Fetched]]) -> int:
        """Keep a record, or note an event. Returns the size of the record in bytes."""
        error = message.error()
        topic, number, offset = message.topic(), message.partition(), message.offset()
        if topic is None or number is None or offset is None:
            if error is not None:
                self._note(error)
            return 0
        partition = Partition(topic, number)
        position = self._positions.get(partition)
        if position is None:
            return 0
        if error is None:
            if offset < position:
                return 0
            self._positions[partition] = offset + 1
            fetched.setdefault(partition, []).append(_Record(topic, offset, message))
            return len(message)
        if error.code() == PARTITION_END:
            self._positions[partition] = max(position, offset)
        elif error.code() in OUT_OF_RANGE:
            self._outside.add(partition)
        else:
            self._note(error)
        return 0

    def _note(self, error: KafkaError) -> None:
        if error.code() not in GROUP_ERRORS:
            self._failure = ours(error)

    def _raise(self) -> None:
        self._raised_at = time.monotonic()
        if self._outside:
            raise OutOfRangeError(self._outside)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def end(self, partition: Partition) -> int | None:
        try:
            _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
        except KafkaException:
            return None  # not known
        return high if high >= 0 else None

    def position(self, partition: Partition) -> int | None:
        return self._positions.get(partition)

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, OffsetRange]:
        return bounds(self._consumer, partitions)

    def close(self) -> None:
        close_within(self._consumer.close, _CLOSE_S, "reader")


def bounds(consumer: Consumer, partitions: Collection[Partition]) -> dict[Partition, OffsetRange]:
    """The first and the end offsets of partitions, according to the brokers.

    Raises:
        UnavailableError: no answer.
    """
    found: dict[Partition, OffsetRange] = {}
    for partition in partitions:
        with translated():
            answer = consumer.get_watermark_offsets(TopicPartition(*partition), timeout=_READ_S)
        if answer is None:
            raise UnavailableError(f"no broker reported the bounds of {partition} within {_READ_S:g} s")
        found[partition] = OffsetRange(*answer)
    return found
