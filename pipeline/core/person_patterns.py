r"""Finds an e-mail address or an order number in a text: its encodings, and where such a word begins and ends. Pure.

An address is found in upper and lower case, but not as a part of a longer one (``ada@x.example`` is not in ``grada@x.example``)
nor of another host (``ada@x.example.org``). Escapes of JSON and of URLs consist of letters and digits too, but they end a word,
unless they stand for a character of an address (``news\u002bada@x.example`` is ``news+ada@x.example``).
"""

from __future__ import annotations

import json
import re
from typing import Final
from urllib.parse import quote

# The code of an ASCII character that is neither a letter nor a digit, and none of "%+-._".
_CODE: Final = "(?:[01][0-9a-f]|2[0-46-9acf]|3[a-f]|40|5[b-e]|60|7[b-f])"
_NO_WORD_BEFORE: Final = rf"(?:^|[^\pL\pN._%+\-]|\\u(?:00{_CODE}|00a0|20[0-6][0-9a-f])|\\[nrtbf]|%{_CODE})"
_NO_WORD_BEHIND: Final = r"(?:$|[^\pL\pN._+\-]|[.\-](?:$|[^\pL\pN]))"


_ALSO_ESCAPED: Final = ("<>&", "<>&'=", "<>&'+`")
"""What encoders escape although JSON does not require it: Rails and Go; Gson; .NET."""


def encoded_forms(text: str) -> tuple[str, ...]:
    """How a text is written in JSON and in URLs, in lower case, without duplicates."""
    lower = text.lower()
    plain, escaped = (json.dumps(lower, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True))
    found = [lower, escaped, escaped.replace("@", "\\u0040"), quote(lower, safe="").lower()]
    for characters in _ALSO_ESCAPED:
        codes = {ord(one): f"\\u{ord(one):04x}" for one in characters}
        found += [plain.translate(codes), escaped.translate(codes)]
    return tuple(dict.fromkeys(found))


def whole_word_pattern(form: str) -> str:
    """A regular expression (RE2's) that finds a form in a lower-case text as a whole word."""
    return _NO_WORD_BEFORE + re.escape(form) + _NO_WORD_BEHIND
