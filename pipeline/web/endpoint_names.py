"""The displayed name of an endpoint: its description, or else the host of its URL. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

_MOST: Final = 60


def endpoint_name(description: str, target_url: str) -> str:
    """The first line of the description, cut at a word. Without a description, the host of the URL."""
    line = next((text for one in description.splitlines() if (text := " ".join(one.split()))), "")
    if not line:
        return _host(target_url)
    if len(line) <= _MOST:
        return line
    kept = line[:_MOST]
    return (kept[: kept.rfind(" ")] if " " in kept[20:] else kept).rstrip(" ,;:.") + "\N{HORIZONTAL ELLIPSIS}"


def _host(target_url: str) -> str:
    try:
        return urlsplit(target_url).netloc.rpartition("@")[2] or target_url
    except ValueError:  # an invalid URL in an old record, such as half an IPv6 address
        return target_url
