"""A writer, with librdkafka."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipeline.broker.api import Pending, Position
from pipeline.broker.errors import BrokerError, NoSessionError, PublishError, UnavailableError
from pipeline.broker.librdkafka.config import producer_config
from pipeline.broker.librdkafka.errors import UNKNOWN_PARTITION, error_of, is_fatal, ours, translated
from pipeline.broker.librdkafka.library_log import with_error_log
from pipeline.broker.librdkafka.session import close_within, open_session, require_brokers
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings

log = logger(__name__)

_CONNECT_S: Final = 10.0
_ASK_S: Final = 5.0
_CLOSE_S: Final = 3.0
_ANY_PARTITION: Final = -1
_ALONE: Final = {"batch_num_messages": 1, "enable_idempotence": False, "max_in_flight_requests_per_connection": 1}


class _Record(NamedTuple):
    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]]
    timestamp_ms: int | None


class _Written:
    """A record that was passed to a producer."""

    __slots__ = ("_doubts", "error", "is_alone", "position", "record")

    def __init__(self, record: _Record, doubts: list[_Written]) -> None:
        """``doubts``: the list to which the record adds itself when it is in doubt."""
        self.record = record
        self._doubts = doubts
        self.is_alone = False
        """Whether it was written alone in a batch, so that a refusal is about this record."""
        self.position: Position | None = None
        self.error: KafkaError | None = None

    @property
    def is_done(self) -> bool:
        return self.position is not None or (self.error is not None and not self.is_in_doubt)

    @property
    def is_in_doubt(self) -> bool:
        """The brokers refused its batch; another record may be the reason."""
        error = self.error
        if error is None or self.is_alone or error.code() <= 0:  # the library's own codes are below 0
            return False
        return isinstance(_why(self.record.topic, error), PublishError)

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        """Called inside the producer's ``poll``, so on the event loop."""
        if error is not None:
            self.error = error
            if self.is_in_doubt:
                self._doubts.append(self)
            return
        self.position = Position(self.record.topic, message.partition() or 0, message.offset() or 0, message.timestamp()[1])

    def write(self, producer: Producer) -> None:
        """Pass the record to a producer. Raises the producer's errors."""
        topic, partition, key, value, headers, timestamp_ms = self.record
        producer.produce(
            topic,
            value,
            key,
            _ANY_PARTITION if partition is None else partition,
            on_delivery=self.delivered,
            timestamp=timestamp_ms or 0,
            headers=headers,
        )


class LibrdkafkaProducerClient:
    """See `pipeline.broker.api.ProducerClient`. Deliveries are reported inside :meth:`serve`.

    librdkafka abandons a producer whose idempotence cannot be kept (a "fatal" error). It is replaced, and its unacknowledged
    records fail, so that they are sent again.

    The brokers refuse whole batches. So each record of a refused batch is written again, alone. The accepted ones then come after
    records that were sent later.
    """

    def __init__(self, settings: Settings, topics: Collection[str]) -> None:
        """Connect, and fetch the metadata of the topics.

        Raises:
            NoSessionError: no broker accepted the client, or returned the metadata.
        """
        self._settings = settings
        self._errors: list[KafkaError] = []
        require_brokers(settings)
        self._producer = self._connect()
        self._former: list[Producer] = []
        self._alone: Producer | None = None
        """Writes each record in a separate batch; None until a batch was refused."""
        self._doubts: list[_Written] = []
        self._numbers: dict[str, tuple[float, Collection[int]]] = {}
        self._refused: dict[str, BrokerError] = {}
        self._asking: set[str] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        try:
            open_session(self._producer, settings, self._errors)
            deadline = time.monotonic() + _CONNECT_S
            for topic in topics:
                self._learn(topic, deadline)
        except BaseException:
            close_within(self._producer.close, _CLOSE_S, "producer")
            raise
        self._errors.clear()

    def _connect(self, **special: object) -> Producer:
        callbacks = {"error_cb": with_error_log(self._errors.append)}
        return Producer(
            producer_config(self._settings) | callbacks | {name.replace("_", "."): value for name, value in special.items()}
        )

    def _learn(self, topic: str, deadline: float) -> None:
        while True:
            try:
                self._ask(topic, max(deadline - time.monotonic(), 0.1))
            except UnavailableError as error:
                if time.monotonic() > deadline:
                    message = f"Kafka did not return the metadata of {topic} within {_CONNECT_S:.0f} s ({error})"
                    raise NoSessionError(message) from error
                time.sleep(0.1)
            else:
                return

    def _ask(self, topic: str, seconds: float) -> None:
        """Ask the brokers for a topic's partitions. Blocks."""
        with translated():
            found = self._producer.list_topics(topic, timeout=seconds).topics[topic]
        if found.error is not None:
            raise _why(topic, found.error)
        if not found.partitions:
            raise UnavailableError(f"the partitions of {topic} are unknown")
        with self._lock:
            self._numbers[topic] = (time.monotonic(), tuple(found.partitions))
            self._refused.pop(topic, None)

    def partitions(self, topic: str) -> Collection[int]:
        with self._lock:
            known_at, known = self._numbers.get(topic, (0.0, ()))
            refused = self._refused.get(topic)
            is_old = (time.monotonic() - known_at) * 1000 > self._settings.kafka_metadata_max_age_ms
            must_ask = (is_old or not known) and topic not in self._asking
            if must_ask:
                self._asking.add(topic)
        if must_ask:  # in a thread, because it blocks
            threading.Thread(target=self._ask_again, args=(topic,), name=f"partitions of {topic}", daemon=True).start()
        if known:
            return known
        raise refused or UnavailableError(f"the partitions of {topic} are not known yet")

    def _ask_again(self, topic: str) -> None:
        try:
            self._ask(topic, _ASK_S)
        except BrokerError as error:
            with self._lock:
                self._refused[topic] = error
        finally:
            with self._lock:
                self._asking.discard(topic)

    def send(
        self,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        timestamp_ms: int | None,
    ) -> Pending:
        written = _Written(_Record(topic, partition, key, value, list(headers), timestamp_ms), self._doubts)
        try:
            written.write(self._producer)
        except BufferError as error:
            raise UnavailableError(f"too many records are not acknowledged yet: {error}") from error
        except KafkaException as exception:
            raise self._not_taken(topic, error_of(exception)) from exception
        except Exception as error:  # raised by the library's checks, which would raise it again
            raise PublishError(f"Kafka does not accept a record for {topic}: {error}") from error
        return written

    def _not_taken(self, topic: str, error: KafkaError) -> BrokerError:
        if is_fatal(error):
            self._replace_producer(error)
            return UnavailableError(f"the producer is replaced: {error.str()}")
        if error.code() == UNKNOWN_PARTITION:
            return PublishError(f"Kafka does not accept a record for {topic}: {error.str()}")
        return _why(topic, error)

    def _replace_producer(self, error: KafkaError) -> None:
        log.warning("the producer cannot continue; replacing it", error=f"{error.name()}: {error.str()}")
        self._producer.purge(blocking=False)
        self._former.append(self._producer)
        self._producer = self._connect()

    def serve(self) -> None:
        if self._is_closed:
            return
        for former in list(self._former):
            former.poll(0)
            if not len(former):
                self._former.remove(former)
                threading.Thread(target=former.close, name="close producer", daemon=True).start()
        self._errors.clear()  # what a former producer says, perhaps only now, is no reason to replace its successor
        self._producer.poll(0)
        self._judge()
        if self._alone is not None:
            self._alone.poll(0)
        fatal = next((error for error in self._errors if error.fatal()), None)
        self._errors.clear()
        if fatal is not None:
            self._replace_producer(fatal)

    def _judge(self) -> None:
        """Write the records of refused batches again, each alone."""
        while self._doubts:
            if self._alone is None:
                self._alone = self._connect(**_ALONE)
            written = self._doubts[0]
            try:
                written.write(self._alone)
            except BufferError:
                return  # later
            except KafkaException as exception:
                written.error = error_of(exception)
            else:
                written.error = None
            written.is_alone = True
            self._doubts.pop(0)

    def position(self, pending: Pending) -> Position:
        assert isinstance(pending, _Written)  # noqa: S101 - created above
        if pending.position is not None:
            return pending.position
        if pending.error is None:
            raise UnavailableError("it is not acknowledged yet")
        raise _why(pending.record.topic, pending.error)

    def close(self, seconds: float) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        deadline = time.monotonic() + seconds
        left = self._producer.flush(seconds)
        self._judge()
        if self._alone is not None:
            left += self._alone.flush(max(deadline - time.monotonic(), 0.0))
        producers = [self._producer, *([self._alone] if self._alone is not None else [])]
        if left:
            log.warning("the producer was closed with records that Kafka had not acknowledged", records=left)
            for each in producers:
                each.purge()
                each.flush(1)
        for each in (*producers, *self._former):
            close_within(each.close, _CLOSE_S, "producer")


def _why(topic: str, error: KafkaError) -> BrokerError:
    known = ours(error)
    if isinstance(known, UnavailableError) or error.fatal():
        return UnavailableError(str(known))
    return PublishError(f"Kafka does not accept a record for {topic}: {known}")
