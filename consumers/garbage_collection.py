"""Tunes the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import time
from collections.abc import Callable

from pipeline.ops.file_descriptors import open_descriptors

_SOME_DESCRIPTORS = 10
"""If this many more descriptors are open than after the last collection, the young generations are collected."""
_MUCH_GARBAGE = 100
"""Objects; a connection of kafka-python that fails leaves about 45."""
_MANY_DESCRIPTORS = 50
"""If this many more descriptors are open than after the last full collection, everything is collected, at most once a minute."""
_FULL_APART_S = 60.0


def freeze_startup_objects() -> None:
    """Exclude the current objects from all further collections: they live as long as the process."""
    gc.collect()
    gc.freeze()


def tune_for_event_loop() -> None:
    """Give CPU time to deliveries.

    Deliveries leave no reference cycles behind, whether they succeed, fail or time out (nor does Kafka's client, see
    `pipeline.broker.kafka.compat`). So the garbage collector need not examine them; each run would stop everything for 30 to
    100 ms.

    Kafka's threads get the interpreter after at most 3 ms. They need it several times to hand a record over; with 20 ms each,
    deliveries waited for 20 to 40 ms whenever the loop was busy (tests/bench/isolation.py). With 1 ms, a delivery costs a tenth
    more CPU (tests/bench/path.py).
    """
    gc.set_threshold(200_000, 10, 20)
    sys.setswitchinterval(0.003)


async def close_forgotten_sockets(
    in_use: Callable[[], int] = lambda: 0, *, every: float = 10.0, full_apart: float = _FULL_APART_S
) -> None:
    """Collect garbage when the number of open file descriptors has risen. Checks it ``every`` seconds until cancelled.

    ``in_use``: how many descriptors are connections to endpoints. They come and go, and none is forgotten, so they do not count.

    kafka-python (3.0) leaves the socket of a failed connection in a cycle of an exception and its frames. Only the garbage
    collector closes it. While a broker is down, a fan-out tries three or four times a second. That creates too few objects to
    start the collector before the file descriptors run out. In other roles it starts more often, but still too late: a recorder
    lost a thousand descriptors an hour.

    At full load, collecting the young generations stops all deliveries for 10 to 70 ms, so it is done only after the number of
    descriptors has risen. A full collection follows only if they contained much garbage, or if there are many more descriptors
    than before: a connection that was old when it failed is in the oldest generation. The latter happens at most every
    ``full_apart`` seconds, because other connections come and go, too.
    """

    def others() -> int:
        return open_descriptors() - in_use()

    after_any = after_full = others()
    full_at = -math.inf
    while True:
        await asyncio.sleep(every)
        found = others()
        after_any, after_full = min(after_any, found), min(after_full, found)
        if found <= after_any + _SOME_DESCRIPTORS:
            continue
        is_due = found > after_full + _MANY_DESCRIPTORS and time.monotonic() - full_at >= full_apart
        if is_due or gc.collect(1) > _MUCH_GARBAGE:
            gc.collect()
            full_at, after_full = time.monotonic(), others()
        after_any = others()
