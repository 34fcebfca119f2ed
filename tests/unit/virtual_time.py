"""An event loop whose time jumps to the next event: minutes are over at once, and a busy machine changes nothing."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any
from unittest.mock import patch


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: the time is that of the next event."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found and timeout:
            self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """For tasks that wait for each other and for the time; a task that waits for a thread or another process waits for ever."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the seconds since the loop was created."""
        return self._jumping.now

    def freeze(self, seconds: float) -> None:
        """Let time pass without running anything, as in a process that is suspended."""
        self._jumping.now += seconds


def in_virtual_time(*clocks: str) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Run a test on such a loop. ``clocks`` are functions of the product that tell its time, such as ``"module.monotonic"``."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(*args: Any, **kwargs: Any) -> None:
            with asyncio.Runner(loop_factory=VirtualLoop) as runner:
                patches = [patch(clock, runner.get_loop().time) for clock in clocks]
                for each in patches:
                    each.start()
                try:
                    runner.run(test(*args, **kwargs))
                finally:
                    for each in patches:
                        each.stop()

        return run

    return decorate
