"""New attempts as server-sent events. The API and the dashboard share the stream; format and access differ."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from pipeline.core.search import AttemptQuery
from pipeline.store.search.queries import AttemptPage, AttemptRow
from pipeline.web.compression import EVENT_STREAM
from pipeline.web.search_errors import searching
from pipeline.web.services import Api

HEARTBEAT_SECONDS: Final = 10.0
"""The longest pause between writes: it keeps proxies from closing the stream, and the listener's access is checked again."""


@dataclass(frozen=True, slots=True)
class StreamForm:
    """The texts of a stream, and who may listen. ``rows`` formats attempts, oldest first. ``over`` is sent when access has ended.

    ``may_listen`` is called for every event and every few seconds, because a key may be revoked or a session may end.
    """

    rows: Callable[[Sequence[AttemptRow]], str]
    problem: Callable[[str], str]
    may_listen: Callable[[], bool]
    over: str
    heartbeat_seconds: float = HEARTBEAT_SECONDS


def wants_events(request: web.Request) -> bool:
    """Whether the request asks for a stream."""
    return request.method == "GET" and EVENT_STREAM in request.headers.get("Accept", "")


async def search_attempts(api: Api, query: AttemptQuery) -> AttemptPage:
    async with searching(api):
        return await api.search.attempts(query)


async def stream_attempts(api: Api, request: web.Request, query: AttemptQuery, form: StreamForm) -> web.StreamResponse:
    """Stream the attempts of a search as they are recorded, until the client leaves, loses access, or the process stops.

    Raises:
        ApiError: 503, there are too many listeners.
    """

    async def find(one: AttemptQuery) -> AttemptPage:
        return await search_attempts(api, one)

    async with api.streams.listen(query, find, api.clock) as listener:
        response = web.StreamResponse(headers={"Content-Type": f"{EVENT_STREAM}; charset=utf-8", "X-Accel-Buffering": "no"})
        await response.prepare(request)
        await response.write(b"retry: 3000\n\n: here\n\n")
        while form.may_listen():
            try:
                async with asyncio.timeout(form.heartbeat_seconds):
                    message = await listener.get()
            except TimeoutError:
                await response.write(b": still here\n\n")
                continue
            if message.is_over or not form.may_listen():
                break
            await response.write(
                _event("problem", form.problem(message.problem))
                if message.problem
                else _event("attempts", form.rows(message.attempts))
            )
        else:
            await response.write(_event("over", form.over))
        return response


def _event(name: str, data: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in data.splitlines() if line.strip())
    return f"event: {name}\n{lines}\n".encode()
