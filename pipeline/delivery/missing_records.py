"""Records that this process or others found missing in Kafka: shown in ``/readyz`` and on the overview for a day.

`pipeline.broker.consumer` logs and counts them when it notices. They are kept here for people who look later, and are reported to
the processes that serve the dashboard, because those read no source topics.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from msgspec.structs import replace

from pipeline.broker.api import Position
from pipeline.broker.producer import Producer
from pipeline.broker.start_offset import MissingOffsets
from pipeline.core.counted import counted
from pipeline.ops.clock import Clock, utc_now
from pipeline.ops.logs import logger
from schemas.codec import to_json
from schemas.missing_records import MissingRecord

log = logger(__name__)

SHOWN: Final = timedelta(days=1)
"""How long missing records are shown after the last loss."""
_MAX_NAMED: Final = 5
"""How many partitions a warning names; the others are only counted."""

_Key = tuple[str, str, int, int]


class MissingRecords:
    """What is missing, by group, partition and first offset. Only :meth:`note` may be called outside the event loop's thread."""

    def __init__(self, producer: Producer, topic: str, clock: Clock = utc_now) -> None:
        """``topic`` is the topic through which other processes learn of it."""
        self._producer = producer
        self._topic = topic
        self._clock = clock
        self._lock = threading.Lock()
        self._found: dict[_Key, MissingRecord] = {}
        self._loop = asyncio.get_running_loop()

    def note(self, missing: MissingOffsets) -> None:
        """Note that records are missing for a consumer of this process, and report it to the others."""
        now = self._clock()
        with self._lock:
            found = self._joined(missing) or MissingRecord(
                group=missing.group,
                topic=missing.partition.topic,
                partition=missing.partition.number,
                first=missing.first_offset,
                until=missing.until,
                records=missing.records,
                since=now,
                at=now,
            )
            self._found[_key(found)] = found
        self._on_loop(self._report, found)

    def _joined(self, missing: MissingOffsets) -> MissingRecord | None:
        """The earlier loss, extended by a further one: a group that lags behind loses one log segment after another."""
        now = self._clock()
        for known in self._found.values():
            same = (known.group, known.topic, known.partition) == (missing.group, *missing.partition)
            if same and known.until <= missing.first_offset and now - known.at <= SHOWN:
                records = known.records + missing.records
                return replace(known, until=missing.until, records=records, at=max(now, known.at))
        return None

    def learn(self, report: MissingRecord) -> None:
        """Take over what a process, perhaps this one, has reported."""
        with self._lock:
            known = self._found.get(_key(report))
            if known is None or known.at <= report.at:
                self._found[_key(report)] = report

    def warning(self) -> str | None:
        """A sentence about the losses of the last day; None if there were none."""
        with self._lock:
            oldest = self._clock() - SHOWN
            self._found = {key: one for key, one in self._found.items() if one.at >= oldest}
            found = sorted(self._found.values(), key=lambda one: one.at, reverse=True)
        if not found:
            return None
        total = sum(one.records for one in found)
        named = "; ".join(_words(one) for one in found[:_MAX_NAMED])
        more = f"; and in {len(found) - _MAX_NAMED} more places" if len(found) > _MAX_NAMED else ""
        return (
            f"{counted(total, 'record was', 'records were')} removed from Kafka before being read: {named}{more}. Such records are not "
            "delivered or recorded. "
            'See the section "Records are missing" of the runbook. This warning disappears a day after the last loss.'
        )

    def _on_loop(self, call: Callable[[MissingRecord], None], found: MissingRecord) -> None:
        try:
            self._loop.call_soon_threadsafe(call, found)
        except RuntimeError:  # the loop is closed; the loss is in the log
            return

    def _report(self, found: MissingRecord) -> None:
        acknowledged = self._producer.send(self._topic, key=found.key, value=to_json(found))
        acknowledged.add_done_callback(_log_failure)


def _log_failure(sent: asyncio.Future[Position]) -> None:
    if not sent.cancelled() and (error := sent.exception()) is not None:
        log.warning("missing records could not be reported to other processes", error=str(error))


def _key(found: MissingRecord) -> _Key:
    return (found.group, found.topic, found.partition, found.first)


def _words(found: MissingRecord) -> str:
    return (
        f"{found.records:,} of {found.topic}, partition {found.partition}, offsets {found.first:,} to {found.until - 1:,}, "
        f"by group {found.group} since {found.since:%Y-%m-%d %H:%M:%S} UTC"
    )
