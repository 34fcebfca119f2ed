"""Compares JSON texts by what they mean to a reader: escapes are decoded, and each letter has one spelling. Pure."""

from __future__ import annotations

import io
import re
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

_ESCAPE: Final = re.compile(r"""\\(?:u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|(["\\/bfnrt]))""")
# A run of characters that stand for themselves; or one that may be composed with its neighbours.
_RUN: Final = re.compile(rf"(?P<plain>[\x00-\x5b\x5d-\x7f]+)|(?P<escape>{_ESCAPE.pattern})|(?P<other>[\\]|[^\x00-\x7f])")
_JAMO: Final = re.compile("[\u1160-\u11ff]")
_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_UNPAIRED: Final = "\N{REPLACEMENT CHARACTER}"


def unescaped(text: str) -> str:
    """The text with each JSON escape replaced by its character, anywhere. Everything else is unchanged."""
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def folded(text: str) -> str:
    """The form in which texts are compared: full case folding, then NFC. ``ß`` is ``ss``; a final sigma is a sigma."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())


def _character(match: re.Match[str]) -> str:
    unit, low, short = match.groups()
    if short:
        return _SHORT.get(short, short)
    code = int(unit, 16)
    is_high = 0xD800 <= code < 0xDC00
    if low and is_high:
        return chr(0x10000 + ((code - 0xD800) << 10) + (int(low, 16) - 0xDC00))
    first = _UNPAIRED if 0xD800 <= code < 0xE000 else chr(code)
    return first + (_UNPAIRED if low else "")


def places(text: str, wanted: str) -> Iterator[tuple[int, int]]:
    r"""Where a text means ``wanted``, as starts and ends in the original text: ``M\u00fcller`` means ``müller``."""
    needle = folded(wanted)
    if not needle:
        return
    decoded = _DecodedText(text)
    found = decoded.text.find(needle)
    while found >= 0:
        behind = found + len(needle)
        yield decoded.start(found), decoded.end(behind - 1)
        found = decoded.text.find(needle, behind)


class _DecodedText:
    """A text decoded and folded, and where its characters come from.

    A body may have megabytes, so its characters are not listed one by one: a run of plain ASCII is one piece.
    """

    def __init__(self, text: str) -> None:
        self._at, self._starts, self._ends, self._plain = array("I"), array("I"), array("I"), bytearray()
        """For each piece: where it begins in the decoded text, its place in the original, and whether it is plain ASCII."""
        if text.isascii() and "\\" not in text:
            self.text = text.lower()
            self._add(0, 0, len(text), is_plain=True)
            return
        decoded, length = io.StringIO(), 0
        for letter, start, end in _letters(text):
            part = folded(letter)
            self._add(length, start, end, is_plain=letter.isascii() and len(letter) == end - start)
            length += decoded.write(part)
        self.text = decoded.getvalue()

    def _add(self, at: int, start: int, end: int, *, is_plain: bool) -> None:
        self._at.append(at)
        self._starts.append(start)
        self._ends.append(end)
        self._plain.append(is_plain)

    def start(self, place: int) -> int:
        """Where the character at a place of the decoded text begins in the original."""
        piece = bisect_right(self._at, place) - 1
        return self._starts[piece] + (place - self._at[piece] if self._plain[piece] else 0)

    def end(self, place: int) -> int:
        """Where it ends."""
        piece = bisect_right(self._at, place) - 1
        return self._starts[piece] + place - self._at[piece] + 1 if self._plain[piece] else self._ends[piece]


def _letters(text: str) -> Iterator[tuple[str, int, int]]:
    """Each letter, decoded, with everything composed with it, and its position. A run of plain ASCII is one piece."""
    letter, first, last = "", 0, 0
    for match in _RUN.finditer(text):
        meant = unescaped(match[0]) if match["escape"] else match[0]
        if letter and (unicodedata.combining(meant[0]) or _JAMO.match(meant)):
            letter, last = letter + meant, match.end()
            continue
        if letter:
            yield letter, first, last
        letter, first, last = meant, match.start(), match.end()
        if len(meant) > 1 and match["plain"]:
            # The following characters may be composed with the last one.
            yield meant[:-1], first, last - 1
            letter, first = meant[-1], last - 1
    if letter:
        yield letter, first, last
