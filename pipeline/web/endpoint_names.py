"""The names of endpoints, the same on all pages and in the terminal, and how long texts are shortened. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the command line does not load it
    from pipeline.endpoints.endpoint import Endpoint

_MAX_NAME: Final = 60
_MAX_URL: Final = 48
_ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True, slots=True)
class EndpointName:
    """An endpoint's name and full URL. ``is_url``: it has no description, and the name is its shortened URL."""

    id: int
    name: str
    target_url: str
    is_url: bool


def endpoint_name(description: str, target_url: str) -> str:
    """The first line of the description or, without one, the URL without its scheme. Both are shortened."""
    line = next((" ".join(one.split()) for one in description.splitlines() if one.strip()), "")
    return end_shortened(line) or without_scheme(target_url)


def named(endpoint_id: int, description: str, target_url: str) -> EndpointName:
    """The name of an endpoint, with the URL that it may be."""
    return EndpointName(endpoint_id, endpoint_name(description, target_url), target_url, is_url=not description.strip())


def name_of(endpoint: Endpoint) -> EndpointName:
    """The name of a registered endpoint."""
    return named(endpoint.id, endpoint.record.description, endpoint.target_url)


def endpoint_names(endpoints: Iterable[Endpoint]) -> Mapping[int, EndpointName]:
    """The names of endpoints, by id."""
    return {one.id: name_of(one) for one in endpoints}


def end_shortened(text: str, most: int = _MAX_NAME) -> str:
    """The text, shortened to ``most`` characters at the end. Unless the last word is very long, the text ends with a whole word."""
    if len(text) <= most:
        return text
    word_end = text.rfind(" ", most // 3, most)
    return text[: word_end if word_end > 0 else most - 1].rstrip(" ,;:.") + _ELLIPSIS


def middle(text: str, most: int = _MAX_URL) -> str:
    """The text, shortened to ``most`` characters in the middle, because URLs differ at both ends."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return text[: most - 1 - end] + _ELLIPSIS + text[-end:]


def without_scheme(url: str, most: int = _MAX_URL) -> str:
    """A URL without its scheme, for places where it is clear that it is a URL."""
    return middle(url.partition("://")[2] or url, most)
