"""Names of endpoints, and how long texts are shortened."""

from __future__ import annotations

import pytest

from pipeline.web.endpoint_names import end_shortened, endpoint_name, middle, named, without_scheme


def test_the_description_is_the_name() -> None:
    url = "https://erp.example.com/h"
    assert endpoint_name(" \n The  ERP, which keeps the books \nAsk Ada", url) == "The ERP, which keeps the books"
    assert endpoint_name("x" * 1000, url) == "x" * 59 + "…"
    long = endpoint_name("A description of an endpoint that nobody would ever call by all of these words", url)
    assert (long, len(long)) == ("A description of an endpoint that nobody would ever call by…", 60)


def test_without_a_description_the_name_is_the_url_without_its_scheme() -> None:
    assert endpoint_name("", "https://erp.example.com:8443/hooks") == "erp.example.com:8443/hooks"
    assert endpoint_name("", "https://[half") == "[half"
    assert endpoint_name("", "") == ""
    assert [named(7, text, "https://x").is_url for text in ("", " \n", "ERP")] == [True, True, False]
    assert len(endpoint_name(" ", "https://erp.example.com/" + "a" * 2000)) == 48


@pytest.mark.parametrize("length", range(9, 40))
def test_long_names_are_shortened_in_the_middle(length: int) -> None:
    text = "https://example.com/hooks/of/7"
    short = middle(text, length)
    assert len(short) == min(length, len(text))
    assert (short[:4], short[-3:]) == ("http", "f/7")


def test_short_texts_are_unchanged() -> None:
    assert (end_shortened("ERP"), middle("a"), without_scheme("no scheme")) == ("ERP", "a", "no scheme")


@pytest.mark.parametrize(
    ("text", "most", "short"),
    [
        ("Orders of the north", 12, "Orders of…"),
        ("Orders, returns", 8, "Orders…"),
        ("Orders returns", 7, "Orders…"),
        ("A " + "b" * 30, 12, "A bbbbbbbbb…"),
    ],
)
def test_shortened_texts_end_with_a_whole_word(text: str, most: int, short: str) -> None:
    assert end_shortened(text, most) == short
