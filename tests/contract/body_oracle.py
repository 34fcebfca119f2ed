# ruff: noqa: RUF001 - look-alike letters are the point here
"""What a text search in bodies must find: each body is parsed as JSON and searched, without the product's code.

A body contains a needle if one of its strings or keys does, ignoring case and Unicode composition, or if its bytes contain the
needle as typed, ignoring case. Needles with quotes or backslashes may find more or fewer bodies; the test says what else they
must find.
"""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

from tests.json_encoders import ALL_ENCODERS

TEXTS: Final = (
    *("Müller", "MÜLLER", "Jürgen & Söhne", "Marks & Spencer", "M&S <b>bold</b>", "ΟΔΟΣ", "ΟΔΟΣΗΜΑ", "οδος Αθηνών", "Ὀδυσσεύς"),
    *(
        "Straße 5",
        "STRASSE 5",
        "Maße",
        "İstanbul",
        "Iğdır",
        "ısparta",
        "Łódź",
        "ŁÓDŹ",
        "Ærø",
        "ﬁne",
        "Ǆungla",
        "ΐ",
        "Åse",
        "\u212bse",
    ),
    *(
        "café noir",
        "cafe\u0301 noir",
        "Zoe\u0308",
        "Zoë",
        "한국어",
        unicodedata.normalize("NFD", "한국어"),
        "日本語の本",
        "東京都",
        "مرحبا",
        "नमस्ते",
    ),
    *(
        "😀 smile",
        "👩\u200d👩\u200d👧",
        "🇩🇪",
        "𝒳 script",
        "𠮷野家",
        "1/2 inch",
        "https://shop.example/a?b=1&c=2",
        "and/or",
        "</script>",
    ),
    *(
        'say "hi"',
        '12" pizza',
        "C:\\new\\table",
        "\\u00fc",
        "a\\\\b",
        "tab\there",
        "line\nbreak",
        "cr\r\nlf",
        "bell\x07",
        "\x7fdel",
        "nul\x00x",
    ),
    *(
        "it's = 5 > 3",
        "100% off",
        "a_b",
        "x\u2028y",
        "soft\u00adhyphen",
        "no\u00a0break",
        "R123456789",
        "ada@shop.example",
        "u00fc",
        "plain text",
    ),
)
KEYS: Final = ("name", "email", "city", "größe", "note/extra", "Ο ΚΩΔΙΚΟΣ", "a&b", "tracking_url")
CURATED: Final = (
    *(
        "Müller",
        "müLLER",
        "MU\u0308LLER",
        "Marks & Spencer",
        "& s",
        "ΟΔΟΣ",
        "οδοσ",
        "οδος",
        "ΟΔΟΣΗΜΑ",
        "οδυσσεύς",
        "STRASSE",
        "straße",
        "MASSE",
    ),
    *(
        "İstanbul",
        "i\u0307stanbul",
        "istanbul",
        "ıspart",
        "łódź",
        "FINE",
        "ǆungla",
        "åse",
        "ÅSE",
        "café",
        "CAFE\u0301",
        "cafe",
        "zoë",
        "한국어",
        "국어",
    ),
    *(
        "日本語",
        "東京",
        "مرحبا",
        "नमस्ते",
        "😀 smile",
        "😀",
        "👩\u200d👩",
        "🇩🇪",
        "𠮷野",
        "1/2",
        "shop.example/a?b=1&c",
        "AND/OR",
        "</script>",
        "it's = 5",
    ),
    *(
        "tab\there",
        "line\nbreak",
        "\r\nlf",
        "bell\x07",
        "nul\x00x",
        "100% o",
        "a_b",
        "x\u2028y",
        "R123456789",
        "r12345",
        "u00fc",
        "00fcller",
        "nowhere",
    ),
    *("größe", "ΚΩΔΙΚΌΣ", "κωδικοσ", "note/ex", "a&b", "ö", "é", "ς", "ß", "/", "&"),
)


def bodies(count: int, seed: int = 1) -> list[str]:
    """Return bodies with random texts, using the encoders in turn."""
    chance = random.Random(seed)
    encoders = list(ALL_ENCODERS.values())
    return [encoders[number % len(encoders)](_document(chance, number)) for number in range(count)]


def _document(chance: random.Random, number: int) -> dict[str, Any]:
    said = [_text(chance) for _ in range(chance.randint(1, 5))]
    names = chance.sample(KEYS, chance.randint(1, 4))
    data = {name: chance.choice((said, said[0], {"deep": said[-1]}, None, 1.5, True)) for name in names}
    return {"id": f"evt_{number}", "event_name": "order_completed", "data": {"text": said[0], **data}}


def _text(chance: random.Random) -> str:
    parts = chance.choices(TEXTS, k=chance.choice((1, 1, 1, 2)))
    return chance.choice((" ", "", "-")).join(parts)


def needles(texts: list[str], count: int, seed: int = 2) -> list[str]:
    """Return texts to search for: parts of strings, in another case or spelling; parts of bytes; and a few chosen by hand."""
    chance = random.Random(seed)
    found = dict.fromkeys(CURATED)
    while len(found) < count:
        body = chance.choice(texts)
        source = body if chance.random() < 0.25 else chance.choice(list(strings(json.loads(body))))
        start = chance.randrange(len(source))
        piece = source[start : start + chance.randint(3, 16)]
        form = chance.choice(("NFC", "NFD", "", ""))
        piece = unicodedata.normalize(form, piece) if form else piece  # type: ignore[arg-type]  # a member of the tuple above
        piece = chance.choice((str, str.upper, str.lower, str.casefold))(piece).strip()
        # Nobody types a combining mark alone, and a surrogate is not a character.
        if piece and not unicodedata.combining(piece[0]) and "\\" not in piece and '"' not in piece:
            found[piece] = None
    return list(found)[:count]


class Oracle:
    """Finds the bodies that contain a needle without quotes and backslashes."""

    def __init__(self, texts: list[str]) -> None:
        # No needle contains the separator.
        self._said = ["\uffff".join(map(_compared, strings(json.loads(text)))) for text in texts]
        self._lower = [text.lower() for text in texts]

    def finds(self, needle: str) -> list[int]:
        """Return the numbers of the bodies."""
        wanted, literal = _compared(needle), needle.lower()
        return [number for number, said in enumerate(self._said) if wanted in said or literal in self._lower[number]]


def strings(value: Any) -> Iterator[str]:
    """Return all strings of a document, keys and values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def _compared(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
