"""Make invisible and direction-changing characters visible. Pure.

``U+202E`` makes a reader see ``evil.exe`` where ``exe.live`` stands; control characters hide text in a terminal. In JSON the escape
means the same as the character, so that what is shown can still be copied.
"""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

_KEPT: Final = frozenset({0x09, 0x0A})
_UNSEEN: Final = (
    *(code for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in _KEPT),
    0x00AD,  # soft hyphen
    0x061C,  # Arabic letter mark
    *range(0x200B, 0x2010),  # without width, and the marks of a direction
    *range(0x2028, 0x202F),  # line and paragraph separators, embeddings and overrides
    *range(0x2060, 0x2065),
    *range(0x2066, 0x2070),  # isolates
    0xFEFF,
    *range(0xFFF9, 0xFFFC),
)
_JOINERS: Final = frozenset({0x200C, 0x200D})
"""Persian words and emoji need them, and they turn nothing round."""
_ALL_ESCAPES: Final = {code: f"\\u{code:04x}" for code in _UNSEEN}
_ESCAPES: Final = {code: escape for code, escape in _ALL_ESCAPES.items() if code not in _JOINERS}
_ESCAPES_IN_JSON: Final = {code: escape for code, escape in _ALL_ESCAPES.items() if code > 0x9F}


def visible(text: object) -> str:
    """A text without invisible characters other than line breaks, tabs and joiners. Safe markup is not changed."""
    if isinstance(text, Markup):
        return text
    written = str(text)
    # Almost every text is printable: then nothing is copied. What isprintable() leaves through, no table here names.
    return written if written.isprintable() else written.replace("\r\n", "\n").translate(_ESCAPES)


def visible_in_json(text: str) -> str:
    """JSON with the same meaning, in which no character in a string is invisible or turns text round.

    Control characters stay: JSON must not hold them, so each is a mistake to be shown at its place.
    """
    return text if text.isprintable() else text.translate(_ESCAPES_IN_JSON)
