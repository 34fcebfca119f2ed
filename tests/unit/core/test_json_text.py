"""The text of JSON strings."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.json_text import folded, places, unescaped
from tests.json_encoders import ALL_ENCODERS


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (r"M\u00fcller M\u00DCLLER", "Müller MÜLLER"),
        (r"a\/b \"q\" \\ \n\t\b\f\r", 'a/b "q" \\ \n\t\b\f\r'),
        (r"\ud83d\ude00 \uD83D\uDE00", "😀 😀"),
        (r"\\u00fc \\\u00fc", r"\u00fc \ü"),
        (r"half \ud83d, \ude00, \ud83d\ud83d\ude00, \u0041\ude00", "half \ufffd, \ufffd, \ufffd😀, A\ufffd"),
        (r"no escapes: \q \u12 \u12g4 C:\users" + "\\", r"no escapes: \q \u12 \u12g4 C:\users" + "\\"),
        ("", ""),
    ],
)
def test_escapes_are_decoded(text: str, meant: str) -> None:
    assert unescaped(text) == meant


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(sorted(ALL_ENCODERS)))
def test_strings_of_every_encoder_are_decoded(text: str, name: str) -> None:
    encoded = ALL_ENCODERS[name](text)
    assert json.loads(encoded) == text
    assert unescaped(encoded[1:-1]) == text


def test_letters_are_normalized() -> None:
    assert folded("ΟΔΟΣ Straße E\u0301 ABC") == "οδοσ strasse é abc"
    assert folded("R123") == "r123"


@pytest.mark.parametrize(
    ("text", "wanted", "found"),
    [
        (r'{"a":"M\u00fcller"}', "MÜLLER", [r"M\u00fcller"]),
        (r'{"a":"Mu\u0308ller und Müller"}', "müller", [r"Mu\u0308ller", "Müller"]),
        (r"Stra\u00dfe, STRASSE", "straße", [r"Stra\u00dfe", "STRASSE"]),
        (r"a\/b \ud83d\ude00 c", "B 😀", [r"b \ud83d\ude00"]),
        ("plain R123 r123", "R123", ["R123", "r123"]),
        ("ΟΔΟΣΗΜΑ", "οδος", ["ΟΔΟΣ"]),
        ("\u1112\u1161\u11ab\u1100\u116e\u11a8", "한국", ["\u1112\u1161\u11ab\u1100\u116e\u11a8"]),
        ("abc", "", []),
        ("abc", "d", []),
    ],
)
def test_decoded_text_is_found_in_any_spelling(text: str, wanted: str, found: list[str]) -> None:
    assert [text[start:end] for start, end in places(text, wanted)] == found


def test_a_letter_after_ascii_is_composed_with_its_combining_mark() -> None:
    assert list(places("abcu\u0308x", "c\u00fcx")) == [(2, 6)]
    assert list(places(r"abcu\u0308x", "c\u00fcx")) == [(2, 11)]
    assert list(places("abcu\u0308x", "cu")) == []


@pytest.mark.parametrize("end", ["Ada", r"\u00fcAda"])
def test_a_large_text_takes_little_memory(end: str) -> None:
    text = "x" * 2_000_000 + end
    tracemalloc.start()
    try:
        found = list(places(text, "ada"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [text[first:last] for first, last in found] == ["Ada"]
    assert peak < 16 * 1024**2
