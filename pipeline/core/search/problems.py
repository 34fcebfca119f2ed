"""What a search ignores or refuses, always with a reason for people."""

from __future__ import annotations

from typing import Final

MAX_NOTES: Final = 50


class SearchLimitError(ValueError):
    """A search exceeds a limit, or its cursor is invalid; ``str(error)`` says which and what to do. Answered with 422."""


class NotUsableError(ValueError):
    """A part of a search that cannot be used; the text says why. It is ignored and reported::

    NotUsableError
     +-- NeverHoldsError         it is understood, but no attempt can match it
    """


class NeverHoldsError(NotUsableError):
    """A condition with a known attribute and predicate that can hold for no attempt. It is reported, and matches nothing."""


class SearchNotes:
    """What was ignored, in order: the first notes, and how many more there are."""

    def __init__(self) -> None:
        self._notes: list[str] = []
        self._more = 0
        self._blank: dict[str, None] = {}

    def add(self, name: str, reason: object) -> None:
        """Report a part of the search, by its name as it was typed."""
        if len(self._notes) < MAX_NOTES:
            self._notes.append(f"{shown(name)}: {reason}")
        else:
            self._more += 1

    def add_blank(self, name: str) -> None:
        """Report a key without a value."""
        if len(self._blank) < MAX_NOTES:
            self._blank[shown(name)] = None

    def blank(self) -> tuple[str, ...]:
        """The keys without a value, as they were typed, without duplicates."""
        return tuple(self._blank)

    def all(self) -> tuple[str, ...]:
        more = (f"and {self._more} more were left out",) if self._more else ()
        return (*self._notes, *more)


def shown(text: str) -> str:
    """Text that a person typed, short and printable, for a note."""
    return repr(text[:60])[1:-1].encode("utf-8", "replace").decode()
