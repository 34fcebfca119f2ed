"""What the command line says about an object that does not exist, and how to list those that do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote


@dataclass(frozen=True, slots=True)
class ListedKind:
    """A kind of object, and the command that lists its objects."""

    name: str
    command: str


_KINDS: Final = {
    "endpoints": ListedKind("endpoint", "oms-webhooks endpoints list"),
    "keys": ListedKind("API key", "oms-webhooks keys list"),
    "dead_letters": ListedKind("dead letter", "oms-webhooks dead-letters list"),
    "event_types": ListedKind("event type", "oms-webhooks event-types list"),
    "attempts": ListedKind("attempt", "oms-webhooks attempts"),
}
"""By the first part of the API's path."""


def missing_object(path: str) -> str | None:
    """The sentences about a path such as ``endpoints/99/verify`` that the API did not find. None if the path names no object."""
    folder, _, rest = path.partition("/")
    kind, identifier = _KINDS.get(folder), unquote(rest.partition("/")[0])
    if kind is None or not identifier:
        return None
    return f"There is no {kind.name} {identifier}. To list them, run: {kind.command}"
