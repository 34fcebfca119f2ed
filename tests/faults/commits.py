"""Watches what groups commit: a committed offset that goes back is the commit of somebody who had lost the partition."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType

from tests.faults.kafka_view import KafkaView

_EVERY_S = 0.1


class CommitWatch:
    """Samples the commits while its block runs."""

    def __init__(self, kafka: KafkaView, groups: Sequence[str]) -> None:
        self.samples = 0
        self.steps_back: list[str] = []
        self.largest_step_back = 0
        """In records."""
        self._kafka = kafka
        self._groups = groups
        self._highest: dict[tuple[str, tuple[str, int]], int] = {}

    async def __aenter__(self) -> CommitWatch:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task.done():
            self._task.result()  # what ended it
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            for group in self._groups:
                for partition, committed in (await asyncio.to_thread(self._kafka.committed, group)).items():
                    highest = self._highest.get((group, partition), 0)
                    if committed.offset < highest:
                        self.steps_back.append(f"{group} {partition}: from {highest} to {committed.offset}")
                        self.largest_step_back = max(self.largest_step_back, highest - committed.offset)
                    self._highest[group, partition] = max(highest, committed.offset)
            self.samples += 1
            await asyncio.sleep(_EVERY_S)
