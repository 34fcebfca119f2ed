"""What every step of a start uses: the settings, the health checks, and the stack of what is stopped at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from consumers.grants import Grantee, used_topics
from consumers.role import DELIVERING, Role
from pipeline.ops.dependency_probes import Probes
from pipeline.ops.file_descriptors import DescriptorBudget, descriptor_limit
from pipeline.ops.health import Health
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class StartContext:
    """One per process. The ``stack`` stops the parts in the reverse order of their start."""

    settings: Settings
    roles: frozenset[Role]
    stack: AsyncExitStack
    health: Health
    probes: Probes
    descriptors: DescriptorBudget
    ends_when_refused: bool
    """Whether a problem that waiting cannot fix ends the start."""

    def topics(self) -> tuple[frozenset[str], frozenset[str]]:
        """The topics that this process reads, and those that it writes to."""
        return used_topics((Grantee(role.value) for role in self.roles), self.settings.topics)

    def in_background(self, work: Coroutine[Any, Any, None], part: str) -> None:
        """Run work that nothing waits for. If it fails, the log says so."""

        def ended(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                log.error("a background task has failed", part=part, exc_info=error)

        task = asyncio.create_task(work)
        task.add_done_callback(ended)
        self.stack.callback(task.cancel)


def start_context(settings: Settings, roles: frozenset[Role], stack: AsyncExitStack, *, ends_when_refused: bool) -> StartContext:
    """The context of a process that starts now."""
    budget = DescriptorBudget(descriptor_limit(), settings.max_in_flight if roles & DELIVERING else 0)
    context = StartContext(settings, roles, stack, Health(starting=True), Probes(), budget, ends_when_refused)
    if problem := budget.problem():
        log.warning("there are too few file descriptors", problem=problem)
    context.health.warn("descriptors", budget.problem)
    return context
