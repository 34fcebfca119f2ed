"""Invisible characters are written as visible escapes."""

from __future__ import annotations

import json

import pytest
from markupsafe import Markup

from pipeline.web.dashboard.visible_text import visible

UNSEEN = [
    0x00,
    0x07,
    0x0D,
    0x1B,
    0x7F,
    0x85,
    0x9F,
    0x200B,
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
]


@pytest.mark.parametrize("code", UNSEEN, ids=hex)
def test_invisible_characters_are_written_as_equivalent_escapes(code: int) -> None:
    shown = visible(f"a{chr(code)}b")
    assert shown == f"a\\u{code:04x}b"
    assert json.loads(f'"{shown}"') == f"a{chr(code)}b"


@pytest.mark.parametrize(
    "text", ["", "Grüße, שלום, 你好 👋 “x”", "می\u200cرود 👩\u200d💻", "two\nlines\tand a tab", "C:\\new\\u202e"]
)
def test_visible_characters_are_unchanged(text: str) -> None:
    assert visible(text) == text


def test_numbers_and_markup() -> None:
    assert (visible(503), visible("a\r\nb"), visible(Markup("<b>\u202e</b>"))) == ("503", "a\nb", Markup("<b>\u202e</b>"))
