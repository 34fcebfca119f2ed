"""Reports the records that a consumer misses: in the log, in a metric, and to whoever keeps them for people who look later."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pipeline.broker.api import Partition
from pipeline.broker.start_offset import MissingOffsets
from pipeline.ops import metrics
from pipeline.ops.logs import logger

log = logger(__name__)


class MissingReports:
    """Those of one consumer. :meth:`note` is called on its threads."""

    def __init__(self, on_missing: Callable[[MissingOffsets], None] | None = None) -> None:
        self.on_missing = on_missing
        """Called on the threads of the consumer."""
        self._until: dict[Partition, int] = {}
        """The offset below which missing records were already reported."""
        self.replaced_until: dict[Partition, int] = {}
        """The end of the latest records that took the place of lost ones."""
        self._lock = threading.Lock()

    def note(self, found: MissingOffsets) -> None:
        """Report each record once: if the commit that would pass it fails, it is found missing again."""
        with self._lock:
            missing = found.beyond(self._until.get(found.partition, 0))
            if missing is None:
                return
            self._until[missing.partition] = missing.until
            if missing.are_replaced:
                self.replaced_until[missing.partition] = missing.until
        topic, number = missing.partition
        metrics.RECORDS_MISSING.labels(missing.group, topic).inc(missing.records)
        log.error(
            "records are at offsets that were already read"
            if missing.are_replaced
            else "records were removed before they were read",
            group=missing.group,
            topic=topic,
            partition=number,
            first_offset=missing.first_offset,
            last_offset=missing.until - 1,
            records=missing.records,
            detail=str(missing),
        )
        if self.on_missing is not None:
            self.on_missing(missing)
