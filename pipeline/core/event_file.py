"""Splits a file into events: one, a list, or one per line. Each keeps the bytes that would be published. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

_list: Final = msgspec.json.Decoder(list[msgspec.Raw])
_value: Final = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True)
class EventInFile:
    """An event, valid or not: the record's value, and the event's place in the file, in words ("line 3")."""

    place: str
    value: bytes


def events_in(content: bytes) -> Sequence[EventInFile]:
    """Split a file. A file that is not JSON at all is one event, so that the check can report it. An empty file has none."""
    content = content.strip()
    if not content:
        return []
    if content.startswith(b"["):
        return _of_list(content)
    lines = [(number, line.strip()) for number, line in enumerate(content.split(b"\n"), 1)]
    lines = [(number, line) for number, line in lines if line]
    if len(lines) > 1 and not _is_json(content) and _looks_like_lines([line for _, line in lines]):
        return [EventInFile(f"line {number}", line) for number, line in lines]
    return [EventInFile("", content)]


def _of_list(content: bytes) -> Sequence[EventInFile]:
    try:
        values = _list.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return [EventInFile("", content)]
    return [EventInFile(f"element {number}", bytes(value)) for number, value in enumerate(values, 1)]


def _looks_like_lines(lines: Sequence[bytes]) -> bool:
    """Whether this is one event per line, some perhaps broken, rather than one broken event on many lines."""
    return _is_json(lines[0]) or sum(line.startswith(b'{"') for line in lines) > len(lines) / 2


def _is_json(text: bytes) -> bool:
    try:
        _value.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
