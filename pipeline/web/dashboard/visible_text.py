"""Makes invisible and direction-changing characters visible. Pure.

After ``U+202E``, ``exe.live`` is displayed as ``evil.exe``; control characters hide text in a terminal. In JSON, an escape means
the same as the character, so the displayed text can still be copied.
"""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

_KEPT: Final = frozenset({0x09, 0x0A})
_UNSEEN: Final = (
    *(code for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in _KEPT),
    0x00AD,  # soft hyphen
    0x061C,  # Arabic letter mark
    *range(0x200B, 0x2010),  # zero-width characters, and direction marks
    *range(0x2028, 0x202F),  # line and paragraph separators, embeddings and overrides
    *range(0x2060, 0x2065),
    *range(0x2066, 0x2070),  # isolates
    0xFEFF,
    *range(0xFFF9, 0xFFFC),
)
_JOINERS: Final = frozenset({0x200C, 0x200D})
"""Persian words and emoji need them, and they do not change the direction."""
_ALL_ESCAPES: Final = {code: f"\\u{code:04x}" for code in _UNSEEN}
_ESCAPES: Final = {code: escape for code, escape in _ALL_ESCAPES.items() if code not in _JOINERS}
_ESCAPES_IN_JSON: Final = {code: escape for code, escape in _ALL_ESCAPES.items() if code > 0x9F}


def visible(text: object) -> str:
    """A text without invisible characters other than line breaks, tabs and joiners. Safe markup is not changed."""
    if isinstance(text, Markup):
        return text
    written = str(text)
    # Most texts are printable, and are returned without a copy. isprintable() is False for every character in the tables.
    return written if written.isprintable() else written.replace("\r\n", "\n").translate(_ESCAPES)


def visible_in_json(text: str) -> str:
    """JSON with the same meaning, without invisible or direction-changing characters in strings.

    Control characters stay: they are invalid in JSON, so each is reported at its place.
    """
    return text if text.isprintable() else text.translate(_ESCAPES_IN_JSON)
