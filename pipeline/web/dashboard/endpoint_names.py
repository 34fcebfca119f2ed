"""The names of endpoints on pages: their description, or else their URL. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.endpoints.endpoint import Endpoint

_MOST_NAME: Final = 60
_MOST_URL: Final = 48
_ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True, slots=True)
class EndpointName:
    """An endpoint's name and full URL. ``is_url``: it has no description, and the name is its shortened URL."""

    id: int
    name: str
    target_url: str
    is_url: bool = False


def endpoint_name(endpoint_id: int, description: str, target_url: str) -> EndpointName:
    """The name of an endpoint: the first line of its description or, without one, its shortened URL."""
    first = next((line.strip() for line in description.splitlines() if line.strip()), "")
    return EndpointName(endpoint_id, end_shortened(first) if first else without_scheme(target_url), target_url, is_url=not first)


def endpoint_names(endpoints: Iterable[Endpoint]) -> Mapping[int, EndpointName]:
    """The names of endpoints, by id."""
    return {one.id: endpoint_name(one.id, one.record.description, one.target_url) for one in endpoints}


def called(endpoint: Endpoint) -> str:
    """The heading of an endpoint: its name or, without one, its URL."""
    description, url = endpoint.record.description, endpoint.target_url
    return endpoint_name(endpoint.id, description, url).name if description.strip() else url


def end_shortened(text: str, most: int = _MOST_NAME) -> str:
    """The text, shortened to ``most`` characters at the end."""
    return text if len(text) <= most else text[: most - 1].rstrip() + _ELLIPSIS


def middle(text: str, most: int = _MOST_URL) -> str:
    """The text, shortened to ``most`` characters in the middle, because URLs differ at both ends."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return text[: most - 1 - end] + _ELLIPSIS + text[-end:]


def without_scheme(url: str, most: int = _MOST_URL) -> str:
    """A URL without its scheme, for places where it is clear that it is a URL."""
    return middle(url.partition("://")[2] or url, most)
