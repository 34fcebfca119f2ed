"""When a process looks for garbage."""

from __future__ import annotations

import asyncio
import gc
import sys

from pipeline.ops.file_descriptors import open_descriptors

_MUCH_GARBAGE = 100
"""Objects; a connection of kafka-python that fails leaves about 45."""
_MANY_DESCRIPTORS = 50
"""If there are so many more descriptors than after the last full collection, another full one is made."""


def keep_what_was_built() -> None:
    """What was built at the start lives as long as the process: the garbage collector need not walk through all of it again and again."""
    gc.collect()
    gc.freeze()


def favour_the_event_loop() -> None:
    """Give CPU time to deliveries.

    They leave no cycles behind, whether they succeed, fail or time out (nor does Kafka's client, see `pipeline.broker.kafka.compat`): the
    garbage collector need not look at them. Each time it does, it stops everything for 30 to 100 ms.

    Kafka's threads get the interpreter after 3 ms at the latest. They need it several times to hand a record over; with 20 ms each, deliveries
    waited for 20 to 40 ms whenever the loop was busy (tests/bench/isolation.py). With 1 ms, a delivery costs a tenth more CPU (tests/bench/path.py).
    """
    gc.set_threshold(200_000, 10, 20)
    sys.setswitchinterval(0.003)


async def close_forgotten_sockets(every: float = 10.0) -> None:
    """Look for garbage every so many seconds, until cancelled.

    kafka-python (3.0) leaves the socket of a connection that failed in a cycle of an exception and its frames. Only the garbage collector closes
    it. While a broker is away, a fan-out tries three or four times a second. That makes too few objects to start the collector before the file
    descriptors run out. In other roles it starts more often, but still too late: a recorder lost a thousand descriptors an hour.

    The young generations are small: to collect them takes about a millisecond. A full collection follows only if they held much garbage, or if
    there are many more descriptors than before: a connection that was old when it failed is in the oldest generation.
    """
    known = open_descriptors()
    while True:
        await asyncio.sleep(every)
        is_needed = gc.collect(1) > _MUCH_GARBAGE
        known = min(known, found := open_descriptors())
        if is_needed or found > known + _MANY_DESCRIPTORS:
            gc.collect()
            known = open_descriptors()
