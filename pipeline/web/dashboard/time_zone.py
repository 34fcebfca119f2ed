"""The reader's time zone, stored in a cookie for a year. All times on the pages of a request are shown in that zone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

ZONE_COOKIE: Final = "oms_webhooks_time_zone"
DEFAULT: Final = "UTC"
_MOST: Final = 64
_zone: ContextVar[tzinfo] = ContextVar("time zone of the reader", default=UTC)


def local(time: datetime) -> datetime:
    """A time in the reader's zone."""
    return time.astimezone(_zone.get())


def from_local(time: datetime) -> datetime:
    """A time in UTC, from a time without an offset in the reader's zone."""
    return time.replace(tzinfo=_zone.get()).astimezone(UTC)


@contextmanager
def read_in(name: str | None) -> Iterator[None]:
    """Show times in a zone, by its name. Unknown zones mean UTC."""
    token = _zone.set(zone_of(name) or UTC)
    try:
        yield
    finally:
        _zone.reset(token)


def zone_of(name: str | None) -> tzinfo | None:
    """A zone by its name (``Europe/Berlin``), or None. Only listed names are looked up, because zones are files."""
    if not name or len(name) > _MOST or name not in zone_names():
        return None
    return UTC if name == DEFAULT else ZoneInfo(name)


@cache
def zone_names() -> frozenset[str]:
    """The names of all zones that this machine knows."""
    return frozenset({*available_timezones(), DEFAULT})


def chosen_zone(request: web.Request) -> str | None:
    """The browser's chosen zone. None if there is none, or if it is no longer known."""
    name = request.cookies.get(ZONE_COOKIE)
    return name if zone_of(name) is not None else None


def in_time_zone() -> Middleware:
    """A middleware that makes pages show times in the reader's zone."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        with read_in(chosen_zone(request)):
            return await handler(request)

    return middleware
