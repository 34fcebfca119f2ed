"""Normalizes an answer's bytes: lower case, no white space, and one level of escapes decoded at a time.

Each byte of a form is mapped to its place in the answer, so that what is found in a form can be removed from the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.entities import html5
from typing import Final

MAX_LEVELS: Final = 4
"""How many levels of nested escapes are decoded, such as JSON in a JSON string on an HTML page."""

_SPACE: Final = b" \t\r\n\x0b\x0c\x00"
"""What breaks and pads encoded text. NUL is the other half of ASCII in UTF-16."""
_LOWER: Final = bytes(range(256)).lower()
_SPACES: Final = re.compile(rb"[ \t\r\n\x0b\x0c\x00]+")

_ENTITIES: Final = {
    name[:-1].lower().encode(): value.encode().lower()
    for name, value in html5.items()
    if name.endswith(";") and len(value) == 1 and value.isascii()
}
_ESCAPE: Final = re.compile(
    rb"""\\u(?P<unit>[0-9a-f]{4}) | \\u\{(?P<point>[0-9a-f]{1,6})\} | \\x(?P<hex>[0-9a-f]{2}) | %(?P<percent>[0-9a-f]{2})
    | &\#(?P<decimal>[0-9]{1,10});? | &\#x(?P<hexadecimal>[0-9a-f]{1,10});? | &(?P<name>[a-z]{2,20});
    | \\(?P<space>[nrtbfv]) | \\(?P<plain>.)""",
    re.VERBOSE | re.DOTALL,
)
_LAST_POINT: Final = 0x10FFFF
_CUT_ESCAPE: Final = re.compile(rb"(?:%[0-9a-f]?|\\(?:u[0-9a-f]{0,3}|u\{[0-9a-f]*|x[0-9a-f]?)?|&(?:\#?x?[0-9a-f]*|[a-z]*))\Z")
"""An incomplete escape at the end."""
_LONGEST_ESCAPE: Final = 24

# The digits of an ASCII letter or digit in hexadecimal, and in decimal.
_HEX: Final = rb"(?:3[0-9]|[46][1-9a-f]|[57][0-9a])"
_DECIMAL: Final = rb"(?:4[89]|5[0-7]|6[5-9]|[78][0-9]|9[0789]|1[01][0-9]|12[0-2])(?![0-9])"
_ODD: Final = (
    (b"%", re.compile(rb"%(?:25)*" + _HEX)),
    (b"&", re.compile(rb"&(?:amp;)*#(?:x0*" + _HEX + rb"(?![0-9a-f])|0*" + _DECIMAL + rb")")),
    (b"\\", re.compile(rb"\\(?:u00|u\{0*|x)" + _HEX)),
)
_BREAKS: Final = re.compile(rb"\\+[nrt]|%(?:25)*0[ad]|&(?:amp;)*#(?:x0*[ad]|0*1[03]);?")


@dataclass(frozen=True, slots=True)
class NormalizedText:
    """``text``, and where each of its bytes starts and ends in the answer."""

    text: bytes
    starts: list[int]
    ends: list[int]


def normalized(text: bytes) -> bytes:
    """In lower case and without white space. Non-ASCII bytes are unchanged, which keeps their lengths."""
    return text.translate(_LOWER, _SPACE)


def quick_scan(text: bytes) -> tuple[bytes, bool, bool]:
    """A cheap first look: ``text`` normalized and without escaped line breaks; whether it has escapes; whether it has odd ones.

    Odd escapes are those of letters and digits. Common encoders produce none, so letters and digits that are in any form of the
    text are usually in the normalized text, too.
    """
    quick = normalized(text)
    if b"%" not in quick and b"&" not in quick and b"\\" not in quick:  # nearly all answers
        return quick, False, False
    marked = [pattern for mark, pattern in _ODD if mark in quick]
    return _BREAKS.sub(b"", quick), True, any(pattern.search(quick) for pattern in marked)


def normalized_texts(text: bytes) -> Iterator[bytes]:
    """Only the texts of :func:`normalized_forms`, at a third of the cost, because the places are not tracked."""
    text = normalized(text)
    yield text
    for _ in range(MAX_LEVELS):
        before, text = text, _ESCAPE.sub(_unescaped, text).translate(None, _SPACE)
        if text == before:
            return
        yield text


def normalized_forms(text: bytes) -> Iterator[NormalizedText]:
    """Every form of ``text``: first as it is, then with one more level of escapes decoded each time, until there are none."""
    places = list(range(len(text) + 1))
    form = _replaced(NormalizedText(text.translate(_LOWER), places[:-1], places[1:]), _SPACES, lambda _: b"")
    yield form
    for _ in range(MAX_LEVELS):
        before, form = form, _replaced(_replaced(form, _ESCAPE, _unescaped), _SPACES, lambda _: b"")
        if form.text == before.text:
            return
        yield form


def truncated_forms(text: bytes) -> Iterator[NormalizedText]:
    """The forms of a text that was cut off, without an incomplete escape at its end."""
    for form in normalized_forms(text[: _end_of_whole_escapes(text.lower())]):
        end = _end_of_whole_escapes(form.text)
        yield (form if end == len(form.text) else NormalizedText(form.text[:end], form.starts[:end], form.ends[:end]))


def _end_of_whole_escapes(text: bytes) -> int:
    cut = _CUT_ESCAPE.search(text, max(0, len(text) - _LONGEST_ESCAPE))
    return len(text) if cut is None else cut.start()


def _replaced(
    form: NormalizedText, pattern: re.Pattern[bytes], replacement: Callable[[re.Match[bytes]], bytes]
) -> NormalizedText:
    text, at = form.text, 0
    pieces: list[bytes] = []
    starts: list[int] = []
    ends: list[int] = []
    for match in pattern.finditer(text):
        begin, end = match.span()
        piece = replacement(match)
        pieces += (text[at:begin], piece)
        starts += form.starts[at:begin]
        ends += form.ends[at:begin]
        starts += [form.starts[begin]] * len(piece)
        ends += [form.ends[end - 1]] * len(piece)
        at = end
    if not pieces:
        return form
    pieces.append(text[at:])
    return NormalizedText(b"".join(pieces), starts + form.starts[at:], ends + form.ends[at:])


def _unescaped(match: re.Match[bytes]) -> bytes:
    kind, digits = match.lastgroup, match[match.lastgroup or 0]
    match kind:  # the pattern's groups
        case "percent" | "hex":
            return bytes([int(digits, 16)]).lower()
        case "plain":
            return digits
        case "space":
            return b""
        case "name":
            return _ENTITIES.get(digits, match[0])
    point = int(digits, 10 if kind == "decimal" else 16)
    return match[0] if point > _LAST_POINT else chr(point).encode("utf-8", "surrogatepass").lower()
