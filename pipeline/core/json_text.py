"""What a JSON text says to a reader: escapes undone, in one spelling of each letter. Pure."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_ESCAPE: Final = re.compile(r"""\\(?:u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|(["\\/bfnrt]))""")
_SHORT: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_UNPAIRED: Final = "\N{REPLACEMENT CHARACTER}"


def unescaped(text: str) -> str:
    """The text with each JSON escape replaced by its character, wherever it stands; what is no escape stays as it is."""
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
