"""Tells the other processes to which rate-limited endpoints this one sends, and learns the same from them: see `core.rate_shares`.

While this process sends to no such endpoint, it writes nothing. If Kafka is unavailable, each process keeps its current share.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterable
from uuid import uuid4

from pipeline.broker.api import Broker, Position, Record
from pipeline.broker.errors import PublishError
from pipeline.broker.producer import Producer
from pipeline.broker.table import CompactedTable
from pipeline.core.rate_shares import ANNOUNCE_SECONDS, RateShares
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from schemas.codec import InvalidRecordError, from_json, to_json
from schemas.rate_share import RateShareRecord

log = logger(__name__)


class RateShareExchange:
    """One per process that delivers. Used from the event loop only."""

    def __init__(
        self, broker: Broker, topic: str, producer: Producer, *, clock: Callable[[], float] = time.monotonic, process: str = ""
    ) -> None:
        """``clock``: monotonic seconds."""
        self.table = CompactedTable(broker, topic, self.apply)
        self._topic = topic
        self._producer = producer
        self._clock = clock
        self._shares = RateShares(process or uuid4().hex)
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: asyncio.Future[Position] | None = None
        self._is_closed = False

    def share(self, endpoint_id: int) -> float:
        """The share of the endpoint's rate that this process may use now, 0 to 1."""
        share = self._shares.share(endpoint_id, self._clock())
        if self._shares.must_announce(endpoint_id):
            self._announce()
        return share

    def apply(self, records: Iterable[Record]) -> None:
        """Apply records of the topic, in its order."""
        now = self._clock()
        for record in records:
            try:
                announcement = from_json(record.value or b"", RateShareRecord)
            except InvalidRecordError as error:
                metrics.TABLE_ERRORS.inc()
                log.warning("a rate share record cannot be used", topic=self._topic, offset=record.offset, error=str(error))
                continue
            self._shares.receive(announcement.process, announcement.endpoint_ids, now)

    async def close(self) -> None:
        """Release this process's shares, so that the others do not have to wait until they expire."""
        is_known, self._is_closed = self._under_way is not None, True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if is_known:
            try:
                await asyncio.wait_for(self._send(()), 2.0)
            except (PublishError, TimeoutError) as error:
                log.info("this process's rate shares could not be released; they expire in a few seconds", error=str(error))

    def _announce(self) -> None:
        """Report now, then regularly until there is nothing to report. At most one record is unacknowledged at a time."""
        if self._is_closed or (self._under_way is not None and not self._under_way.done()):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        endpoint_ids = self._shares.announce(self._clock())
        self._under_way = self._send(endpoint_ids)
        self._under_way.add_done_callback(functools.partial(self._on_acknowledged, bool(endpoint_ids)))

    def _send(self, endpoint_ids: tuple[int, ...]) -> asyncio.Future[Position]:
        record = RateShareRecord(process=self._shares.process, endpoint_ids=endpoint_ids)
        return self._producer.send(self._topic, key=record.process.encode(), value=to_json(record))

    def _on_acknowledged(self, continues: bool, acknowledged: asyncio.Future[Position]) -> None:
        if acknowledged.cancelled() or self._is_closed:
            return
        if (error := acknowledged.exception()) is not None:
            log.warning("this process's rate shares could not be reported to other processes", error=str(error))
        if continues:
            self._timer = asyncio.get_running_loop().call_later(ANNOUNCE_SECONDS, self._announce)
