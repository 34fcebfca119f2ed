"""Writes deliveries that are made in order to ``webhooks.ordered``: for each record key, one event after another.

A record that Kafka does not acknowledge in time is sent again, and others may overtake it meanwhile. So the next event with a key
is written only after Kafka has acknowledged the previous one. Other keys do not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pipeline.broker.producer import Producer
from schemas.codec import to_header
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord
from schemas.event_key import record_key
from schemas.lane_progress import lane_key


class OrderedPublisher:
    """One per role that writes there. Used from the event loop only."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._last: dict[str, asyncio.Task[None]] = {}
        """The last write of each record key, while it is in progress."""

    def write(self, records: Sequence[DeliveryRecord], body: bytes) -> asyncio.Task[None]:
        """Write one event's deliveries after all earlier ones with the same record key. The task is done when Kafka has them.

        The event must have a key. A caller that stops waiting cancels the task; then later writes with the key fail too.
        """
        key = record_key(records[0].event.key or "")
        task = asyncio.create_task(self._write(self._last.get(key), key, records, body))
        self._last[key] = task

        def ended(done: asyncio.Task[None]) -> None:
            if self._last.get(key) is done:
                del self._last[key]

        task.add_done_callback(ended)
        return task

    async def _write(self, before: asyncio.Task[None] | None, key: str, records: Sequence[DeliveryRecord], body: bytes) -> None:
        if before is not None:
            await asyncio.wait([before])
            before.result()  # raises: nothing may overtake an event that could not be written
            del before
        written = []
        for record in records:
            await self._producer.room(len(body))
            headers = [to_header(DELIVERY_HEADER, record)]
            lane = lane_key(record.endpoint_id, key)
            written.append(self._producer.send(self._topic, key=lane, value=body, headers=headers))
        await asyncio.gather(*written)
