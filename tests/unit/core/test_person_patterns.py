from __future__ import annotations

import pytest

from pipeline.core.person_patterns import encoded_forms


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("R758805215", ("r758805215",)),
        ("Ada@Shop.example", ("ada@shop.example", "ada\\u0040shop.example", "ada%40shop.example")),
        ("a+b@x.example", ("a+b@x.example", "a+b\\u0040x.example", "a%2bb%40x.example", "a\\u002bb@x.example")),
        ("o'b@x.example", ("o'b@x.example", "o'b\\u0040x.example", "o%27b%40x.example", "o\\u0027b@x.example")),
        ("ü@x.example", ("ü@x.example", "\\u00fc@x.example", "\\u00fc\\u0040x.example", "%c3%bc%40x.example")),
        ('a"b', ('a"b', 'a\\"b', "a%22b")),
    ],
)
def test_the_forms_of_a_text(text: str, written: tuple[str, ...]) -> None:
    assert encoded_forms(text) == written
