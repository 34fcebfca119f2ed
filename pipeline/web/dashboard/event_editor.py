"""Finds the problems in the text of an event, and their places, to help repair it. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.web.dashboard.json_format import JSON_TOKEN
from schemas.codec import InvalidRecordError

_MAX_PLACED: Final = 500_000
"""Characters. In longer texts, problems have no place."""
_MAX_PROBLEMS: Final = 20
_BESIDE: Final = 60
"""Characters of the line to show before and after a place."""
_PLAIN: Final = (
    ("Expecting property name", "Expected a name in double quotes. Is there an extra comma before it?"),
    ("Expecting ',' delimiter", "Expected a comma, or the end of the list or object."),
    ("Expecting ':' delimiter", "Expected a colon between the name and its value."),
    ("Expecting value", "Expected a value: text in double quotes, a number, true, false, null, { or [."),
    ("Illegal trailing comma", "There is an extra comma here."),
    ("Extra data", "There is extra text after the end of the event."),
    ("Unterminated string", "The text that starts here has no closing double quote."),
    ("Invalid control character", "There is a line break or tab inside the text here. Write \\n or \\t instead."),
    ("Invalid \\", "There is an invalid escape here. For a backslash, write two."),
)


@dataclass(frozen=True, slots=True)
class TextProblem:
    """A problem in a sentence. ``line`` and ``column`` (from 1) say where; None if it has no place.

    ``before``, ``at`` and ``after`` are the line's text around the place; ``start`` and ``end`` are the place in the whole text,
    counted as browsers do: an emoji counts as two.
    """

    sentence: str
    line: int | None = None
    column: int | None = None
    before: str = ""
    at: str = ""
    after: str = ""
    start: int = 0
    end: int = 0


def event_problems(text: str, check: Callable[[bytes], object]) -> tuple[TextProblem, ...]:
    """The problems of a text. Empty if it is a valid event. ``check`` raises InvalidRecordError for a value that is not one."""
    try:
        check(text.encode("utf-8", "replace"))
    except InvalidRecordError as error:
        if (broken := _broken_json(text)) is not None:
            return (broken,)
        if not error.problems or len(text) > _MAX_PLACED:
            return (TextProblem(str(error)),)
        places = member_places(text)
        return tuple(_of_member(text, where, what, places) for where, what in error.problems[:_MAX_PROBLEMS])
    return ()


def _broken_json(text: str) -> TextProblem | None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return _at(text, error.pos, _plain(error.msg))
    except (ValueError, RecursionError):
        pass  # Python cannot represent it, but it may be valid JSON
    return None


def member_places(text: str) -> Mapping[str, tuple[int, int]]:
    """The position of each member of a JSON text (``data.line_items.0.price``): its name, or the start of a list item."""
    places: dict[str, tuple[int, int]] = {}
    stack: list[_Open] = []
    for token in JSON_TOKEN.finditer(text):
        found, top = token[0], stack[-1] if stack else None
        if found in ("}", "]"):
            if stack:
                stack.pop()
        elif found == ",":
            if top is not None:
                top.next()
        elif found == ":":
            continue
        elif top is not None and top.wants_name and found.startswith('"'):
            top.name = str(json.loads(found, strict=False))
            places[top.path] = token.span()
        else:
            path = top.path if top is not None else ""
            places.setdefault(path, token.span())
            if found in ("{", "["):
                stack.append(_Open(path, is_list=found == "["))
    return places


@dataclass(slots=True)
class _Open:
    """An object or list that is still open, and the current member."""

    where: str
    is_list: bool
    index: int = 0
    name: str | None = None

    @property
    def wants_name(self) -> bool:
        return not self.is_list and self.name is None

    @property
    def path(self) -> str:
        member = str(self.index) if self.is_list else self.name or ""
        return f"{self.where}.{member}" if self.where else member

    def next(self) -> None:
        self.index += 1
        self.name = None


def _of_member(text: str, where: str, what: str, places: Mapping[str, tuple[int, int]]) -> TextProblem:
    path, sentence = where, f"{where}: {what}." if where else f"{what}."
    while path and path not in places:  # a missing member is shown at its parent
        path = path.rpartition(".")[0]
    start, end = places.get(path, (0, 0))
    return _at(text, start, sentence, end)


def _at(text: str, start: int, sentence: str, end: int = 0) -> TextProblem:
    begin = text.rfind("\n", 0, start) + 1
    stop = text.find("\n", start)
    stop = len(text) if stop < 0 else stop
    end = min(max(end, start + 1), stop) if start < stop else start
    return TextProblem(
        sentence,
        line=text.count("\n", 0, start) + 1,
        column=start - begin + 1,
        before=text[max(begin, start - _BESIDE) : start],
        at=text[start:end],
        after=text[end : min(stop, end + _BESIDE)],
        start=_in_browsers(text, start),
        end=_in_browsers(text, end),
    )


def _in_browsers(text: str, place: int) -> int:
    """A place in UTF-16 code units."""
    return len(text[:place].encode("utf-16-le", "surrogatepass")) // 2


def _plain(message: str) -> str:
    return next((plain for begins, plain in _PLAIN if message.startswith(begins)), f"This is not JSON: {message}.")
