"""Waiting for the effects of other tasks, threads and processes. Waiting for a fixed time instead is slow, or fails on a busy
machine.

In virtual time (``tests/unit/virtual_time.py``), ``until`` takes no real time either.
"""

from __future__ import annotations

import asyncio
import inspect
import textwrap
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar, overload

T = TypeVar("T")

Problem: TypeAlias = str | Callable[[], object]

PATIENCE_S = 90.0
"""Long enough for a busy machine; usually, it takes far less."""


@overload
async def until(look: Callable[[], Awaitable[T]], problem: Problem = "", *, seconds: float = PATIENCE_S) -> T: ...


@overload
async def until(look: Callable[[], T], problem: Problem = "", *, seconds: float = PATIENCE_S) -> T: ...


async def until(look: Callable[[], Any], problem: Problem = "", *, seconds: float = PATIENCE_S) -> Any:
    """Call ``look`` again and again until its result is true in Python's sense, and return that.

    If it never is, ``problem`` is the message: what is wrong, or a function that finds out. Otherwise, the message quotes
    ``look``.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    while True:
        seen = look()
        if isinstance(seen, Awaitable):
            seen = await seen
        if seen:
            return seen
        waited = clock() - began
        assert waited < seconds, _message(look, problem, seconds, seen)
        await asyncio.sleep(_pause(waited))


def wait_until(look: Callable[[], T], problem: Problem = "", *, seconds: float = PATIENCE_S) -> T:
    """``until`` for a test without an event loop."""
    began = time.monotonic()
    while True:
        seen = look()
        if seen:
            return seen
        waited = time.monotonic() - began
        assert waited < seconds, _message(look, problem, seconds, seen)
        time.sleep(_pause(waited))


def _pause(waited: float) -> float:
    """Look often at first, so that quick effects are seen at once; later less often, to leave the CPU to slow ones."""
    return min(max(0.001, waited / 10), 0.05)


def _message(look: Callable[[], object], problem: Problem, seconds: float, seen: object) -> str:
    said = problem() if callable(problem) else problem
    return f"{said or _quoted(look)}\nnot after {seconds:g} s: {seen!r}"


def _quoted(look: Callable[[], object]) -> str:
    try:
        return textwrap.dedent(inspect.getsource(look)).strip()
    except (OSError, TypeError):  # a method of C, or a partial
        return repr(look)
